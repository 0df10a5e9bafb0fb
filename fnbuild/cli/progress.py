"""What happens while a command works, on stderr: a moving line on a terminal, plain lines else."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from types import TracebackType
from typing import Any

import click

from fnbuild.cli.session import interactive


class Progress:
    """A context manager that is called with one short sentence whenever something begins.

    A line that begins with two blanks is what a build step wrote: it is seen for a moment on a
    terminal, and stays only with `whole`. rich is imported only when a person watches: its import
    costs more than a whole `get`.
    """

    def __init__(self, *, whole: bool = False) -> None:
        self._whole = whole
        self._began = time.monotonic()
        self._status: Any = None
        self._writing = Lock()

    def __enter__(self) -> Progress:
        if interactive():
            from rich.console import Console

            self._status = Console(stderr=True, highlight=False).status("working")
            self._status.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def __call__(self, text: str) -> None:
        stays = self._whole or not text.startswith("  ")
        if self._status is not None:
            from rich.markup import escape

            shown = escape(text)
            if stays:
                self._status.console.print(f"[dim]{self.seconds:5.1f} s[/dim]  {shown}")
            self._status.update(shown.strip())
        elif stays:
            click.echo(f"  {text}", err=True)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Take the moving line away while something else is written; one at a time."""
        with self._writing:
            if self._status is not None:
                self._status.stop()
            try:
                yield
            finally:
                if self._status is not None:
                    self._status.start()

    @property
    def seconds(self) -> float:
        """Seconds since the command began."""
        return time.monotonic() - self._began
