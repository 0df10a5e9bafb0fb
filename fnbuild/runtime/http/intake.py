"""Large bodies go from the socket straight to the memory in which they stay.

That spares a copy and most of the reads. Python 3.6 cannot do it; there a body comes in pieces, as
small ones do everywhere.
"""

import asyncio
import sys
from typing import TYPE_CHECKING, Optional

from .reader import RequestReader

if TYPE_CHECKING:
    from .connection import Connection

# Bodies of which less than this is missing arrive in one or two pieces anyway.
_WORTHWHILE = 64 * 1024

if sys.version_info >= (3, 7):

    class _Intake(asyncio.BufferedProtocol):
        """Stands in for the connection while a body arrives."""

        def __init__(self, connection: "Connection", reader: RequestReader) -> None:
            self._connection = connection
            self._reader = reader
            self.eof_received = connection.eof_received  # type: ignore[method-assign]
            self.connection_lost = connection.connection_lost  # type: ignore[method-assign]
            self.pause_writing = connection.pause_writing  # type: ignore[method-assign]
            self.resume_writing = connection.resume_writing  # type: ignore[method-assign]

        def get_buffer(self, _sizehint: int) -> memoryview:
            return self._reader.room()

        def buffer_updated(self, nbytes: int) -> None:
            if self._reader.filled(nbytes):
                self._connection.body_filled()


def intake(connection: "Connection", reader: RequestReader) -> "Optional[asyncio.BaseProtocol]":
    """What should take the rest of the body that is arriving, if not the connection itself."""
    if sys.version_info < (3, 7) or reader.missing < _WORTHWHILE:
        return None
    return _Intake(connection, reader)
