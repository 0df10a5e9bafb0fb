"""The switch from the serving container to the next one on the same port.

A published port cannot move between containers. So the new revision is tried in a container without
a port; then the old container finishes its requests and stops, and the new one starts on the port.
If anything fails, the old container starts again.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
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
from fnbuild.platforms.docker.probes import ReadinessProbe, check_import

_NUCLIO_CONFIG = "/etc/nuclio/config/processor"


@dataclass(frozen=True, slots=True)
class Switch:
    """One revision about to run at its place, and the container that is there now.

    The lease records the switch before it begins, so that a client that is killed leaves a record
    of what is to be finished or undone (see `recovery`).
    """

    engine: Engine
    made: RevisionRecord
    place: ContainerPlacement
    old: Container | None
    progress: Progress
    lease: Lease | None = None

    def run(self, *, prove: bool) -> None:
        """Raises `NotReadyError` or what the engine refuses; the old container runs again then.

        With `prove` the revision has to become ready beside the old one before that is stopped.
        """
        try:
            if self._old_runs:
                (self._prove if prove else self._rehearse)()
            successor = self._create(self.made.key.successor, self.place)
        except FnbuildError as error:
            self._say_what_serves(error, "goes on serving")
            raise
        try:
            self._take_over(successor, proven=self._old_runs and prove)
        except BaseException as error:
            self._undo(successor, error)
            raise
        self._settle(successor)

    def make_again(self) -> str:
        """Make the container where there is none, and start it; its id. It stays, ready or not."""
        container = self._create(self.made.key.container, self.place)
        try:
            self.engine.start(container)
        except BaseException:
            self.engine.remove(container)
            raise
        return container

    def stand_by(self) -> None:
        """Make the container and leave it stopped; the old one goes."""
        successor = self._create(self.made.key.successor, self.place)
        if self.old is not None:
            self.progress("stopping the container")
            self._begin()
            self.engine.stop(self.old.id)
        self._settle(successor)

    @property
    def _old_runs(self) -> bool:
        return self.old is not None and self.old.running

    def _create(
        self,
        name: str,
        place: ContainerPlacement,
        *,
        candidate: bool = False,
        check_import: bool = False,
    ) -> str:
        make = partial(create_body, self.made, candidate=candidate, check_import=check_import)
        body = make(place)
        container = self.engine.create(name, body)
        if (self.engine.container(container) or {}).get("Image") != self.made.image_id:
            # The name means another image by now: somebody has built under it meanwhile.
            self.engine.remove(container)
            body = make(replace(place, image=""))
            container = self.engine.create(name, body)
        try:
            self.engine.put(container, processor_archive(self.made))
            for network in place.networks[1:]:
                self.engine.join(container, network, "" if candidate else self.made.key.container)
        except BaseException:
            self.engine.remove(container)
            raise
        return container

    def _prove(self) -> None:
        """See the revision become ready in a container without a port, which goes again."""
        self.progress("starting a trial container beside the one that serves")
        place = self.place.unpublished()
        trial = self._create(self.made.key.candidate, place, candidate=True)
        try:
            self.engine.start(trial)
            ReadinessProbe(self.engine, trial, self.made, self.progress).until_ready()
        finally:
            self.engine.remove(trial)

    def _rehearse(self) -> None:
        """Import the handler in a container without a GPU, before the old container stops."""
        self.progress("importing the handler without a GPU, while the old container serves")
        place = self.place.unpublished()
        trial = self._create(self.made.key.candidate, place, candidate=True, check_import=True)
        try:
            self.engine.start(trial)
            check_import(self.engine, trial, self.made, self.progress)
        finally:
            self.engine.remove(trial)

    def _take_over(self, successor: str, *, proven: bool) -> None:
        closed = time.monotonic()
        if self.old is not None:
            if self._old_runs:
                self.progress("the old container ends what it has in hand")
            self._begin()
            self.engine.stop(self.old.id)
        self.progress("starting the container")
        self.engine.start(successor)
        if self._old_runs:
            seconds = time.monotonic() - closed
            self.progress(f"the port was closed for {seconds:.2f} s")
        # The trial's output was shown already.
        ReadinessProbe(
            self.engine, successor, self.made, self.progress, output=not proven
        ).until_ready()

    def _begin(self) -> None:
        """Record that the old container is about to be stopped."""
        if self.lease is not None and self._old_runs:
            self.lease.enter("switching")

    def _end(self) -> None:
        if self.lease is not None:
            self.lease.finished()

    def _undo(self, successor: str, reason: BaseException) -> None:
        """Back to the old container; where that fails too, `reason` says so."""
        if self.lease is not None and self.lease.is_lost:
            return  # the new holder of the lease undoes the switch
        failed = []
        steps: tuple[Callable[[], None], ...] = (
            partial(self.engine.remove, successor),
            self._bring_back,
        )
        for step in steps:
            try:
                step()
            except FnbuildError as error:
                failed.append(error.message)
        if not failed:
            self._end()
        if not isinstance(reason, FnbuildError):
            return
        if not failed:
            self._say_what_serves(reason, "starts again")
        else:
            also = f"the old container could not be brought back: {failed[-1]}"
            reason.hint = f"{reason.hint}; {also}" if reason.hint else also

    def _say_what_serves(self, error: FnbuildError, how: str) -> None:
        if self.old is None or not self._old_runs:
            return
        made = self.old.made
        words = f"{f'revision {made.number}' if made else 'what Nuclio deployed'} {how}"
        error.hint = f"{words}; {error.hint}" if error.hint else words

    def _bring_back(self) -> None:
        if self.old is not None and self._old_runs:
            self.progress("starting the old container again")
            # The switch may have been interrupted while the container was stopping.
            self.engine.stop(self.old.id)
            self.engine.start(self.old.id)
            if self.old.made is not None:
                old = ReadinessProbe(
                    self.engine, self.old.id, self.old.made, self.progress, output=False
                )
                old.until_ready()

    def _settle(self, successor: str) -> None:
        if self.lease is not None:
            self.lease.check()
        replace_container(self.engine, self.made.key, self.old, successor)
        self._end()


def replace_container(
    engine: Engine, key: DockerKey, old: Container | None, successor: str
) -> None:
    """Remove the old container and give the new one the function's name."""
    if old is not None:
        config = "" if old.made else _nuclio_config_volume(engine, key, old.id)
        engine.remove(old.id)
        if config:
            with contextlib.suppress(FnbuildError):  # another container uses it as well
                engine.remove_volume(config)
    engine.rename(successor, key.container)


def _nuclio_config_volume(engine: Engine, key: DockerKey, container: str) -> str:
    """Return the volume with the processor's configuration of one of Nuclio's containers, or "".

    It has no labels: only its mount tells which function it belongs to.
    """
    for mount in (engine.container(container) or {}).get("Mounts") or []:
        if mount.get("Destination") == _NUCLIO_CONFIG and mount.get("Type") == "volume":
            name = str(mount.get("Name", ""))
            return name if name == key.container else ""
    return ""
