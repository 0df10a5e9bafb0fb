"""The supervisor's end of its control socket: requests in, progress and one answer out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

import fnbuild
from fnbuild.errors import FnbuildError, UnavailableError
from fnbuild.platforms import Progress
from fnbuild.platforms.process.protocol import (
    LONGEST_LINE,
    TIMELESS,
    Failure,
    Reply,
    Request,
    decode_request,
    encode,
)
from fnbuild.runtime.http import unix

Answer = Callable[[str, dict[str, Any], Progress], Awaitable[dict[str, Any]]]
"""Does what a verb says with its arguments; raises `FnbuildError`."""

log = logging.getLogger(__name__)


class ControlServer:
    """Serves `answer` on a unix socket that only this user can open."""

    def __init__(self, path: Path, answer: Answer):
        self._path = path
        self._answer = answer
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()
        self._closed = False

    async def start(self) -> None:
        listening = unix.listen(self._path)
        # Not start_unix_server: from Python 3.13 on that one looks for the path it was bound to.
        self._server = await asyncio.start_server(
            self._converse, sock=listening, limit=LONGEST_LINE
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

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
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
            _send(writer, Reply(progress=sentence))

        try:
            request = decode_request(line)
            _check_version(request)
            result = await self._answer(request.verb, request.arguments, progress)
        except FnbuildError as error:
            _send(writer, Reply(error=Failure.of(error)))
        except msgspec.MsgspecError as error:
            _send(writer, Reply(error=Failure("usage", f"this is no request: {error}")))
        except asyncio.CancelledError:
            reason = "the supervisor gave the request up, because it stops"
            _send(writer, Reply(error=Failure("unavailable", reason)))
        except Exception as error:  # the edge: one request must not end the supervisor
            log.exception("a request failed")
            reason = f"the supervisor failed: {type(error).__name__}: {error}"
            _send(writer, Reply(error=Failure("platform", reason, "see supervisor.log")))
        else:
            _send(writer, Reply(result=result))
        with contextlib.suppress(OSError):
            await writer.drain()


def _send(writer: asyncio.StreamWriter, reply: Reply) -> None:
    if not writer.is_closing():
        writer.write(encode(reply))


def _check_version(request: Request) -> None:
    if request.version != fnbuild.__version__ and request.verb not in TIMELESS:
        raise UnavailableError(
            f"the supervisor is fnbuild {fnbuild.__version__}, this is {request.version}",
            hint="`fnbuild down && fnbuild up` replaces it",
        )
