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

from fnbuild.builder.processor_settings import start_seconds
from fnbuild.datadir import function_lock, remove_lock
from fnbuild.errors import BusyError, ConflictError, FnbuildError, NotReadyError
from fnbuild.platforms import Leftover, Progress, audit
from fnbuild.platforms.docker import image_code, inventory, leases, probes, records
from fnbuild.platforms.docker.engine import Engine
from fnbuild.platforms.docker.function_state import PLATFORM_NAME
from fnbuild.platforms.docker.inventory import (
    Container,
    FunctionObjects,
    find_unleased_deploy,
    is_interrupted,
)
from fnbuild.platforms.docker.labels import OWNER_LABEL, DockerKey, RevisionRecord
from fnbuild.platforms.docker.leases import RECOVERED, Lease
from fnbuild.platforms.docker.ports import listed_container_name
from fnbuild.platforms.docker.probes import ReadinessProbe
from fnbuild.platforms.docker.switch import replace_container
from fnbuild.platforms.revision_records import failure_prefix, failure_text

_INTERRUPTED_MESSAGE = "the deploy was interrupted"


def recover_interrupted(
    engine: Engine, functions: Sequence[FunctionObjects]
) -> dict[DockerKey, str]:
    """Finish or undo interrupted changes as far as possible without waiting for a model.

    Return the outcome by function. Functions that another client changes or recovers are left out.
    """
    outcomes = {}
    for objects in functions:
        if is_interrupted(engine, objects):
            # A failed repair must not prevent reading.
            with suppress(FnbuildError):
                outcomes[objects.key] = _recover_without_waiting(engine, objects.key)
    return outcomes


def _recover_without_waiting(engine: Engine, key: DockerKey) -> str:
    steps: list[str] = []
    with function_lock(*key, RECOVERED):
        lease = leases.acquire(engine, key, RECOVERED, timeout=0)
        try:
            recover(engine, key, lease, steps.append, wait=False)
        finally:
            lease.release()
        if not inventory.read_function(engine, key).exists:
            remove_lock(*key)
    if not steps:
        return "nothing had to be cleaned up"
    outcome = "; ".join(steps)
    audit.record_change("recover", f"{PLATFORM_NAME} {key}", outcome)
    return outcome


def recover(
    engine: Engine, key: DockerKey, lease: Lease, progress: Progress, *, wait: bool
) -> FunctionObjects:
    """Finish or undo an interrupted change; return the function in its new state.

    Without `wait`, a new container whose workers are still starting is left as it is, and the
    record of the lease stays. The caller holds the lease.
    """
    objects = inventory.read_function(engine, key)
    if lease.inherited_stage is None and objects.transient_containers:
        _check_no_unleased_deploy(engine, objects)
    if objects.transient_containers or lease.stage:
        Recovery(engine, objects, lease, progress, wait).run()
        objects = inventory.read_function(engine, key)
    if not objects.transient_containers:
        _record_serving(engine, objects)
    return objects


def _check_no_unleased_deploy(engine: Engine, objects: FunctionObjects) -> None:
    without_lease = replace(objects, leases=[])
    if (container := find_unleased_deploy(engine, without_lease)) is not None:
        place = container.labels.get(OWNER_LABEL) or "elsewhere"
        raise BusyError(
            f"{objects.key.name} is being deployed from {place} (container {container.name})",
            hint="try again when it has ended; if it was killed, remove that container:"
            f" `docker rm --force {container.name}`",
        )


def _record_serving(engine: Engine, objects: FunctionObjects) -> None:
    """Record the revision that serves if its deploy was killed before recording it."""
    active = objects.active
    if active is not None and all(revision.number != active.number for revision in objects.records):
        records.record_serving(engine, active)


