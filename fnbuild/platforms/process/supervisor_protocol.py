"""The supervisor's control socket: its messages, and the server that answers them.

Messages are JSON objects, one per line, over a unix socket:

    → {"version": "0.1.0", "verb": "switch", "arguments": {…}}
    ← {"progress": "starting 2 workers"}          any number of times
    ← {"result": {…}}  or  {"error": {"code", "message", "hint", "detail"}}

A client cancels its request by closing the connection. Both sides must have the same version of
fnbuild, except for the verbs `hello` and `handover`, which never change: with them a newer fnbuild
replaces an older supervisor without stopping a function.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

import fnbuild
from fnbuild.errors import FnbuildError, PlatformError, UnavailableError
from fnbuild.platforms import Progress
from fnbuild.runtime import sockets

MAX_LINE_LENGTH = 16 << 20
VERSION_INDEPENDENT = frozenset({"hello", "handover"})


RequestHandler = Callable[[str, dict[str, Any], Progress], Awaitable[dict[str, Any]]]
"""Handles a request: verb, arguments and progress. Returns the result, or raises `FnbuildError`."""

log = logging.getLogger(__name__)


class SupervisorRequest(msgspec.Struct, frozen=True):
    version: str
    verb: str
    arguments: dict[str, Any] = msgspec.field(default_factory=dict)


class ErrorMessage(msgspec.Struct, frozen=True):
    """A `FnbuildError` in a reply."""

    code: str
    message: str
    hint: str | None = None
    detail: str | None = None

    @classmethod
    def from_error(cls, error: FnbuildError) -> ErrorMessage:
        return cls(error.code, error.message, error.hint, error.detail)

    def to_error(self) -> FnbuildError:
        error_class = _error_classes().get(self.code, PlatformError)
        return error_class(self.message, hint=self.hint, detail=self.detail)


class SupervisorReply(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of a reply: exactly one of the fields is set."""

    progress: str | None = None
    result: dict[str, Any] | None = None
    error: ErrorMessage | None = None


def _error_classes() -> dict[str, type[FnbuildError]]:
    # A ConfigError cannot be sent without its report, and the supervisor raises none.
    return {
        error_class.code: error_class
        for error_class in FnbuildError.__subclasses__()
        if error_class.__init__ is FnbuildError.__init__
    }


def encode(message: SupervisorRequest | SupervisorReply) -> bytes:
    return msgspec.json.encode(message) + b"\n"


def decode_request(line: bytes) -> SupervisorRequest:
    """Return the request in a line; raise `msgspec.MsgspecError` if there is none."""
    return _REQUEST_DECODER.decode(line)


def decode_reply(line: bytes | str) -> SupervisorReply:
    """Return the reply in a line; raise `msgspec.MsgspecError` if there is none."""
    return _REPLY_DECODER.decode(line)


# Created at import, as in fnbuild.platforms.processor_status.
_REQUEST_DECODER = msgspec.json.Decoder(SupervisorRequest)
_REPLY_DECODER = msgspec.json.Decoder(SupervisorReply)


class SupervisorServer:
    """A server that passes requests on a unix socket to a handler. Only this user can connect."""

    def __init__(self, path: Path, handler: RequestHandler):
        self._path = path
        self._handler = handler
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()
        self._closed = False

    async def start(self) -> None:
        listening = sockets.listen_unix(self._path)
        # Not start_unix_server, which inspects the bound path from Python 3.13 on.
        self._server = await asyncio.start_server(
            self._handle_connection, sock=listening, limit=MAX_LINE_LENGTH
        )

    async def close(self, keep: asyncio.Task[Any] | None = None) -> None:
        """Accept no more requests and cancel the pending ones, except that of the task `keep`."""
        self._closed = True
        if self._server is not None:
            self._server.close()
        self._path.unlink(missing_ok=True)
        others = [task for task in self._open if task is not keep]
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others)

    async def _handle_connection(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError, ValueError, asyncio.LimitOverrunError):
            line = await reader.readline()
            # A connection accepted just before the close must not start anything after it.
            if line and not self._closed:
                await self._serve(line, reader, writer)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    async def _serve(
        self, line: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        work = asyncio.create_task(self._run_request(line, writer))
        disconnect = asyncio.create_task(reader.read(1))
        self._open.add(work)
        work.add_done_callback(self._open.discard)
        await asyncio.wait({work, disconnect}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            log.info("a client has cancelled its request")
            work.cancel()
        disconnect.cancel()
        await asyncio.wait({work, disconnect})

    async def _run_request(self, line: bytes, writer: asyncio.StreamWriter) -> None:
        def progress(sentence: str) -> None:
            _send(writer, SupervisorReply(progress=sentence))

        try:
            request = decode_request(line)
            _check_version(request)
            result = await self._handler(request.verb, request.arguments, progress)
            reply = SupervisorReply(result=result)
        except FnbuildError as error:
            reply = SupervisorReply(error=ErrorMessage.from_error(error))
        except msgspec.MsgspecError as error:
            reply = SupervisorReply(error=ErrorMessage("usage", f"invalid request: {error}"))
        except asyncio.CancelledError:
            reason = "the supervisor has cancelled the request, because it stops"
            reply = SupervisorReply(error=ErrorMessage("unavailable", reason))
        except Exception as error:  # a request must not end the supervisor
            log.exception("a request failed")
            reason = f"the supervisor failed: {type(error).__name__}: {error}"
            reply = SupervisorReply(error=ErrorMessage("platform", reason, "see supervisor.log"))
        _send(writer, reply)
        with contextlib.suppress(OSError):
            await writer.drain()


def _send(writer: asyncio.StreamWriter, reply: SupervisorReply) -> None:
    if not writer.is_closing():
        writer.write(encode(reply))


def _check_version(request: SupervisorRequest) -> None:
    if request.version != fnbuild.__version__ and request.verb not in VERSION_INDEPENDENT:
        raise UnavailableError(
            f"the supervisor is fnbuild {fnbuild.__version__}, this is {request.version}",
            hint="`fnbuild down && fnbuild up` replaces it",
        )
