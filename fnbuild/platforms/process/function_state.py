"""The current state of a function: its record, corrected by the status of its processor.

A record can be outdated (the machine was restarted, the supervisor was killed), so the status of
the processor is requested whenever one should run.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from fnbuild.errors import UnavailableError
from fnbuild.function.reader import function_from_dict
from fnbuild.platforms import Deployment, FunctionKey, FunctionState
from fnbuild.platforms.addresses import listen_hosts
from fnbuild.platforms.api_objects import worker_objects
from fnbuild.platforms.process import supervisor_client
from fnbuild.platforms.process.layout import control_socket, supervisor_lock
from fnbuild.platforms.process.processor_client import (
    ProcessorUnreachableError,
    listening_pid,
    read_status,
)
from fnbuild.platforms.processor_status import LiveState, ProcessorStatus
from fnbuild.platforms.settings import listen_setting
from fnbuild.platforms.stored_platform import should_run
from fnbuild.runtime.file_locks import is_locked
from fnbuild.store import FunctionRow, RevisionRow

PLATFORM_NAME = "process"
_UP_HINT = "`fnbuild up` starts it"


def live_state(row: FunctionRow) -> LiveState:
    """Determine the current state of the function."""
    if row.desired != "running":
        return LiveState("imported" if row.desired == "imported" else "standby", row.message)
    if row.revision == 0:
        return LiveState(cast(FunctionState, row.state), row.message)
    try:
        status = read_status(control_socket(FunctionKey(row.namespace, row.name), row.revision))
    except ProcessorUnreachableError as error:
        return _unreachable(row, error)
    now = LiveState.from_status(status)
    if now.state == "ready":
        return replace(now, message=now.message or (row.message if row.state == "ready" else ""))
    if now.state == "building" and row.state != "unhealthy":
        return now
    return replace(
        now, state="unhealthy", message=status.full_reason or row.message or status.state
    )


def _unreachable(row: FunctionRow, failure: ProcessorUnreachableError) -> LiveState:
    if not failure.gone:
        return LiveState("unhealthy", "the processor does not answer")
    if row.state == "stopped":
        return LiveState("stopped", f"it was stopped; {_UP_HINT}")
    try:
        supervised = supervisor_client.running_supervisor() is not None
    except UnavailableError as error:
        return LiveState(
            "unhealthy", f"its processor does not run, and {error.message}; {error.hint}"
        )
    if not supervised:
        return LiveState("stopped", f"its processor and the supervisor do not run; {_UP_HINT}")
    unwritten = supervisor_client.unwritten_state(row.namespace, row.name)
    state, message = unwritten or (row.state, row.message)
    if state not in ("unhealthy", "error", "building"):
        return LiveState("unhealthy", "the processor has just ended")
    return LiveState(cast(FunctionState, state), message)


def functions_to_restore(rows: list[FunctionRow]) -> list[FunctionKey]:
    """Return the functions that should run but do not; none while a supervisor runs."""
    if is_locked(supervisor_lock()):
        return []
    keys = [(FunctionKey(row.namespace, row.name), row.revision) for row in rows if should_run(row)]
    return [key for key, revision in keys if listening_pid(control_socket(key, revision)) is None]


def is_supervisor_in_transition() -> bool:
    """Return True while a supervisor starts or ends, as `fnbuild down` takes some time."""
    return is_locked(supervisor_lock()) and supervisor_client.running_supervisor() is None


def platform_problems(rows: list[FunctionRow]) -> list[str]:
    """Return the problems of the platform itself; `rows` are all functions."""
    desired = [row for row in rows if row.desired == "running" and row.revision]
    # `fnbuild down` ends the supervisor and leaves every function `stopped`.
    if all(row.state == "stopped" for row in desired):
        return []
    try:
        if supervisor_client.running_supervisor() is not None:
            return []
    except UnavailableError as error:
        return [f"{error.message}, so no function is restarted; {error.hint}"]
    return [f"the supervisor does not run, so no function is restarted; {_UP_HINT}"]


def to_deployment(row: FunctionRow, revision: RevisionRow | None) -> Deployment:
    """Return the function as a `Deployment`; `revision` is the active one."""
    function = function_from_dict(row.config, f"{row.namespace}/{row.name}")
    now = live_state(row)
    serves = now.state in ("ready", "unhealthy", "building", "error") and row.revision > 0
    hosts = listen_hosts(listen_setting(function))[0]
    urls = tuple(f"{host}:{row.http_port}" for host in hosts) if serves else ()
    desired = 0 if now.state in ("standby", "imported") else 1
    return Deployment(
        function=function,
        platform=PLATFORM_NAME,
        state=now.state,
        message=now.message,
        revision=row.revision,
        http_port=row.http_port if serves else 0,
        grpc_port=row.grpc_port if serves else 0,
        internal_urls=urls[:1],
        external_urls=urls,
        replicas=(int(now.state == "ready"), desired),
        workers=tuple(now.status.workers) if now.status else (),
        sleep=now.status.sleep if now.status else None,
        details=_details(row, revision, now.status),
        warnings=tuple(now.status.warnings) if now.status else (),
    )


def _details(
    row: FunctionRow, revision: RevisionRow | None, status: ProcessorStatus | None
) -> dict[str, Any]:
    details: dict[str, Any] = {"port": row.http_port, "admin_port": row.admin_port}
    if revision is not None:
        details["python"] = revision.environment or revision.interpreter
        details["code"] = str(revision.code)
    if status is not None:
        details["pid"] = status.pid
        details["workers"] = worker_objects(status.workers)
        details["mount"] = status.mount
    return details
