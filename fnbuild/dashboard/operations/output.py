"""The output of an operation, and its outcome when its dashboard has died."""

from __future__ import annotations

import threading
import time
from contextlib import suppress

from fnbuild.errors import ConfigError, FnbuildError
from fnbuild.function.secrets import mask_values
from fnbuild.platforms import ConnectOptions, lookup
from fnbuild.store import OperationRow, OperationTable, OutputLineRow

MAX_LINES = 5000
_MAX_ERROR_LINES = 300
_MAX_LINE_LENGTH = 4000
_MAX_MESSAGE_LENGTH = 64_000
_WARNING_PREFIX = "warning: "


class OperationOutput:
    """The `Progress` of one operation, which stores each line of text with its time.

    Beyond `MAX_LINES` only the lines of an error are stored. `secret_values`, those of the
    function, are masked.
    """

    def __init__(self, records: OperationTable, operation: int, secret_values: tuple[str, ...]):
        self._records = records
        self.secret_values = secret_values
        self._operation = operation
        self._lock = threading.Lock()
        self._line_count = 0
        self._time = 0
        self._omitted_count = 0

    def __call__(self, text: str) -> None:
        level = "warning" if text.startswith(_WARNING_PREFIX) else "info"
        lines = mask_values(text.removeprefix(_WARNING_PREFIX), self.secret_values).splitlines()
        with self._lock:
            room = max(0, MAX_LINES - self._line_count)
            self._omitted_count += max(0, len(lines) - room)
            self._add(level, lines[:room])

    def add_error(self, error: FnbuildError) -> str:
        """Store the text of an error as the last lines; return the message for the state."""
        lines = [error.message, *(error.detail or "").splitlines()]
        if isinstance(error, ConfigError):
            lines += error.report.render().splitlines()
        message = mask_values("\n".join(lines), self.secret_values)
        lines = message.splitlines()
        if error.hint:
            lines.append(mask_values(error.hint, self.secret_values))
        with self._lock:
            if self._omitted_count:
                self._add("warning", [f"{self._omitted_count} lines are left out here"])
            self._add("error", lines[:_MAX_ERROR_LINES])
        return message[:_MAX_MESSAGE_LENGTH]

    def _add(self, level: str, lines: list[str]) -> None:
        # Clients take two lines of the same time for one, so each has a time of its own.
        self._time = max(self._time + 1, round(time.time() * 1000))
        rows = [
            OutputLineRow(
                self._line_count + n, self._time + n - 1, level, line.rstrip()[:_MAX_LINE_LENGTH]
            )
            for n, line in enumerate(lines, 1)
        ]
        self._line_count += len(rows)
        self._time += max(0, len(rows) - 1)
        # An operation does not fail because its output cannot be stored.
        with suppress(FnbuildError):
            self._records.add_lines(self._operation, rows)


def active_revision(row: OperationRow, connect: ConnectOptions) -> int | None:
    """Return the function's active revision, 0 without one.

    None if it cannot be read: the function is gone, or its platform does not answer.
    """
    try:
        return lookup(row.platform, connect).deployment(row.namespace, row.name).revision
    except FnbuildError:
        return None


def has_succeeded(row: OperationRow, connect: ConnectOptions) -> bool:
    """Return True if an operation without a recorded end has done its work.

    The function is deleted, or it has a newer active revision. False if the platform does not
    answer.
    """
    try:
        platform = lookup(row.platform, connect)
        if row.action == "delete":
            deployments = platform.deployments(row.namespace)
            return all(deployment.name != row.name for deployment in deployments)
        revisions = platform.revisions(row.namespace, row.name)
    except FnbuildError:
        return False
    return any(
        revision.state == "active" and revision.created > row.started for revision in revisions
    )
