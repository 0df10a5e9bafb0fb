"""Run CPU-bound tasks for clients without a token in a few processes of low priority.

A thread would hold the interpreter's lock and delay every invocation that the dashboard relays.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from fnbuild.dashboard.cpu_tasks import FRAME_HEAD, CpuTask
from fnbuild.dashboard.http import RefusedError
from fnbuild.dashboard.threads import AdmissionLimiter
from fnbuild.errors import FnbuildError

_MAX_PROCESSES = 2
_MAX_WAITING = 10
_BODY_SECONDS = 20.0
_TASK_SECONDS = 20.0


class CpuPool:
    """Processes that each run one task at a time. They start when first needed."""

    def __init__(self) -> None:
        self._limiter = AdmissionLimiter("checks", _MAX_PROCESSES, _MAX_WAITING)
        self._idle: list[Process] = []

    async def start(self) -> None:
        """Do nothing: processes start when they are first needed."""

    async def stop(self) -> None:
        while self._idle:
            await _kill(self._idle.pop())

    async def respond(self, request: Request, task: CpuTask) -> Response:
        """Run a task on the body of a request and return the response. Raises `RefusedError`."""
        async with self._limiter.admit():
            try:
                body = await asyncio.wait_for(request.body(), _BODY_SECONDS)
            except TimeoutError as error:
                raise RefusedError(
                    408,
                    f"the body was not received within {_BODY_SECONDS:.0f} seconds",
                    hint="send it without pauses",
                ) from error
            async with self._limiter.slots:
                status, content = await self._run(task, body)
        return Response(content, status, media_type="application/json")

    async def run(self, task: CpuTask, body: bytes) -> bytes:
        """Run a task of the dashboard itself. Raises `RefusedError` while many others wait."""
        async with self._limiter.admit_to_slot():
            return (await self._run(task, body))[1]

    async def _run(self, task: CpuTask, body: bytes) -> tuple[int, bytes]:
        process = self._idle.pop() if self._idle else await _spawn()
        try:
            async with asyncio.timeout(_TASK_SECONDS):
                response = await _send_task(process, msgspec.json.encode(task), body)
        except TimeoutError as error:
            await _kill(process)
            raise RefusedError(
                422,
                f"the check takes longer than {_TASK_SECONDS:.0f} seconds",
                hint="`fnbuild validate` and `fnbuild invoke --image` have no such limit",
            ) from error
        except (asyncio.IncompleteReadError, OSError) as error:
            await _kill(process)
            raise FnbuildError(
                "the process that runs the check ended before it was complete",
                hint="try again; the machine may be short of memory",
            ) from error
        except BaseException:
            process.kill()
            raise
        self._idle.append(process)
        return response


async def _spawn() -> Process:
    # In a session of its own, so that Ctrl-C reaches only the dashboard, which closes its stdin.
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "fnbuild.dashboard.cpu_tasks",
        stdin=PIPE, stdout=PIPE, stderr=DEVNULL, start_new_session=True,
    )  # fmt: skip


async def _send_task(process: Process, task: bytes, body: bytes) -> tuple[int, bytes]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(FRAME_HEAD.pack(len(task), len(body)) + task)
    process.stdin.write(body)
    await process.stdin.drain()
    status, length = FRAME_HEAD.unpack(await process.stdout.readexactly(FRAME_HEAD.size))
    return status, await process.stdout.readexactly(length)


async def _kill(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()
