"""Run the same operation on many functions. A failure does not stop the others."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Generic, TypeVar

import click
from click.globals import pop_context, push_context

from fnbuild.cli.console import note, print_error
from fnbuild.errors import FnbuildError, InputError

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class BatchResult(Generic[Result]):
    """The outcome for one item: a `result`, or an `error` that was already reported."""

    result: Result | None
    error: FnbuildError | None
    seconds: float

    @property
    def failure(self) -> str:
        """The message of the error; "" on success."""
        return self.error.message if self.error is not None else ""


def run_batch(
    items: Sequence[Item],
    work: Callable[[Item], Result],
    concurrency: int = 1,
    pause_progress: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> list[BatchResult[Result]]:
    """Return the results in the order of the items.

    Errors are reported as they occur, inside `pause_progress`.
    """
    reporting = Lock()
    context = click.get_current_context(silent=True)

    def run_in_context(item: Item) -> BatchResult[Result]:
        if context is None:
            return run(item)
        push_context(context)
        try:
            return run(item)
        finally:
            pop_context()

    def run(item: Item) -> BatchResult[Result]:
        began = time.monotonic()
        try:
            result = work(item)
        except FnbuildError as error:
            with reporting, pause_progress():
                print_error(error)
            return BatchResult(None, error, time.monotonic() - began)
        return BatchResult(result, None, time.monotonic() - began)

    if concurrency == 1:
        # Without a thread, an interrupt reaches the running operation.
        return [run(item) for item in items]
    with ThreadPoolExecutor(concurrency) as pool:
        try:
            return list(pool.map(run_in_context, items))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def finish_batch(ctx: click.Context, failures: Mapping[str, str], flags: Mapping[str, Any]) -> None:
    """Write the report that the flags ask for, as nuctl does, and exit with 1 if an item failed.

    `failures` maps each function to its error, "" for success.
    """
    failed = {name: failure for name, failure in sorted(failures.items()) if failure}
    if flags["save_report"]:
        report: Path = flags["report_file_path"]
        succeeded = sorted(name for name in failures if name not in failed)
        text = json.dumps({"success": succeeded, "failed": failed}, indent=2) + "\n"
        try:
            report.write_text(text)
        except OSError as error:
            raise InputError(f"cannot write {report}: {error.strerror}") from None
        note(f"report written to {report}")
    if failed:
        ctx.exit(1)
