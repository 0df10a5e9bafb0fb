"""Doing the same with many functions: one that fails does not stop the others."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Generic, TypeVar

import click

from fnbuild.cli.console import note, print_error
from fnbuild.errors import FnbuildError, InputError

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class BatchResult(Generic[Result]):
    """What came of one: a `result`, or an `error`, which was told already."""

    result: Result | None
    error: FnbuildError | None
    seconds: float

    @property
    def failure(self) -> str:
        """Why it failed; "" when it did not."""
        return self.error.message if self.error is not None else ""


def run_batch(
    items: Sequence[Item],
    work: Callable[[Item], Result],
    at_once: int = 1,
    aside: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> list[BatchResult[Result]]:
    """The outcomes in the order of the items. Errors are told as they happen, each in one piece,
    `aside` from what moves on the terminal meanwhile.
    """
    telling = Lock()

    def one(item: Item) -> BatchResult[Result]:
        began = time.monotonic()
        try:
            result = work(item)
        except FnbuildError as error:
            with telling, aside():
                print_error(error)
            return BatchResult(None, error, time.monotonic() - began)
        return BatchResult(result, None, time.monotonic() - began)

    if at_once == 1:
        # An interrupt reaches the one that is under way.
        return [one(item) for item in items]
    with ThreadPoolExecutor(at_once) as pool:
        try:
            return list(pool.map(one, items))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def finish_batch(ctx: click.Context, failures: Mapping[str, str], report: Path | None) -> None:
    """Write the report that was asked for, as nuctl does, and end with 1 when something failed.

    `failures` has every function by name, with "" for those that came right.
    """
    failed = {name: failure for name, failure in sorted(failures.items()) if failure}
    if report is not None:
        done = sorted(name for name in failures if name not in failed)
        text = json.dumps({"success": done, "failed": failed}, indent=2) + "\n"
        try:
            report.write_text(text)
        except OSError as error:
            raise InputError(f"cannot write {report}: {error.strerror}") from None
        note(f"report written to {report}")
    if failed:
        ctx.exit(1)
