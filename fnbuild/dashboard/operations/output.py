"""One change while it is made: its output on its way into the store, and what came of it."""

from __future__ import annotations

import threading
import time
from contextlib import suppress

from fnbuild.errors import ConfigError, FnbuildError
from fnbuild.function.secrets import mask_values
from fnbuild.platforms import lookup
from fnbuild.store import OperationRow, OperationTable, OutputLineRow

MAX_LINES = 5000
_MAX_ERROR_LINES = 300
_MAX_LINE_LENGTH = 4000
_MAX_MESSAGE_LENGTH = 64_000
_WARNING_PREFIX = "warning: "


class OperationOutput:
    """The progress of one operation: called with text, it keeps each line of it with its time.

    Beyond `MOST_LINES` only what a failure says is kept. Of `secret_values`, those of the function,
    nothing is kept.
    """

    def __init__(
        self, records: OperationTable, operation: int, secret_values: tuple[str, ...] = ()
    ):
        self._records = records
        self.secret_values = secret_values
        self._operation = operation
        self._guard = threading.Lock()
        self._number = 0
        self._time = 0
        self._left_out = 0

    def __call__(self, text: str) -> None:
        level = "warning" if text.startswith(_WARNING_PREFIX) else "info"
        lines = mask_values(text.removeprefix(_WARNING_PREFIX), self.secret_values).splitlines()
        with self._guard:
            room = max(0, MAX_LINES - self._number)
            self._left_out += max(0, len(lines) - room)
            self._add(level, lines[:room])

    def failed(self, error: FnbuildError) -> str:
        """Keep what an error says as the last lines; the message of the function's state."""
        lines = [error.message, *(error.detail or "").splitlines()]
        if isinstance(error, ConfigError):
            lines += error.report.render().splitlines()
        message = mask_values("\n".join(lines), self.secret_values)
        lines = message.splitlines()
        if error.hint:
            lines.append(mask_values(error.hint, self.secret_values))
        with self._guard:
            if self._left_out:
                self._add("warning", [f"{self._left_out} lines are left out here"])
            self._add("error", lines[:_MAX_ERROR_LINES])
        return message[:_MAX_MESSAGE_LENGTH]

    def _add(self, level: str, lines: list[str]) -> None:
        # Clients take two lines of one moment for one, so each has a time of its own.
        self._time = max(self._time + 1, round(time.time() * 1000))
        rows = [
            OutputLineRow(
                self._number + n, self._time + n - 1, level, line.rstrip()[:_MAX_LINE_LENGTH]
            )
            for n, line in enumerate(lines, 1)
        ]
        self._number += len(rows)
        self._time += max(0, len(rows) - 1)
        # A change does not fail because its output cannot be kept.
        with suppress(FnbuildError):
            self._records.add_lines(self._operation, rows)


def active_revision(row: OperationRow) -> int | None:
    """The function's active revision now, 0 when none is; None when there is no such function, or
    nobody can tell."""
    try:
        return lookup(row.platform).deployment(row.namespace, row.name).revision
    except FnbuildError:
        return None


def has_succeeded(row: OperationRow) -> bool:
    """Whether a change that nobody saw to its end has made the revision that is active now."""
    try:
        if row.action == "delete":
            return all(
                one.name != row.name for one in lookup(row.platform).deployments(row.namespace)
            )
        known = lookup(row.platform).revisions(row.namespace, row.name)
    except FnbuildError:
        return False
    return any(one.state == "active" and one.created > row.started for one in known)
