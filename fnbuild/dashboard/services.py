"""What the handlers of one dashboard share, and the order in which it starts and stops."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.requests import Request

from fnbuild.dashboard.auth.tokens import FailedAttempts, SignInCodes, Tokens
from fnbuild.dashboard.cpu_pool import CpuPool
from fnbuild.dashboard.inventory import Inventory
from fnbuild.dashboard.operations.runner import OperationRunner
from fnbuild.dashboard.reconciler import Reconciler
from fnbuild.dashboard.relay import Relay
from fnbuild.dashboard.sampling import Sampler
from fnbuild.dashboard.settings import Settings
from fnbuild.dashboard.sources import Library, Uploads
from fnbuild.dashboard.threads import AdmissionLimiter
from fnbuild.store import Store

_READING, _WAITING_TO_READ = 2, 200
"""Requests at a time that read a log or compare revisions, and such that wait for them."""


@dataclass(slots=True)
class Services:
    """`reading` bounds the requests that keep a thread busy without a token."""

    settings: Settings
    store: Store
    tokens: Tokens
    attempts: FailedAttempts
    sign_in: SignInCodes
    operations: OperationRunner
    inventory: Inventory
    relay: Relay
    sampling: Sampler
    reconciler: Reconciler
    uploads: Uploads
    library: Library
    cpu_workers: CpuPool
    reading: AdmissionLimiter

    @classmethod
    def of(cls, settings: Settings, store: Store) -> Services:
        operations = OperationRunner(store)
        inventory = Inventory(settings, operations)
        return cls(
            settings,
            store,
            # Every request asks them, and must not wait for what threads write.
            Tokens(Store(store.path)),
            FailedAttempts(),
            SignInCodes(),
            operations,
            inventory,
            Relay(inventory),
            Sampler(inventory, settings),
            Reconciler(inventory, operations),
            Uploads(),
            Library(settings.library),
            CpuPool(),
            AdmissionLimiter("logs and comparisons", _READING, _WAITING_TO_READ),
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Everything that works in the background, while the block lasts."""
        parts = (
            self.operations,
            self.uploads,
            self.inventory,
            self.relay,
            self.sampling,
            self.reconciler,
            self.cpu_workers,
        )
        started = []
        try:
            for part in parts:
                await part.start()
                started.append(part)
            yield
        finally:
            for part in reversed(started):
                await part.stop()
            self.tokens.close()


def services_of(request: Request) -> Services:
    """Return what the handlers of the request's dashboard share."""
    services: Services = request.app.state.services
    return services
