"""The event that a worker has in hand, and the time it may take."""

import asyncio
from typing import Callable, Optional, Tuple

from . import wire
from .exchange import Exchange
from .shared import Payload

Cargo = Tuple[Exchange, wire.Encoded, Payload]


class Flight:
    """At most one event at a time. `expired` is called when one takes longer than `timeout`."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        timeout: Optional[float],
        expired: Callable[[Exchange], None],
    ) -> None:
        self.exchange: Optional[Exchange] = None
        self._cargo: Optional[Cargo] = None
        self._loop = loop
        self._timeout = timeout
        self._expired = expired
        self._deadline = 0.0
        self._timer: Optional[asyncio.TimerHandle] = None

    def begin(self, exchange: Exchange, meta: wire.Encoded, body: Payload) -> None:
        """The worker has the event from now on."""
        self.exchange = exchange
        self._cargo = (exchange, meta, body)
        if self._timeout is not None:
            self._deadline = self._loop.time() + self._timeout
            if self._timer is None:
                self._timer = self._loop.call_at(self._deadline, self._check)

    def end(self) -> Optional[Cargo]:
        """The worker is done with it, one way or another."""
        cargo, self._cargo, self.exchange = self._cargo, None, None
        return cargo

    def _check(self) -> None:
        # One timer, moved only when it fires: most events end long before.
        self._timer = None
        if self.exchange is None:
            return
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._check)
        else:
            self._expired(self.exchange)
