"""A processor beside the one that serves, on a port of its own, for as long as it is needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from fnbuild.builder import environment
from fnbuild.errors import PreconditionError, Report
from fnbuild.function.reader import LoadedFunction
from fnbuild.function.types import Function
from fnbuild.platforms import Artifact, LogRecord, Progress
from fnbuild.platforms.process.foreground import ForegroundProcessor, prepare_processor
from fnbuild.platforms.process.isolation import isolated_users


@contextmanager
def run_trial(function: Function, artifact: Artifact, progress: Progress) -> Iterator[str]:
    """Run a folder, wait until it is ready, and provide its URL; it ends with the block.

    Raises `NotReadyError`, and `PreconditionError` if functions run as users of their own.
    """
    if isolated_users() is not None:
        raise PreconditionError(
            "a function cannot run beside the one that serves with `isolate: users`",
            hint="it would have the rights of your user; compare with a deployed function instead",
        )
    folder = Path(artifact.reference)
    loaded = LoadedFunction(function, Report(), folder, folder / "function.yaml", None, "")
    with environment.keep_environments():
        config = prepare_processor(loaded, progress)
        # What the handler writes must not reach the code of a revision.
        config = replace(config, settings={**config.settings, "immutable": True})
        with ForegroundProcessor(config, "127.0.0.1", 0, _ignore, listed=False) as processor:
            processor.start()
            processor.wait_ready()
            yield processor.url


def _ignore(record: LogRecord) -> None:
    """Its log is of no interest once it is ready; a failure has its own message."""
