"""Discover which platforms are available, and poll each for the functions of a namespace.

A platform that does not answer delays no client: its last answer is used meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http import HTTPStatus

from fnbuild.dashboard.settings import Settings
from fnbuild.dashboard.threads import error_line, run_in_thread
from fnbuild.errors import FnbuildError, NotFoundError, UnavailableError, UsageError
from fnbuild.platforms import Deployment, Platform, lookup
from fnbuild.platforms.kubeclient import connection

DISCOVERY_SECONDS = 30.0
"""Seconds after which those that were not there are asked again."""

_PROBE_SECONDS = 2.0


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
            self.question = asyncio.create_task(_read_notices(self.platform))
        done, _ = await asyncio.wait({self.question}, timeout=_PROBE_SECONDS)
        if not done:
            self.notices = [f"it has not answered for {_PROBE_SECONDS:.0f} s"]
            return
        self.notices, self.question = self.question.result(), None
        self.there = self.there or not self.notices


async def _read_notices(platform: Platform) -> list[str]:
    try:
        return await run_in_thread(platform.problems)
    except FnbuildError as error:
        return [error_line(error)]
    except Exception as error:  # noqa: BLE001 - one platform must not keep the others away
        return [f"it cannot be asked: {error}"]


class PlatformDiscovery:
    """The platforms, the default one first."""

    def __init__(self, settings: Settings):
        self.default = lookup(settings.platform)
        told = [self.default, *(lookup(name) for name in settings.platforms)]
        self._candidates = {one.name: Candidate(one, there=True) for one in told}
        for name in () if settings.platforms else _detectable_platforms():
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


def _detectable_platforms() -> Iterator[str]:
    """Those that need nobody to name them. In a pod there is no machine to run processes on."""
    if "KUBERNETES_SERVICE_HOST" not in os.environ:
        yield "process"
    yield "local"
    if connection.is_configured():
        yield "kube"


ANSWER_SECONDS = 2.0
"""Seconds after which a platform counts as silent."""

_log = logging.getLogger(__name__)


class FunctionPoller:
    """The functions of one namespace on one platform. For use on one event loop, but `changed`."""

    def __init__(self, platform: Platform, namespace: str):
        self.platform = platform
        self._namespace = namespace
        self._known: list[Deployment] = []
        self._silence = ""
        self.refusal: FnbuildError | None = None
        """The error if this dashboard may not read the namespace, else None."""
        self._answered = -1.0
        self._changed = 0.0
        self._count = 0
        self.version = 0
        """Another number whenever `deployments` may be others than before."""
        self._question: asyncio.Task[None] | None = None

    def changed(self) -> None:
        """What was asked before now is no longer the truth."""
        self._changed = time.monotonic()

    @property
    def deployments(self) -> list[Deployment]:
        """As the platform said last; of one that is silent, with a word about that."""
        if not self._silence:
            return self._known
        words = f"the platform {self.platform.name} {self._silence}; this is how it was last seen"
        return [replace(one, message=words) for one in self._known]

    @property
    def silence(self) -> str:
        """Why the platform says nothing, as in "has not answered"; "" when it speaks."""
        return self._silence

    async def fresh(self, age: float) -> None:
        """Let what is known be `age` seconds old at most, unless the platform is silent."""
        self.notice()
        wanted = max(self._changed, time.monotonic() - age)
        deadline = time.monotonic() + ANSWER_SECONDS
        while self._answered < wanted:
            if self._question is None:
                self._question = asyncio.create_task(self._ask())
            waited = 0.0 if self._silence else deadline - time.monotonic()
            done, _ = await asyncio.wait({self._question}, timeout=max(0.0, waited))
            if not done:
                if not self._silence:
                    self._silence = f"has not answered for {ANSWER_SECONDS:.0f} s"
                    self.version += 1
                return

    def notice(self) -> bool:
        """Whether the platform has come to know of a change. Asks nobody."""
        before = self._count
        with contextlib.suppress(FnbuildError):
            self._count = self.platform.change_counter()
        if self._count == before:
            return False
        self.changed()
        return True

    async def _ask(self) -> None:
        asked = time.monotonic()
        try:
            self._known = await run_in_thread(self.platform.deployments, self._namespace)
            self._silence, self.refusal = "", None
        except NotFoundError:
            # A namespace that is not there yet has no functions.
            self._known, self._silence, self.refusal = [], "", None
        except FnbuildError as error:
            how = "does not answer" if isinstance(error, UnavailableError) else "cannot be read"
            self._silence = f"{how}: {error_line(error)}"
            self.refusal = error if error.http_status == HTTPStatus.FORBIDDEN else None
        except Exception as error:  # noqa: BLE001
            # One platform that fails in a way unforeseen must not hide the others.
            _log.exception("the functions of the platform %s cannot be read", self.platform.name)
            self._silence = f"cannot be read: {error}"
        finally:
            self._answered = asked
            self.version += 1
            self._question = None

    async def close(self) -> None:
        if self._question is not None:
            self._question.cancel()
