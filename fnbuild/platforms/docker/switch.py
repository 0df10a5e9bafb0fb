"""The switch from the serving container to the next one on the same port.

A published port cannot move between containers. So the new revision is tried in a container without
a port; then the old container finishes its requests and stops, and the new one starts on the port.
If anything fails, the old container starts again.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from fnbuild.errors import FnbuildError
from fnbuild.platforms import Progress
from fnbuild.platforms.docker.container_config import (
    ContainerPlacement,
    create_body,
    processor_archive,
)
from fnbuild.platforms.docker.engine import Engine
from fnbuild.platforms.docker.inventory import Container
from fnbuild.platforms.docker.labels import DockerKey, RevisionRecord
from fnbuild.platforms.docker.leases import Lease
from fnbuild.platforms.docker.probes import ReadinessProbe, wait_for_import_check

_NUCLIO_CONFIG = "/etc/nuclio/config/processor"


@dataclass(frozen=True, slots=True)
class Switch:
    """The switch to the container of a new revision from the old one, if there is one.

    The lease records the switch before it starts, so that `recovery` can finish or undo it if the
    client is killed.
    """

    engine: Engine
    revision: RevisionRecord
    placement: ContainerPlacement
    old: Container | None
    progress: Progress
    lease: Lease | None = None

    def run(self, *, trial: bool) -> None:
        """Switch to the new revision, and wait until it is ready.

        With `trial`, the revision must become ready beside the old container before that stops. If
        the switch fails, the old container runs again, and the error is raised.
        """
        try:
            if self._old_was_running:
                (self._run_trial if trial else self._check_import)()
            successor = self._create(self.revision.key.successor_name, self.placement)
        except FnbuildError as error:
            self._add_serving_hint(error, "goes on serving")
            raise
        try:
            self._switch_over(successor, show_output=not (self._old_was_running and trial))
        except BaseException as error:
            self._roll_back(successor, error)
            raise
        self._complete(successor)

    def create_started(self) -> str:
        """Create and start the container, which must not exist, and return its id."""
        container = self._create(self.revision.key.container_name, self.placement)
        try:
            self.engine.start(container)
        except BaseException:
            self.engine.remove(container)
            raise
        return container

    def create_stopped(self) -> None:
        """Replace the old container by one that is not started."""
        successor = self._create(self.revision.key.successor_name, self.placement)
        if self.old is not None:
            self.progress("stopping the container")
            self._record_start()
            self.engine.stop(self.old.id)
        self._complete(successor)

    @property
    def _old_was_running(self) -> bool:
        """True if the old container ran when the switch began."""
        return self.old is not None and self.old.is_running

    def _create(
        self,
        name: str,
        placement: ContainerPlacement,
        *,
        trial: bool = False,
        check_import: bool = False,
    ) -> str:
        body_for = partial(create_body, self.revision, trial=trial, check_import=check_import)
        container = self.engine.create(name, body_for(placement))
        if (self.engine.container(container) or {}).get("Image") != self.revision.image_id:
            # The tag has moved to another image since the plan was made.
            self.engine.remove(container)
            container = self.engine.create(name, body_for(replace(placement, image="")))
        try:
            self.engine.upload_archive(container, processor_archive(self.revision))
            alias = "" if trial else self.revision.key.container_name
            for network in placement.networks[1:]:
                self.engine.connect_network(container, network, alias)
        except BaseException:
            self.engine.remove(container)
            raise
        return container

    def _run_trial(self) -> None:
        """Wait until the revision is ready in a container without a port, and remove that."""
        self.progress("starting a trial container beside the one that serves")
        with self.started_trial() as trial:
            ReadinessProbe(self.engine, trial, self.revision, self.progress).wait_until_ready()

    def _check_import(self) -> None:
        """Import the handler in a container without a GPU, while the old container serves."""
        self.progress("importing the handler without a GPU, while the old container serves")
        with self.started_trial(check_import=True) as trial:
            wait_for_import_check(self.engine, trial, self.revision, self.progress)

    @contextlib.contextmanager
    def started_trial(self, *, check_import: bool = False) -> Iterator[str]:
        """Provide a container without a port, which is removed after the block."""
        name, placement = self.revision.key.trial_name, self.placement.unpublished()
        trial = self._create(name, placement, trial=True, check_import=check_import)
        try:
            self.engine.start(trial)
            yield trial
        finally:
            self.engine.remove(trial)

    def _switch_over(self, successor: str, *, show_output: bool) -> None:
        """Stop the old container and start the new one; with `show_output`, report its output."""
        closed = time.monotonic()
        if self.old is not None:
            if self._old_was_running:
                self.progress("the old container finishes its requests")
            self._record_start()
            self.engine.stop(self.old.id)
        self.progress("starting the container")
        self.engine.start(successor)
        if self._old_was_running:
            seconds = time.monotonic() - closed
            self.progress(f"the port was closed for {seconds:.2f} s")
        ReadinessProbe(
            self.engine, successor, self.revision, self.progress, report_output=show_output
        ).wait_until_ready()

    def _record_start(self) -> None:
        """Record that the old container is about to stop."""
        if self.lease is not None and self._old_was_running:
            self.lease.enter_stage("switching")

    def _record_end(self) -> None:
        if self.lease is not None:
            self.lease.clear_stage()

    def _roll_back(self, successor: str, cause: BaseException) -> None:
        """Return to the old container, and add the outcome to the hint of `cause`."""
        if self.lease is not None and self.lease.is_lost:
            return  # the new holder of the lease undoes the switch
        failures = []
        steps: tuple[Callable[[], None], ...] = (
            partial(self.engine.remove, successor),
            self._restart_old,
        )
        for step in steps:
            try:
                step()
            except FnbuildError as error:
                failures.append(error.message)
        if not failures:
            self._record_end()
        if not isinstance(cause, FnbuildError):
            return
        if not failures:
            self._add_serving_hint(cause, "starts again")
        else:
            failure = f"the old container could not be started again: {failures[-1]}"
            cause.hint = f"{cause.hint}; {failure}" if cause.hint else failure

    def _add_serving_hint(self, error: FnbuildError, outcome: str) -> None:
        if self.old is None or not self._old_was_running:
            return
        revision = self.old.revision
        name = f"revision {revision.number}" if revision else "the container of Nuclio"
        text = f"{name} {outcome}"
        error.hint = f"{text}; {error.hint}" if error.hint else text

    def _restart_old(self) -> None:
        if self.old is not None and self._old_was_running:
            self.progress("starting the old container again")
            # The switch may have been interrupted while the container was stopping.
            self.engine.stop(self.old.id)
            self.engine.start(self.old.id)
            if self.old.revision is not None:
                old = ReadinessProbe(
                    self.engine, self.old.id, self.old.revision, self.progress, report_output=False
                )
                old.wait_until_ready()

    def _complete(self, successor: str) -> None:
        if self.lease is not None:
            self.lease.check()
        replace_container(self.engine, self.revision.key, self.old, successor)
        self._record_end()


def replace_container(
    engine: Engine, key: DockerKey, old: Container | None, successor: str
) -> None:
    """Remove the old container and give the new one the function's name."""
    if old is not None:
        config = "" if old.revision else _nuclio_config_volume(engine, key, old.id)
        engine.remove(old.id)
        if config:
            with contextlib.suppress(FnbuildError):  # another container uses it
                engine.remove_volume(config)
    engine.rename(successor, key.container_name)


def _nuclio_config_volume(engine: Engine, key: DockerKey, container: str) -> str:
    """Return the volume with the processor's configuration of one of Nuclio's containers, or "".

    It has no labels: only its mount tells which function it belongs to.
    """
    for mount in (engine.container(container) or {}).get("Mounts") or []:
        if mount.get("Destination") == _NUCLIO_CONFIG and mount.get("Type") == "volume":
            name = str(mount.get("Name", ""))
            return name if name == key.container_name else ""
    return ""
