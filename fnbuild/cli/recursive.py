"""`fnbuild deploy --recursive`: every function below a folder, as CVAT's deploy_cpu.sh does it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fnbuild import artifacts
from fnbuild.cli.asked import request_of
from fnbuild.cli.console import note
from fnbuild.cli.deploy import say_deployed, say_findings, still_serving
from fnbuild.cli.folders import configurations
from fnbuild.cli.listing import reason
from fnbuild.cli.outcomes import Outcome, each
from fnbuild.cli.output import show_value, table
from fnbuild.cli.preview import ReadFunction, files_by_name, refuse_shared_name, show_plans
from fnbuild.cli.progress import Progress
from fnbuild.cli.session import Session
from fnbuild.errors import NotFoundError, UsageError
from fnbuild.spec.locate import NAMES, display
from fnbuild.spec.types import Raw

if TYPE_CHECKING:
    from fnbuild.builder.image.base_images import LocalBaseImages
    from fnbuild.platforms import Deployment, Platform

# What says of one function what cannot hold for many.
_OF_ONE = ("name", "source", "image", "run_image", "input_image_file")


@dataclass(frozen=True, slots=True)
class _Row:
    """The end of one function: what runs, or why nothing does."""

    file: str
    name: str
    outcome: Outcome[Deployment]


def deploy_below(ctx: click.Context, session: Session, flags: dict[str, Any]) -> None:
    """Deploy all, tell what came of each, and end with 1 when one of them failed."""
    from fnbuild.builder.sources.code_entry import open_code

    _refuse(flags)
    platform = session.connect()
    with ExitStack() as stack:
        top = stack.enter_context(open_code(flags["path"], follow=False, progress=note)).path
        assert top is not None
        files = _files(top, flags["config_file"])
        # All are read before the first is built: what is wrong in one is told at once.
        outcomes = each(files, partial(_read, stack, session, flags))
        read = [one.result for one in outcomes if one.result is not None]
        if flags["dry_run"]:
            if not show_plans(read, flags["output"]) or len(read) < len(files):
                ctx.exit(1)
            return
        with Progress(whole=session.verbose) as progress:
            deploying = _Deploying(session, platform, read, progress)
            deployed = iter(each(read, deploying, session.concurrency, progress.aside))
        rows = [
            _Row(display(file), one.result.name, next(deployed))
            if one.result is not None
            else _Row(display(file), display(file), Outcome(None, one.error, one.seconds))
            for file, one in zip(files, outcomes, strict=True)
        ]
    _show(rows, flags["output"])
    done = sum(row.outcome.error is None for row in rows)
    note(f"deployed {done} of {len(rows)}")
    if done < len(rows):
        ctx.exit(1)


def _refuse(flags: dict[str, Any]) -> None:
    """Raise for flags that can hold for one function only."""
    if not flags["path"]:
        raise UsageError(
            "--recursive needs a folder", hint="`--path FOLDER` names it: `--path . --recursive`"
        )
    for flag in _OF_ONE:
        if flags.get(flag):
            shown = "a name" if flag == "name" else f"--{flag.replace('_', '-')}"
            raise UsageError(
                f"{shown} is about one function, and --recursive deploys many",
                hint="leave out one of the two",
            )


def _files(top: Path, pattern: Path | None) -> list[Path]:
    """The configuration files below a folder, in the order of their paths."""
    if pattern is not None and len(pattern.parts) != 1:
        raise UsageError(
            f"--file {pattern} names a place, and --recursive looks for a name in every folder",
            hint=f"`--file {pattern.name}`",
        )
    if not top.is_dir():
        raise NotFoundError(f"{display(top)} is no folder to look for functions in")
    found = configurations(top, NAMES if pattern is None else (str(pattern),))
    if not found:
        raise NotFoundError(
            f"there is no {pattern or NAMES[0]} below {display(top)}",
            hint="`--file NAME` looks for another name, such as function-gpu.yaml",
        )
    return found


def _read(stack: ExitStack, session: Session, flags: dict[str, Any], file: Path) -> ReadFunction:
    """Read one; its code, when it is elsewhere, stays here until the stack ends."""
    own = {**flags, "path": file.parent, "config_file": file}
    request = stack.enter_context(request_of(session, own))
    function = say_findings(request).function
    return ReadFunction(function.metadata.name, file, request, function)


class _Deploying:
    """Deploys one after the other, or several at a time; each line of progress says whose it is."""

    def __init__(
        self, session: Session, platform: Platform, all_: Sequence[ReadFunction], progress: Progress
    ):
        self._session = session
        self._platform = platform
        self._progress = progress
        self._files = files_by_name(all_)

    @cached_property
    def _bases(self) -> LocalBaseImages:
        from fnbuild.builder.image.base_images import LocalBaseImages
        from fnbuild.builder.image.engines.selection import choose_engine

        return LocalBaseImages(choose_engine(artifacts.ENGINE_OF.get(self._platform.name)))

    def __call__(self, read: ReadFunction) -> Deployment:
        from fnbuild import deploy as pipeline

        refuse_shared_name(read.name, self._files[read.name])
        began, told = time.monotonic(), partial(_tell, self._progress, read.name)
        with still_serving(self._platform, self._session.namespace, read.name):
            if self._platform.runs == "image":
                self._bases.make(read.function, read.file.parent, told)
            made = pipeline.deploy(read.request, told)
        with self._progress.aside():
            say_deployed(made, time.monotonic() - began)
        return made


def _tell(progress: Progress, name: str, text: str) -> None:
    """A line of progress with the function's name; what a build step writes keeps its blanks."""
    lead = "  " if text.startswith("  ") else ""
    progress(f"{lead}{name}: {text.strip()}")


def _show(rows: Sequence[_Row], output: str) -> None:
    made = [row.outcome.result for row in rows if row.outcome.result is not None]
    if output in ("name", "url"):
        for one in made:
            click.echo(one.name if output == "name" else one.url)
    elif output in ("json", "yaml"):
        show_value([_object(row) for row in rows], output)
    else:
        wide = ["url", "file"] if output == "wide" else []
        header = ["name", "state", "port", "seconds", *wide, "reason"]
        click.echo(table(header, [[_object(row)[key] for key in header] for row in rows]))


def _object(row: _Row) -> Raw:
    made, error = row.outcome.result, row.outcome.error
    failure = {"hint": error.hint} if error is not None and error.hint else {}
    return {
        "name": row.name,
        "state": made.state if made is not None else "failed",
        "port": made.http_port if made is not None and made.http_port else None,
        "url": made.url if made is not None else "",
        "seconds": round(row.outcome.seconds, 1),
        "file": row.file,
        "reason": reason(made.message if made is not None else row.outcome.failure),
        **failure,
    }
