"""From the container that serves to the next one, on the same port.

A published port cannot move between containers, so the new one is proven first, without a port;
then the old one ends what it has in hand, and the new one starts where it was. Whatever goes wrong,
the old one is started again.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from fnbuild.errors import FnbuildError
from fnbuild.platforms import Progress
from fnbuild.platforms.docker.containers import Place, create_body, processor_archive
from fnbuild.platforms.docker.engine import Engine
from fnbuild.platforms.docker.inventory import Container
from fnbuild.platforms.docker.labels import Made
from fnbuild.platforms.docker.readiness import Wait

_NUCLIO_CONFIG = "/etc/nuclio/config/processor"


@dataclass(frozen=True, slots=True)
class Switch:
    """One revision about to run at its place, and the container that is there now."""

    engine: Engine
    made: Made
    place: Place
    old: Container | None
    progress: Progress

    def run(self, *, prove: bool) -> None:
        """Raises `NotReadyError` or what the engine refuses; the old container runs again then.

        With `prove` the revision has to become ready beside the old one before that is stopped.
        """
        try:
            if self._old_runs and prove:
                self._prove()
            successor = self._create(self.made.key.successor, self.place)
        except FnbuildError as error:
            self._say_what_serves(error, "goes on serving")
            raise
        try:
            self._take_over(successor)
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
            self.engine.stop(self.old.id)
        self._settle(successor)

    @property
    def _old_runs(self) -> bool:
        return self.old is not None and self.old.running

    def _create(self, name: str, place: Place, *, candidate: bool = False) -> str:
        body = create_body(self.made, place, candidate=candidate)
        container = self.engine.create(name, body)
        if (self.engine.container(container) or {}).get("Image") != self.made.image_id:
            # The name means another image by now: somebody has built under it meanwhile.
            self.engine.remove(container)
            body = create_body(self.made, replace(place, image=""), candidate=candidate)
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
            Wait(self.engine, trial, self.made, self.progress).until_ready()
        finally:
            self.engine.remove(trial)

    def _take_over(self, successor: str) -> None:
        closed = time.monotonic()
        if self.old is not None:
            if self._old_runs:
                self.progress("the old container ends what it has in hand")
            self.engine.stop(self.old.id)
        self.progress("starting the container")
        self.engine.start(successor)
        if self._old_runs:
            seconds = time.monotonic() - closed
            self.progress(f"the port was closed for {seconds:.2f} s")
        Wait(self.engine, successor, self.made, self.progress).until_ready()

    def _undo(self, successor: str, reason: BaseException) -> None:
        """Back to the old container; where that fails too, `reason` says so."""
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
            self.engine.start(self.old.id)
            if self.old.made is not None:
                Wait(self.engine, self.old.id, self.old.made, self.progress).until_ready()

    def _settle(self, successor: str) -> None:
        """Give the new container the function's name; the old one goes."""
        if self.old is not None:
            left = "" if self.old.made else self._config_of_nuclio(self.old.id)
            self.engine.remove(self.old.id)
            if left:
                with contextlib.suppress(FnbuildError):  # another container has it, too
                    self.engine.remove_volume(left)
        self.engine.rename(successor, self.made.key.container)

    def _config_of_nuclio(self, container: str) -> str:
        """The volume with the processor's configuration that a container of Nuclio has, "" for
        none. It has no labels: that it is mounted there tells whose it is.
        """
        mounts = (self.engine.container(container) or {}).get("Mounts") or []
        for one in mounts:
            if one.get("Destination") == _NUCLIO_CONFIG and one.get("Type") == "volume":
                name = str(one.get("Name", ""))
                return name if name == self.made.key.container else ""
        return ""
