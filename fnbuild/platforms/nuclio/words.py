"""Why a function does not run, out of what Nuclio says: the function's own words first.

Nuclio's message mixes its own errors with the lines of a replica's log
(pkg/platform/kube/client/deployer.go), and the log is JSON where the image is fnbuild's.
"""

from __future__ import annotations

import re

from fnbuild.platforms.logs import parse_log_line
from fnbuild.platforms.nuclio.records import status_of
from fnbuild.spec.types import Raw

_TRACEBACK = "Traceback (most recent call last)"
_EXCEPTION = re.compile(r"[A-Za-z_][\w.]*(Error|Exception|Interrupt|Exit|Warning)\b.*")
_MOST_LINES = 40


def failure(stored: Raw, last_words: str = "") -> tuple[str, str | None]:
    """The reason in one line, and the detail below it: the function's own errors.

    `last_words` are the last errors of a replica's log, where they are known.
    """
    status = status_of(stored)
    message = str(status.get("message") or "").strip()
    own = own_errors(message) or last_words.strip() or own_errors(_logged(status))
    detail = own or message or _logged(status)
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    reason = exception(own) or (lines[0] if lines else str(status.get("state") or "no state"))
    return reason, _last(detail) if detail and detail != reason else None


def own_errors(text: str) -> str:
    """The errors of a log within a text: records of level error, or what a traceback says."""
    lines = text.splitlines()
    found = [
        parse_log_line(line.strip().encode(), 0.0)
        for line in lines
        if line.lstrip().startswith("{")
    ]
    errors = [one.message for one in found if one.time and one.level == "error"]
    if errors:
        return "\n".join(dict.fromkeys(errors))
    for index, line in enumerate(lines):
        if _TRACEBACK in line:
            return "\n".join(lines[index:]).strip()
    return ""


def exception(text: str) -> str:
    """The last line that names an exception: what a traceback comes to."""
    found = [line.strip() for line in text.splitlines() if _EXCEPTION.match(line.strip())]
    return found[-1] if found else ""


def _logged(status: Raw) -> str:
    """The records that Nuclio kept of the deploy."""
    records = status.get("logs") or []
    return "\n".join(str(one.get("message", "")) for one in records if isinstance(one, dict))


def _last(text: str) -> str:
    return "\n".join(text.splitlines()[-_MOST_LINES:])
