"""Recovery of a function whose change was interrupted because the client was killed.

The containers and the function's lease show how far the change came. A new container that runs
takes over once it is ready. In any other case the old one serves again. Trial containers are
removed.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from fnbuild.builder.processor_settings import readiness_seconds
from fnbuild.datadir import function_lock, remove_lock
from fnbuild.errors import BusyError, ConflictError, FnbuildError, NotReadyError
from fnbuild.platforms import Leftover, Progress, audit
from fnbuild.platforms.docker import image_code, inventory, leases, probes, records
from fnbuild.platforms.docker.engine import Engine
from fnbuild.platforms.docker.function_state import PLATFORM_NAME
from fnbuild.platforms.docker.inventory import (
    Container,
    FunctionObjects,
    find_foreign_deploy,
    is_interrupted,
)
from fnbuild.platforms.docker.labels import OWNER_LABEL, DockerKey, RevisionRecord
from fnbuild.platforms.docker.leases import RECOVERED, Lease
from fnbuild.platforms.docker.ports import container_name
from fnbuild.platforms.docker.probes import ReadinessProbe, not_ready_prefix
from fnbuild.platforms.docker.switch import replace_container

_INTERRUPTED_MESSAGE = "the deploy was interrupted"


def clean_up(engine: Engine, known: Sequence[FunctionObjects]) -> dict[DockerKey, str]:
    """Finish or undo interrupted changes as far as possible without waiting for a model.

    Return the outcome by function. Functions that another client changes or recovers are left out.
    """
    outcomes = {}
    for function in known:
        if is_interrupted(engine, function):
            # Reading must not fail because a repair does.
            with suppress(FnbuildError):
                outcomes[function.key] = _clean_up(engine, function.key)
    return outcomes


def _clean_up(engine: Engine, key: DockerKey) -> str:
    steps: list[str] = []
    with function_lock(*key, RECOVERED):
        lease = leases.acquire(engine, key, RECOVERED, patience=0)
        try:
            recover(engine, key, lease, steps.append, wait=False)
        finally:
            lease.give_back()
        if not inventory.read_function(engine, key).there:
            remove_lock(*key)
    if not steps:
        return "nothing was left to clean up"
    outcome = "; ".join(steps)
    audit.record_change("recover", f"{PLATFORM_NAME} {key}", outcome)
    return outcome


def recover(
    engine: Engine, key: DockerKey, lease: Lease, progress: Progress, *, wait: bool
) -> FunctionObjects:
    """Finish or undo an interrupted change; return the function in its new state.

    Without `wait`, a new container whose workers are still starting is left as it is, and the lease
    keeps its stage. The caller holds the lease.
    """
    known = inventory.read_function(engine, key)
    if lease.inherited is None and known.leftovers:
        _refuse_foreign_deploy(engine, known)
    if known.leftovers or lease.stage:
        Recovery(engine, known, lease, progress, wait).run()
        known = inventory.read_function(engine, key)
    if not known.leftovers:
        _record_served(engine, known)
    return known


def _refuse_foreign_deploy(engine: Engine, known: FunctionObjects) -> None:
    without_ours = replace(known, leases=[])
    if (container := find_foreign_deploy(engine, without_ours)) is not None:
        place = container.labels.get(OWNER_LABEL) or "elsewhere"
        raise BusyError(
            f"{known.key.name} is being deployed from {place} (container {container.name})",
            hint="try again when it is done; if it was killed, remove that container:"
            f" `docker rm --force {container.name}`",
        )


def _record_served(engine: Engine, known: FunctionObjects) -> None:
    """Record the revision that serves if its deploy was killed before recording it."""
    active = known.active
    if active is not None and all(made.number != active.number for made in known.recorded):
        records.record_serving(engine, active)


@dataclass(frozen=True, slots=True)
class Recovery:
    """The recovery of one function, whose lease this process holds."""

    engine: Engine
    known: FunctionObjects
    lease: Lease
    progress: Progress
    wait: bool

    def run(self) -> None:
        successor = self._named(self.known.key.successor)
        for trial in self.known.leftovers:
            if trial.candidate:
                self.progress("removed the trial container of a deploy that was interrupted")
                self.engine.remove(trial.id)
                if successor is None:
                    self._record_failure(trial.made, _INTERRUPTED_MESSAGE)
        others = (other for other in self.known.containers if not other.candidate)
        old = next((container for container in others if container is not successor), None)
        if successor is None:
            self._bring_back(old, stopped=self.lease.stage == "switching")
        elif not self._resolve(successor, old):
            return
        self.lease.finished()

    def _named(self, name: str) -> Container | None:
        containers = self.known.containers
        return next((container for container in containers if container.name == name), None)

    def _resolve(self, successor: Container, old: Container | None) -> bool:
        """Keep the old or the new container; return False if that cannot be decided yet."""
        assert successor.made is not None
        disabled = successor.made.function.spec.disable
        if old is None and (disabled or self._has_served(successor)):
            self._finish(successor, old)
            return True
        if successor.state in ("created", "exited", "dead"):
            self._undo(successor, old, _INTERRUPTED_MESSAGE)
            return True
        try:
            if not self._is_ready(successor, successor.made):
                return False
        except NotReadyError as error:
            reason = error.message.removeprefix(not_ready_prefix(successor.made))
            self._undo(successor, old, "\n".join(filter(None, (reason, error.detail))))
        else:
            self._finish(successor, old)
        return True

    def _has_served(self, successor: Container) -> bool:
        """Return True if the old container is gone because the new one was ready."""
        served = any(not made.failed for made in self.known.recorded)
        return served and successor.state != "created"

    def _is_ready(self, successor: Container, made: RevisionRecord) -> bool:
        if self.wait:
            ReadinessProbe(
                self.engine, successor.id, made, self.progress, output=False
            ).until_ready()
            return True
        status = probes.query_status(self.engine, successor)
        if status is None:
            ready, broken = successor.health in ("healthy", ""), successor.health == "unhealthy"
        else:
            ready, broken = status.state == "ready", status.state == "unhealthy"
        if broken or (not ready and self._is_overdue(successor, made)):
            reason = status.full_reason if status is not None else ""
            raise NotReadyError(
                not_ready_prefix(made) + (reason or "its workers did not start in time")
            )
        return ready

    def _is_overdue(self, successor: Container, made: RevisionRecord) -> bool:
        state = (self.engine.container(successor.id) or {}).get("State") or {}
        try:
            started = datetime.fromisoformat(state.get("StartedAt", ""))
        except ValueError:
            return True
        age = datetime.fromtimestamp(self.engine.now(), UTC) - started
        return age.total_seconds() > readiness_seconds(made.function)

    def _finish(self, successor: Container, old: Container | None) -> None:
        assert successor.made is not None
        number = successor.made.number
        self.lease.check()
        replace_container(self.engine, self.known.key, old, successor.id)
        self.progress(f"finished a deploy that was interrupted: revision {number} serves")

    def _undo(self, successor: Container, old: Container | None, reason: str) -> None:
        assert successor.made is not None
        self.lease.check()
        self.engine.remove(successor.id)
        self._record_failure(successor.made, reason)
        number = successor.made.number
        self.progress(f"undid the deploy of revision {number}, which was interrupted")
        # Without a lease, only the containers show how far the switch came.
        unknown = self.lease.inherited is None and old is not None and not old.running
        self._bring_back(old, stopped=unknown or self.lease.stage == "switching")

    def _bring_back(self, old: Container | None, *, stopped: bool) -> None:
        """Restart the container that the switch had stopped, or was about to stop."""
        if old is None:
            return
        if stopped and old.state in ("running", "exited"):
            self.engine.stop(old.id)  # it may still be finishing its requests
            self.engine.start(old.id)
            self.progress("started the old container again")
        if old.made is not None and old.name != self.known.key.container:
            self.engine.rename(old.id, self.known.key.container)

    def _record_failure(self, made: RevisionRecord | None, reason: str) -> None:
        if made is None or any(made.number == revision.number for revision in self.known.recorded):
            return
        with suppress(ConflictError):
            records.record_revision(self.engine, made.with_failure(reason))


def find_leftovers(engine: Engine) -> list[Leftover]:
    """List the containers that killed clients have left."""
    left = [
        Leftover("container", container.name, "its deploy was killed", function.key.name)
        for function in inventory.list_all_functions(engine)
        for container in _abandoned_containers(engine, function)
    ]
    for listed in image_code.abandoned_readers(engine):
        name = container_name(listed)
        left.append(Leftover("container", name, "its process was killed while it read code"))
    return left


def _abandoned_containers(engine: Engine, known: FunctionObjects) -> list[Container]:
    """Return the extra containers of a function that no deploy is using."""
    if not inventory.is_interrupted(engine, known):
        return []
    # A new container that runs is kept: it takes over the next time the function is read.
    return [
        container
        for container in known.leftovers
        if container is not known.container and (container.candidate or not container.running)
    ]


def discard_leftover(engine: Engine, leftover: Leftover) -> bool:
    """Remove a container if it is still a leftover."""
    if leftover not in find_leftovers(engine):
        return False
    engine.remove(leftover.name)
    return True
