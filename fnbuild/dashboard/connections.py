"""One client's connection to the dashboard: uvicorn's, with an end to waiting for a request.

uvicorn ends a connection that is idle behind a reply, but waits for ever for the first byte of the
first request, for the rest of a head, and for the rest of a body whose request is answered.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol

_REPLY = b"HTTP/1.1 %b\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class Connection(H11Protocol):
    """Closes itself when no whole head came within `HEAD_SECONDS`: 408 where a part of one did.

    Beyond `MOST` open connections of an address the next is answered 503 and closed.
    """

    HEAD_SECONDS: ClassVar[float] = 20.0
    """From when a connection opens, or from the first byte behind a reply."""

    MOST: ClassVar[int] = 1000

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.MOST:
            self._end(b"503 Service Unavailable")
        else:
            self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unwatch()
        super().connection_lost(exc)

    def _watch(self) -> None:
        """Time runs while bytes belong to no request that is worked on."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._unwatch()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(self.HEAD_SECONDS, self._overdue)

    def _unwatch(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _overdue(self) -> None:
        incomplete, _ = self.conn.trailing_data
        if incomplete and not self.transport.is_closing():
            self._end(b"408 Request Timeout")
        else:
            self.transport.close()

    def _end(self, status: bytes) -> None:
        self.transport.write(_REPLY % status)
        self.transport.close()
