"""Discover which platforms are available, and poll each for the functions of a namespace.

A platform that does not answer delays no client: its last answer is used meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass, field, replace
from http import HTTPStatus

from fnbuild.dashboard.settings import Settings
from fnbuild.dashboard.threads import run_in_thread
from fnbuild.errors import FnbuildError, NotFoundError, UnavailableError, UsageError
from fnbuild.platforms import Deployment, Platform, all_platforms, lookup

DISCOVERY_SECONDS = 30.0
"""The interval at which platforms are probed."""

ANSWER_SECONDS = 2.0
"""Seconds after which a platform counts as not answering."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Candidate:
    """A platform that may be available. Once `available`, it remains so even without answers."""

    platform: Platform
    available: bool
    notices: list[str] = field(default_factory=list)
    request: asyncio.Task[list[str]] | None = None

    async def probe(self) -> None:
        """Check whether the platform answers, and read its notices."""
        if self.request is None:
            self.request = asyncio.create_task(_read_notices(self.platform))
        done, _ = await asyncio.wait({self.request}, timeout=ANSWER_SECONDS)
        if not done:
            self.notices = [f"it has not answered for {ANSWER_SECONDS:.0f} s"]
            return
        self.notices, self.request = self.request.result(), None
        self.available = self.available or not self.notices


async def _read_notices(platform: Platform) -> list[str]:
    try:
        return await run_in_thread(platform.problems)
    except FnbuildError as error:
        return [error.line]
    except Exception as error:  # noqa: BLE001 - one platform must not hide the others
        return [f"it cannot be probed: {error}"]


class PlatformDiscovery:
    """The platforms of the settings or, without any there, all that are found on this machine."""

    def __init__(self, settings: Settings):
        self.default = lookup(settings.platform, settings.connect)
        configured = [
            self.default,
            *(lookup(name, settings.connect) for name in settings.platforms),
        ]
        self._candidates = {
            platform.name: Candidate(platform, available=True) for platform in configured
        }
        for platform in () if settings.platforms else all_platforms(settings.connect):
            if platform.may_be_probed() and platform.name not in self._candidates:
                available = not platform.needs_running_service
                self._candidates[platform.name] = Candidate(platform, available)

    async def probe(self) -> None:
        """Probe all platforms at once; none is waited for longer than `ANSWER_SECONDS`."""
        await asyncio.gather(*(candidate.probe() for candidate in self._candidates.values()))

    @property
    def available(self) -> list[Candidate]:
        """The available platforms, the default one first."""
        return [candidate for candidate in self._candidates.values() if candidate.available]

    def platform(self, name: str = "") -> Platform:
        """Return a platform by name, else the default. Raises `UsageError` if not available."""
        if not name:
            return self.default
        wanted = lookup(name).name
        platforms = {candidate.platform.name: candidate.platform for candidate in self.available}
        if wanted not in platforms:
            raise UsageError(
                f"this dashboard does not show the platform {name}",
                hint=f"it shows {', '.join(platforms)}",
            )
        return platforms[wanted]


class FunctionPoller:
    """Polls one platform for the functions of one namespace.

    For use on one event loop, except for `invalidate`.
    """

    def __init__(self, platform: Platform, namespace: str):
        self.platform = platform
        self._namespace = namespace
        self._deployments: list[Deployment] = []
        self.outage = ""
        """The reason without an answer, as in "has not answered"; "" if the platform answers."""
        self.refusal: FnbuildError | None = None
        """The error if this dashboard may not read the namespace, else None."""
        self._answered = -1.0
        self._invalidated = 0.0
        self._change_count = 0
        self.version = 0
        """A counter that increases whenever `deployments` may differ from before."""
        self._request: asyncio.Task[None] | None = None

    def invalidate(self) -> None:
        """Let the next `refresh` wait for an answer to a request that begins after this call."""
        self._invalidated = time.monotonic()

    @property
    def deployments(self) -> list[Deployment]:
        """The last answer; during an outage, each message says so."""
        if not self.outage:
            return self._deployments
        message = f"the platform {self.platform.name} {self.outage}; this is how it was last seen"
        return [replace(deployment, message=message) for deployment in self._deployments]

    async def refresh(self, max_age: float) -> None:
        """Wait until the answer is `max_age` seconds old at most, unless there is an outage."""
        self.invalidate_if_changed()
        required = max(self._invalidated, time.monotonic() - max_age)
        deadline = time.monotonic() + ANSWER_SECONDS
        while self._answered < required:
            if self._request is None:
                self._request = asyncio.create_task(self._poll())
            timeout = 0.0 if self.outage else deadline - time.monotonic()
            done, _ = await asyncio.wait({self._request}, timeout=max(0.0, timeout))
            if not done:
                if not self.outage:
                    self.outage = f"has not answered for {ANSWER_SECONDS:.0f} s"
                    self.version += 1
                return

    def invalidate_if_changed(self) -> bool:
        """Invalidate the answer if the platform's change counter has moved; return True if so."""
        previous = self._change_count
        with contextlib.suppress(FnbuildError):
            self._change_count = self.platform.change_counter()
        if self._change_count == previous:
            return False
        self.invalidate()
        return True

    async def _poll(self) -> None:
        began = time.monotonic()
        try:
            self._deployments = await run_in_thread(self.platform.deployments, self._namespace)
            self.outage, self.refusal = "", None
        except NotFoundError:
            # A namespace that does not exist yet has no functions.
            self._deployments, self.outage, self.refusal = [], "", None
        except FnbuildError as error:
            problem = "does not answer" if isinstance(error, UnavailableError) else "cannot be read"
            self.outage = f"{problem}: {error.line}"
            self.refusal = error if error.http_status == HTTPStatus.FORBIDDEN else None
        except Exception as error:  # noqa: BLE001
            # An unexpected failure of one platform must not hide the others.
            _log.exception("the functions of the platform %s cannot be read", self.platform.name)
            self.outage = f"cannot be read: {error}"
        finally:
            self._answered = began
            self.version += 1
            self._request = None

    async def close(self) -> None:
        if self._request is not None:
            self._request.cancel()
