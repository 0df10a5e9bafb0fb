"""A function as it is right now: what is on record, corrected by what its processor says.

A record can be older than the truth (the machine was restarted, the supervisor was killed), so the
processor itself is asked whenever one ought to run.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

from fnbuild.datadir import other_holder
from fnbuild.errors import UnavailableError
from fnbuild.platforms import Deployment, State
from fnbuild.platforms.addresses import hosts_of
from fnbuild.platforms.process import client, daemon
from fnbuild.platforms.process.layout import Key, supervisor_lock
from fnbuild.platforms.process.status import Unreachable, listening_pid, read_status
from fnbuild.platforms.processors import Status
from fnbuild.platforms.settings import listen_words, restart_policy
from fnbuild.spec.reader import from_raw
from fnbuild.spec.types import Function
from fnbuild.store import FunctionRow, RevisionRow

PLATFORM = "process"
PROJECT = "nuclio.io/project-name"
_UP_HINT = "`fnbuild up` starts it"


@dataclass(frozen=True, slots=True)
class Live:
    state: State
    message: str
    status: Status | None = None


def live(row: FunctionRow) -> Live:
    """The state of the function as far as it can be found out now."""
    if row.desired != "running":
        return Live("imported" if row.desired == "imported" else "standby", row.message)
    if row.revision == 0:
        return Live(cast(State, row.state), row.message)
    try:
        status = read_status(Key(row.namespace, row.name).control(row.revision))
    except Unreachable as problem:
        return _unreachable(row, problem)
    if status.state == "ready":
        return Live("ready", status.losses, status)
    if status.state == "starting" and row.state != "unhealthy":
        return Live("building", "its workers are starting", status)
    return Live("unhealthy", status.words or row.message or status.state, status)


def _unreachable(row: FunctionRow, problem: Unreachable) -> Live:
    if not problem.gone:
        return Live("unhealthy", "the processor does not answer")
    if row.state == "stopped":
        return Live("stopped", f"it was stopped; {_UP_HINT}")
    try:
        supervised = client.hello() is not None
    except UnavailableError as error:
        return Live("unhealthy", f"its processor does not run, and {error.message}; {error.hint}")
    if not supervised:
        return Live("stopped", f"its processor and the supervisor do not run; {_UP_HINT}")
    unwritten = client.unwritten_state(row.namespace, row.name)
    state, message = unwritten or (row.state, row.message)
    if state not in ("unhealthy", "error", "building"):
        return Live("unhealthy", "the processor has just ended")
    return Live(cast(State, state), message)


def ought_to_run(row: FunctionRow) -> bool:
    """Whether the function is to be running without anybody asking for it.

    `stopped` was somebody's wish, as is the policy: only `up` overrules them.
    """
    if row.desired != "running" or row.revision == 0 or row.state == "stopped":
        return False
    return restart_policy(from_raw(row.config, row.name)).name != "no"


def lapsed(rows: list[FunctionRow]) -> list[Key]:
    """Those that ought to run and do not. While there is a supervisor it sees to them itself."""
    if daemon.is_held(supervisor_lock()):
        return []
    keys = [(Key(row.namespace, row.name), row.revision) for row in rows if ought_to_run(row)]
    return [key for key, revision in keys if listening_pid(key.control(revision)) is None]


def is_ending() -> bool:
    """Whether a supervisor starts or ends just now: `fnbuild down` takes a while."""
    return daemon.is_held(supervisor_lock()) and client.hello() is None


def notices(rows: list[FunctionRow]) -> list[str]:
    """What is wrong with the platform itself; `rows` are all functions."""
    wanted = [row for row in rows if row.desired == "running" and row.revision]
    # `down` ends the supervisor, and leaves every function `stopped`.
    if all(row.state == "stopped" for row in wanted):
        return []
    try:
        if client.hello() is not None:
            return []
    except UnavailableError as error:
        return [f"{error.message}, so nothing starts what ends; {error.hint}"]
    return [f"the supervisor does not run, so nothing starts what ends; {_UP_HINT}"]


def deployment(row: FunctionRow, revision: RevisionRow | None) -> Deployment:
    """The row as the platform protocol shows it; `revision` is the active one."""
    function = from_raw(row.config, f"{row.namespace}/{row.name}")
    now = live(row)
    serves = now.state in ("ready", "unhealthy", "building", "error") and row.revision > 0
    hosts = hosts_of(listen_words(function))[0]
    urls = tuple(f"{host}:{row.http_port}" for host in hosts) if serves else ()
    wanted = 0 if now.state in ("standby", "imported") else 1
    return Deployment(
        function=function,
        platform=PLATFORM,
        state=now.state,
        message=now.message,
        revision=row.revision,
        http_port=row.http_port if serves else 0,
        internal_urls=urls[:1],
        external_urls=urls,
        replicas=(int(now.state == "ready"), wanted),
        details=_details(row, revision, now.status),
        warnings=tuple(now.status.warnings) if now.status else (),
    ).while_changed(_change_of(row))


def _change_of(row: FunctionRow) -> str:
    holder = other_holder(row.namespace, row.name)
    return f"being {holder.what} by {holder}" if holder is not None else ""


def _details(
    row: FunctionRow, revision: RevisionRow | None, status: Status | None
) -> dict[str, Any]:
    details: dict[str, Any] = {"port": row.http_port, "admin_port": row.admin_port}
    if revision is not None:
        details["python"] = revision.environment or revision.interpreter
        details["code"] = str(revision.code)
    if status is not None:
        details["pid"] = status.pid
        details["workers"] = [
            {"id": str(one.id), "state": one.state, "pid": one.pid, "restarts": one.restarts}
            for one in status.workers
        ]
        details["mount"] = status.mount
    return details


def project_of(function: Function) -> str:
    return function.metadata.labels.get(PROJECT, "default")


def with_warnings(shown: Deployment, warnings: tuple[str, ...]) -> Deployment:
    """The deployment with what its plan warned about, before what its processor says."""
    return replace(shown, warnings=(*warnings, *shown.warnings))
