"""The services that the handlers of one dashboard share, and the order of their start and stop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.requests import Request

from fnbuild.dashboard.auth.tokens import FailedAttempts, SignInCodes, Tokens
from fnbuild.dashboard.cpu_pool import CpuPool
from fnbuild.dashboard.function_folders import Library, Uploads
from fnbuild.dashboard.inventory import Inventory
from fnbuild.dashboard.operations.runner import OperationRunner
from fnbuild.dashboard.reconciler import Reconciler
from fnbuild.dashboard.relay import Relay
from fnbuild.dashboard.reply_watch import ReplyWatch
from fnbuild.dashboard.sampling import Sampler
from fnbuild.dashboard.settings import Settings
from fnbuild.dashboard.threads import AdmissionLimiter
from fnbuild.store import Store

_MAX_READING, _MAX_WAITING_TO_READ = 2, 200
"""Requests that read a log or compare revisions at a time, and requests that wait for them."""


@dataclass(slots=True)
class Services:
    """The services of one dashboard.

    `reading_limiter` bounds the requests that keep a thread busy without a token.
    """

    settings: Settings
    store: Store
    tokens: Tokens
    failed_attempts: FailedAttempts
    sign_in_codes: SignInCodes
    operations: OperationRunner
    inventory: Inventory
    relay: Relay
    reply_watch: ReplyWatch
    sampler: Sampler
    reconciler: Reconciler
    uploads: Uploads
    library: Library
    cpu_pool: CpuPool
    reading_limiter: AdmissionLimiter

    @classmethod
    def create(cls, settings: Settings, store: Store) -> Services:
        operations = OperationRunner(store, settings.connect)
        inventory = Inventory(settings, operations)
        cpu_pool = CpuPool()
        reply_watch = ReplyWatch(inventory, cpu_pool)
        return cls(
            settings=settings,
            store=store,
            # A connection of its own: every request reads tokens and must not wait for writers.
            tokens=Tokens(Store(store.path)),
            failed_attempts=FailedAttempts(),
            sign_in_codes=SignInCodes(),
            operations=operations,
            inventory=inventory,
            relay=Relay(inventory, reply_watch),
            reply_watch=reply_watch,
            sampler=Sampler(inventory, settings),
            reconciler=Reconciler(inventory, operations),
            uploads=Uploads(),
            library=Library(settings.library),
            cpu_pool=cpu_pool,
            reading_limiter=AdmissionLimiter(
                "logs and comparisons", _MAX_READING, _MAX_WAITING_TO_READ
            ),
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run everything that works in the background while the block lasts."""
        services = (
            self.operations,
            self.uploads,
            self.inventory,
            self.relay,
            self.sampler,
            self.reconciler,
            self.cpu_pool,
            self.reply_watch,
        )
        started = []
        try:
            for service in services:
                await service.start()
                started.append(service)
            yield
        finally:
            for service in reversed(started):
                await service.stop()
            self.tokens.close()


def services_of(request: Request) -> Services:
    """Return the services of the dashboard that received the request."""
    services: Services = request.app.state.services
    return services
