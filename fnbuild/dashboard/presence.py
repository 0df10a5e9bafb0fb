"""Which platforms this dashboard shows: those it was told to, or all that are there."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass, field

from fnbuild.dashboard.asking import ask, said
from fnbuild.dashboard.settings import Settings
from fnbuild.errors import FnbuildError, UsageError
from fnbuild.platforms import Platform, lookup
from fnbuild.platforms.kubeclient import connection

INTERVAL = 30.0
"""Seconds after which those that were not there are asked again."""

_PATIENCE = 2.0


@dataclass(slots=True)
class Candidate:
    """A platform that may be there. One that was `there` once stays, silent or not."""

    platform: Platform
    there: bool
    notices: list[str] = field(default_factory=list)
    question: asyncio.Task[list[str]] | None = None

    async def ask(self) -> None:
        """See whether it answers, and what is wrong with it."""
        if self.question is None:
            self.question = asyncio.create_task(_notices(self.platform))
        done, _ = await asyncio.wait({self.question}, timeout=_PATIENCE)
        if not done:
            self.notices = [f"it has not answered for {_PATIENCE:.0f} s"]
            return
        self.notices, self.question = self.question.result(), None
        self.there = self.there or not self.notices


async def _notices(platform: Platform) -> list[str]:
    try:
        return await ask(platform.notices)
    except FnbuildError as error:
        return [said(error)]
    except Exception as error:  # noqa: BLE001 - one platform must not keep the others away
        return [f"it cannot be asked: {error}"]


class Presence:
    """The platforms, the default one first."""

    def __init__(self, settings: Settings):
        self.default = lookup(settings.platform)
        told = [self.default, *(lookup(name) for name in settings.platforms)]
        self._candidates = {one.name: Candidate(one, there=True) for one in told}
        for name in () if settings.platforms else _possible():
            if name not in self._candidates:
                self._candidates[name] = Candidate(lookup(name), there=name == "process")

    async def ask(self) -> None:
        """Ask all of them at once; none is waited for longer than `_PATIENCE`."""
        await asyncio.gather(*(one.ask() for one in self._candidates.values()))

    @property
    def shown(self) -> list[Candidate]:
        return [one for one in self._candidates.values() if one.there]

    def platform(self, name: str = "") -> Platform:
        """One by name, the default without; `UsageError` for one that is not shown here."""
        if not name:
            return self.default
        wanted = lookup(name).name
        there = {one.platform.name: one.platform for one in self.shown}
        if wanted not in there:
            raise UsageError(
                f"this dashboard does not show the platform {name}",
                hint=f"it shows {', '.join(there)}",
            )
        return there[wanted]


def _possible() -> Iterator[str]:
    """Those that need nobody to name them. In a pod there is no machine to run processes on."""
    if "KUBERNETES_SERVICE_HOST" not in os.environ:
        yield "process"
    yield "local"
    if connection.is_configured():
        yield "kube"
