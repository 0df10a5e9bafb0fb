"""The supervisor's control socket: its messages and its server.

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


class SupervisorRequest(msgspec.Struct, frozen=True):
    version: str
    verb: str
    arguments: dict[str, Any] = msgspec.field(default_factory=dict)


class ErrorMessage(msgspec.Struct, frozen=True):
    """An error of the family, as it travels."""

    code: str
    message: str
    hint: str | None = None
    detail: str | None = None

    @classmethod
    def of(cls, error: FnbuildError) -> ErrorMessage:
        return cls(error.code, error.message, error.hint, error.detail)

    def error(self) -> FnbuildError:
        kind = _error_classes().get(self.code, PlatformError)
        return kind(self.message, hint=self.hint, detail=self.detail)


class SupervisorReply(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of an answer: exactly one of the three is set."""

    progress: str | None = None
    result: dict[str, Any] | None = None
    error: ErrorMessage | None = None


def _error_classes() -> dict[str, type[FnbuildError]]:
    # A ConfigError cannot travel without its report, and nothing behind the socket raises one.
    return {
        kind.code: kind
        for kind in FnbuildError.__subclasses__()
        if kind.__init__ is FnbuildError.__init__
    }


def encode(message: SupervisorRequest | SupervisorReply) -> bytes:
    return msgspec.json.encode(message) + b"\n"


def decode_request(line: bytes) -> SupervisorRequest:
    """Return the request in a line; raise `msgspec.MsgspecError` if there is none."""
    return _REQUEST_DECODER.decode(line)


def decode_reply(line: bytes | str) -> SupervisorReply:
    """Return the reply in a line; raise `msgspec.MsgspecError` if there is none."""
    return _REPLY_DECODER.decode(line)


# Made at import, as in fnbuild.platforms.processor_status.
_REQUEST_DECODER = msgspec.json.Decoder(SupervisorRequest)
_REPLY_DECODER = msgspec.json.Decoder(SupervisorReply)


RequestHandler = Callable[[str, dict[str, Any], Progress], Awaitable[dict[str, Any]]]
"""Does what a verb says with its arguments; raises `FnbuildError`."""

log = logging.getLogger(__name__)


class ControlServer:
    """Serves `answer` on a unix socket that only this user can open."""

    def __init__(self, path: Path, answer: RequestHandler):
        self._path = path
        self._answer = answer
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()
        self._closed = False

    async def start(self) -> None:
        listening = sockets.listen_unix(self._path)
        # Not start_unix_server: from Python 3.13 on that one looks for the path it was bound to.
        self._server = await asyncio.start_server(
            self._handle_connection, sock=listening, limit=MAX_LINE_LENGTH
        )

    async def close(self, but: asyncio.Task[Any] | None = None) -> None:
        """Take no more requests and give up those under way, except the one of task `but`."""
        self._closed = True
        if self._server is not None:
            self._server.close()
        self._path.unlink(missing_ok=True)
        await self.interrupt(but)

    async def interrupt(self, but: asyncio.Task[Any] | None) -> None:
        """Give up the requests under way, except the one of task `but`."""
        others = [task for task in self._open if task is not but]
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others)

    async def finish(self) -> None:
        """Wait until the answers under way are sent."""
        if self._open:
            await asyncio.wait(self._open, timeout=5)

    async def _handle_connection(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError, ValueError, asyncio.LimitOverrunError):
            line = await reader.readline()
            # One that was let in a moment before the end, and asks only now, would undo it.
            if line and not self._closed:
                await self._serve(line, reader, writer)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    async def _serve(
        self, line: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        work = asyncio.create_task(self._do(line, writer))
        gone = asyncio.create_task(reader.read(1))
        self._open.add(work)
        work.add_done_callback(self._open.discard)
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            log.info("a request was taken back by its caller")
            work.cancel()
        gone.cancel()
        await asyncio.wait({work, gone})

    async def _do(self, line: bytes, writer: asyncio.StreamWriter) -> None:
        def progress(sentence: str) -> None:
            _send(writer, SupervisorReply(progress=sentence))

        try:
            request = decode_request(line)
            _check_version(request)
            result = await self._answer(request.verb, request.arguments, progress)
        except FnbuildError as error:
            _send(writer, SupervisorReply(error=ErrorMessage.of(error)))
        except msgspec.MsgspecError as error:
            _send(
                writer, SupervisorReply(error=ErrorMessage("usage", f"this is no request: {error}"))
            )
        except asyncio.CancelledError:
            reason = "the supervisor gave the request up, because it stops"
            _send(writer, SupervisorReply(error=ErrorMessage("unavailable", reason)))
        except Exception as error:  # the edge: one request must not end the supervisor
            log.exception("a request failed")
            reason = f"the supervisor failed: {type(error).__name__}: {error}"
            _send(
                writer,
                SupervisorReply(error=ErrorMessage("platform", reason, "see supervisor.log")),
            )
        else:
            _send(writer, SupervisorReply(result=result))
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
