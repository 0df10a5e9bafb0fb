"""What one platform says of the functions of a namespace, asked in the background.

A platform that is silent keeps nobody waiting: what it said last stands meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import replace
from http import HTTPStatus

from fnbuild.dashboard.asking import ask, said
from fnbuild.errors import FnbuildError, NotFoundError, UnavailableError
from fnbuild.platforms import Deployment, Platform

PATIENCE = 2.0
"""Seconds after which a platform counts as silent."""

_log = logging.getLogger(__name__)


class Feed:
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
        deadline = time.monotonic() + PATIENCE
        while self._answered < wanted:
            if self._question is None:
                self._question = asyncio.create_task(self._ask())
            waited = 0.0 if self._silence else deadline - time.monotonic()
            done, _ = await asyncio.wait({self._question}, timeout=max(0.0, waited))
            if not done:
                if not self._silence:
                    self._silence = f"has not answered for {PATIENCE:.0f} s"
                    self.version += 1
                return

    def notice(self) -> bool:
        """Whether the platform has come to know of a change. Asks nobody."""
        before = self._count
        with contextlib.suppress(FnbuildError):
            self._count = self.platform.changes()
        if self._count == before:
            return False
        self.changed()
        return True

    async def _ask(self) -> None:
        asked = time.monotonic()
        try:
            self._known = await ask(self.platform.deployments, self._namespace)
            self._silence, self.refusal = "", None
        except NotFoundError:
            # A namespace that is not there yet has no functions.
            self._known, self._silence, self.refusal = [], "", None
        except FnbuildError as error:
            how = "does not answer" if isinstance(error, UnavailableError) else "cannot be read"
            self._silence = f"{how}: {said(error)}"
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
