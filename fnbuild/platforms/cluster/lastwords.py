"""What a container that failed has said last: now, or before the node started it again."""

from __future__ import annotations

from fnbuild.platforms import LogRecord
from fnbuild.platforms.cluster.api import Cluster
from fnbuild.platforms.cluster.faults import ForbiddenError
from fnbuild.platforms.logs import parse_log_line

_LINES_READ = 200
_LINES_SHOWN = 20


def records(
    cluster: Cluster,
    namespace: str,
    pod: str,
    container: str = "nuclio",
    *,
    previous: bool = False,
) -> list[LogRecord]:
    """The last of a container's log; none when it has none, or when nobody may read it."""
    try:
        lines = cluster.logs(
            namespace, pod, container=container, tail=_LINES_READ, previous=previous
        )
        return [parse_log_line(line, moment) for moment, line in lines]
    except ForbiddenError:
        return []


def of(cluster: Cluster, namespace: str, pod: str, container: str = "nuclio") -> str:
    """The last traceback, else the last lines that tell of errors, else the last lines at all.

    A container that has just begun again has yet to fail: what it said before counts then. "" for
    nothing.
    """
    now = records(cluster, namespace, pod, container)
    if errors := _errors(now):
        return errors
    before = records(cluster, namespace, pod, container, previous=True)
    return _errors(before) or _text(now or before)


def _errors(found: list[LogRecord]) -> str:
    """Workers often say the same, so one traceback is enough."""
    errors = [one for one in found if one.level == "error"]
    whole = next((one.message for one in reversed(errors) if "\n" in one.message), "")
    return whole or _text(errors)


def _text(found: list[LogRecord]) -> str:
    return "\n".join(one.message for one in found[-_LINES_SHOWN:])
