"""The lines of a processor's log as records.

A line that is no JSON comes from below the processor's own logging (an interpreter that does not
start, a library that crashes) and is the one people look for, so it becomes a record as it stands.
"""

from __future__ import annotations

import json
from typing import Any

from fnbuild.platforms.model import LogRecord


def parse(line: bytes, fallback_time: float) -> LogRecord:
    """One line as a record; `fallback_time` is for lines that carry no time."""
    try:
        values: Any = json.loads(line)
        time_ms = float(values.pop("time"))
        level, message = str(values.pop("level")), str(values.pop("message"))
    except (ValueError, KeyError, TypeError, AttributeError):
        return LogRecord(fallback_time, "error", line.decode(errors="replace").rstrip())
    worker = values.pop("worker", None)
    return LogRecord(
        time_ms / 1000, level, message, None if worker is None else str(worker), values
    )