@dataclass(frozen=True, slots=True)
class Recovery:
    """The recovery of one function, whose lease this process holds."""

    engine: Engine
    objects: FunctionObjects
    lease: Lease
    progress: Progress
    wait: bool

    def run(self) -> None:
        successor = self._find_container(self.objects.key.successor_name)
        for container in self.objects.transient_containers:
            if container.is_trial:
                self.progress("removed the trial container of an interrupted deploy")
                self.engine.remove(container.id)
                if successor is None:
                    self._record_failure(container.revision, _INTERRUPTED_MESSAGE)
        others = (other for other in self.objects.containers if not other.is_trial)
        old = next((container for container in others if container is not successor), None)
        if successor is None:
            self._restart_old(old, stopped=self.lease.stage == "switching")
        elif not self._decide(successor, old):
            # Without a lease, other data directories would take it for a deploy that goes on.
            self.lease.mark_unfinished()
            return
        self.lease.clear_stage()

    def _find_container(self, name: str) -> Container | None:
        containers = self.objects.containers
        return next((container for container in containers if container.name == name), None)

    def _decide(self, successor: Container, old: Container | None) -> bool:
        """Keep the old or the new container; return False if that cannot be decided yet."""
        assert successor.revision is not None
        disabled = successor.revision.function.spec.disable
        if old is None and (disabled or self._has_served(successor)):
            self._complete(successor, old)
            return True
        if successor.state in ("created", "exited", "dead"):
            self._undo(successor, old, _INTERRUPTED_MESSAGE)
            return True
        try:
            if not self._is_ready(successor, successor.revision):
                return False
        except NotReadyError as error:
            revision = successor.revision
            text = failure_text(revision.number, revision.key.name, error)
            self._undo(successor, old, text)
        else:
            self._complete(successor, old)
        return True

    def _has_served(self, successor: Container) -> bool:
        """Return True if the old container is gone because the new one was ready."""
        served = any(not revision.failed for revision in self.objects.records)
        return served and successor.state != "created"

    def _is_ready(self, successor: Container, revision: RevisionRecord) -> bool:
        if self.wait:
            ReadinessProbe(
                self.engine, successor.id, revision, self.progress, report_output=False
            ).wait_until_ready()
            return True
        status = probes.query_status(self.engine, successor)
        if status is None:
            ready, failed = successor.health in ("healthy", ""), successor.health == "unhealthy"
        else:
            ready, failed = status.state == "ready", status.state == "unhealthy"
        if failed or (not ready and self._is_overdue(successor, revision)):
            reason = status.full_reason if status is not None else ""
            prefix = failure_prefix(revision.number, revision.key.name)
            raise NotReadyError(prefix + (reason or "its workers did not start in time"))
        return ready

    def _is_overdue(self, successor: Container, revision: RevisionRecord) -> bool:
        state = inventory.container_state(self.engine, successor.id)
        try:
            started = datetime.fromisoformat(state.get("StartedAt", ""))
        except ValueError:
            return True
        age = datetime.fromtimestamp(self.engine.now(), UTC) - started
        return age.total_seconds() > start_seconds(revision.function)

    def _complete(self, successor: Container, old: Container | None) -> None:
        assert successor.revision is not None
        number = successor.revision.number
        self.lease.check()
        replace_container(self.engine, self.objects.key, old, successor.id)
        self.progress(f"finished an interrupted deploy: revision {number} serves")

    def _undo(self, successor: Container, old: Container | None, reason: str) -> None:
        assert successor.revision is not None
        self.lease.check()
        self.engine.remove(successor.id)
        self._record_failure(successor.revision, reason)
        number = successor.revision.number
        self.progress(f"undid the interrupted deploy of revision {number}")
        # Without a lease, only the containers show how far the switch came.
        unknown = self.lease.inherited_stage is None and old is not None and not old.is_running
        self._restart_old(old, stopped=unknown or self.lease.stage == "switching")

    def _restart_old(self, old: Container | None, *, stopped: bool) -> None:
        """Restart the container that the switch had stopped, or was about to stop."""
        if old is None:
            return
        if stopped and old.state in ("running", "exited"):
            self.engine.stop(old.id)  # it may still be finishing its requests
            self.engine.start(old.id)
            self.progress("started the old container again")
        if old.revision is not None and old.name != self.objects.key.container_name:
            self.engine.rename(old.id, self.objects.key.container_name)

    def _record_failure(self, revision: RevisionRecord | None, reason: str) -> None:
        numbers = [record.number for record in self.objects.records]
        if revision is None or revision.number in numbers:
            return
        with suppress(ConflictError):
            records.record_revision(self.engine, revision.with_failure(reason))


def find_leftovers(engine: Engine) -> list[Leftover]:
    """List the containers that killed clients have left."""
    leftovers = [
        Leftover("container", container.name, "its deploy was killed", objects.key.name)
        for objects in inventory.list_all_functions(engine)
        for container in _abandoned_containers(engine, objects)
    ]
    for listed in image_code.abandoned_readers(engine):
        name = listed_container_name(listed)
        reason = "its process was killed while it read code"
        leftovers.append(Leftover("container", name, reason))
    return leftovers


def _abandoned_containers(engine: Engine, objects: FunctionObjects) -> list[Container]:
    """Return the containers of a function that no deploy uses."""
    if not inventory.is_interrupted(engine, objects):
        return []
    # A new container that runs is kept: it takes over the next time the function is read.
    return [
        container
        for container in objects.transient_containers
        if container is not objects.container and (container.is_trial or not container.is_running)
    ]


def discard_leftover(engine: Engine, leftover: Leftover) -> bool:
    """Remove a container if it is still a leftover."""
    if leftover not in find_leftovers(engine):
        return False
    engine.remove(leftover.name)
    return True
