"""The progress of a command on stderr: a moving line on a terminal, plain lines elsewhere.

It includes the elapsed time: in the moving line, or as an additional line from time to time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any

import click

from fnbuild.cli.console import is_interactive

if TYPE_CHECKING:
    from rich.text import Text

SILENCE_LIMIT = 15.0
"""Seconds without output after which a line shows the elapsed time and the current step."""

_REFRESHES_PER_SECOND = 4.0


class ProgressDisplay:
    """A context manager that is called with a short message at the start of each step.

    A line with an indent of two blanks is the output of a build step: it is transient on a
    terminal and is kept only with `whole`. rich is imported only for terminals, since its import
    takes longer than a complete `fnbuild get`.
    """

    def __init__(self, *, whole: bool = False) -> None:
        self._whole = whole
        self._began = time.monotonic()
        self._status: Any = None
        self._writing = threading.Lock()
        self._step = "working"
        self._last_output = self._began
        self._finished = threading.Event()

    def __enter__(self) -> ProgressDisplay:
        if is_interactive():
            from rich.console import Console

            console = Console(stderr=True, highlight=False)
            self._status = console.status(
                _StatusLine(self), refresh_per_second=_REFRESHES_PER_SECOND
            )
            self._status.start()
        else:
            threading.Thread(target=self._tick, name="clock", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._finished.set()
        if self._status is not None:
            self._status.stop()

    def __call__(self, text: str) -> None:
        is_kept = self._whole or not text.startswith("  ")
        if not text.startswith("| "):
            self._step = text.strip()
        if self._status is not None:
            from rich.markup import escape

            if is_kept:
                self._status.console.print(f"[dim]{self.seconds:5.1f} s[/dim]  {escape(text)}")
        elif is_kept:
            self._last_output = time.monotonic()
            click.echo(f"  {text}", err=True)

    def _tick(self) -> None:
        """Print the elapsed time after each period of silence."""
        while not self._finished.wait(
            max(0.05, self._last_output + SILENCE_LIMIT - time.monotonic())
        ):
            with self._writing:
                if (
                    time.monotonic() - self._last_output >= SILENCE_LIMIT
                    and not self._finished.is_set()
                ):
                    self._last_output = time.monotonic()
                    click.echo(f"  {self.seconds:.0f} s: {self._step}", err=True)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Hide the status line while other output is written."""
        with self._writing:
            if self._status is not None:
                self._status.stop()
            try:
                yield
            finally:
                if self._status is not None:
                    self._status.start()

    @property
    def step(self) -> str:
        """The description of the current step."""
        return self._step

    @property
    def seconds(self) -> float:
        """Seconds since the command began."""
        return time.monotonic() - self._began


class _StatusLine:
    """The text of the status line, which rich renders at every refresh."""

    def __init__(self, progress: ProgressDisplay):
        self._progress = progress

    def __rich__(self) -> Text:
        from rich.text import Text

        return Text(f"{self._progress.seconds:5.1f} s  {self._progress.step}")
