"""The life of a worker: its processes are started, restarted, put to sleep and ended."""

import abc
import asyncio
import signal
import time
from typing import Any, Awaitable, Dict, List, Optional

from .. import wire
from ..logs import LogRecord
from ..tracebacks import last_output
from .launch import begin_message
from .pending_event import PendingEvent
from .readiness_timer import ReadinessTimer
from .spawner import ProcessRequester
from .worker_failure import Backoff, WorkerFailure, describe_exit, exit_failure, startup_failure
from .worker_owner import WorkerOwner
from .worker_process import WorkerProcess

# A process that has run for this time, or has answered an event, started successfully.
_STABLE_SECONDS = 10.0

# A worker that restarts waits for its back-off.
WORKER_STATES = ("starting", "ready", "busy", "restarting", "unhealthy", "asleep", "stopped")


class WorkerLifecycle(ProcessRequester):
    """A worker through all its processes, apart from its events.

    `state` is one of WORKER_STATES. `failure` is the reason why it is not ready, with the handler's
    traceback if there is one.
    """

    def __init__(self, pool: WorkerOwner[Any], number: int) -> None:
        self.name = str(number)
        self.device = pool.device_of(number)
        self.state = "starting"
        self.failure: Optional[WorkerFailure] = None
        self.restarts = 0
        self.process: Optional[WorkerProcess] = None
        self._pool = pool
        self._log = pool.log
        self._loop = pool.loop
        self._backoff = Backoff()
        self._start_timer: Optional[asyncio.TimerHandle] = None
        self._readiness = ReadinessTimer(
            pool.loop, pool.config.readiness_timeout, self.name, self._set_reported_failure
        )
        self._ready_at = 0.0
        self._reported_failure: Optional[WorkerFailure] = None
        self._expired = False
        self._reload_future: Optional[asyncio.Future[str]] = None
        self._end_futures: List[asyncio.Future[None]] = []
        self._stopping = False

    @abc.abstractmethod
    def _fail_event(self, reason: str, unread: bool) -> Optional[PendingEvent]:
        """Answer or pass on the event of a process that has ended; return it if it is lost."""

    @property
    def pid(self) -> int:
        """The id of the current process; 0 without one."""
        return self.process.pid if self.process is not None else 0

    def start(self) -> None:
        """Start a process; `state` and `failure` tell whether that succeeds."""
        if self._start_timer is not None:
            self._start_timer.cancel()
            self._start_timer = None
        self.state = "starting"
        self._reported_failure = None
        self._expired = self._stopping = False
        self._ready_at = 0.0
        self._readiness.reset()
        self._pool.spawner.request(self)

    def on_process(self, process: WorkerProcess) -> None:
        self.process = process
        process.owner = self
        if self._stopping or self._pool.stopping:
            process.kill()
        pool = self._pool
        process.send(
            wire.BEGIN,
            dict(
                begin_message(pool.config, pool.trigger, self.name, self._log.threshold),
                device=self.device,
            ),
        )
        self._readiness.start(process, self._readiness.step)

    def on_spawn_failure(self, failure: WorkerFailure) -> None:
        self._on_failed_start(failure)
        self._restart_later()

    def _set_reported_failure(self, failure: WorkerFailure) -> None:
        self._reported_failure = failure

    def _on_failed(self, message: wire.Message) -> None:
        self._reported_failure = WorkerFailure(message.meta["reason"], message.meta["message"])
        if self._ready_at and self.state != "asleep":
            reason = "worker %s is replaced: %s" % (self.name, self._reported_failure.reason)
            self._reported_failure = WorkerFailure.from_reason(reason)

    def _on_started(self, message: wire.Message) -> None:
        self._pool.on_started(message.meta)

    def _on_imported(self, _message: wire.Message) -> None:
        self._readiness.step = "init_context"

    def _on_reloaded(self, message: wire.Message) -> None:
        self._end_reload(message.meta["answer"])

    def _end_reload(self, answer: str) -> None:
        if self._reload_future is not None and not self._reload_future.done():
            self._reload_future.set_result(answer)

    def _on_ready(self, message: wire.Message) -> None:
        if self.process is not None:
            self.process.read_output()
        self._readiness.cancel()
        if self._stopping:
            return
        if self.failure is not None:
            text = "worker %s is ready again" % self.name
            self._log.write(LogRecord("info", text, worker=self.name))
            self.failure = None
        self._ready_at = self._loop.time()
        self.state = "ready"
        self._pool.worker_ready(message.meta)
        self._pool.release(self)

    def on_end(self, status: int) -> None:
        process, self.process = self.process, None
        self._readiness.cancel()
        self._pool.remove_idle(self)
        reason = describe_exit(self.name, status)
        lost = self._fail_event(reason, process is not None and process.event_unread)
        self._end_reload(self._reported_failure.text if self._reported_failure else reason)
        if self._stopping or self._pool.stopping:
            self.state = "stopped"
        elif self.state == "asleep":
            failure = self._reported_failure or exit_failure(self.name, status)
            self._log.write(LogRecord("error", failure.text, worker=self.name))
        elif self._expired:
            self._restart_now()
        elif self._ready_at or self._was_killed_at_start(status):
            self._on_death(self._reported_failure or exit_failure(self.name, status), lost)
        else:
            output = last_output(list(process.last_lines)) if process is not None else ""
            self._on_failed_start(
                self._reported_failure
                or startup_failure(self.name, status, self._readiness.step, output)
            )
            self._restart_later()
        self._resolve_end()

    def _resolve_end(self) -> None:
        for future in self._end_futures:
            if not future.done():
                future.set_result(None)
        self._end_futures = []

    def _was_killed_at_start(self, status: int) -> bool:
        """Return True if something else ended a start, for the first time."""
        killed = status == -signal.SIGKILL and self._reported_failure is None
        return killed and self._pool.was_ready and self._backoff.is_reset

    def _on_death(self, failure: WorkerFailure, lost: Optional[PendingEvent]) -> None:
        record = LogRecord("error", failure.text, worker=self.name)
        if lost is not None:
            record.request_id = lost.request_id
            record.message += " while it handled request " + lost.request_id
        self._log.write(record)
        self.failure = failure
        if self._ready_at and self._loop.time() - self._ready_at > _STABLE_SECONDS:
            self._backoff.reset()
        self.state = "restarting"
        self._restart_later()

    def _on_failed_start(self, failure: WorkerFailure) -> None:
        self.state = "unhealthy"
        self.failure = failure
        text = failure.text
        if not self._pool.is_new_failure(text):
            text = "failed in the same way: " + failure.reason
        self._log.write(LogRecord("error", text, worker=self.name))
        self._pool.worker_failed()

    def _restart_later(self) -> None:
        if self._pool.config.restart == "no":
            self.state = "unhealthy"
            self._pool.worker_failed()
            return
        wait = self._backoff.next()
        if self.state == "unhealthy" and wait == 0.0:
            # A failed start would fail again; only a worker that was ready restarts at once.
            wait = self._backoff.next()
        self._start_timer = self._loop.call_later(wait, self._restart_now)

    def _restart_now(self) -> None:
        if not self._pool.stopping:
            self.restarts += 1
            failed = self.state == "unhealthy"
            self.start()
            if failed:
                # It stays unhealthy until a start succeeds.
                self.state = "unhealthy"

    async def reload(self) -> str:
        """Swap the entry module; return `ok` or the error. A worker that is down restarts."""
        if self.process is None or not self._ready_at or self._expired:
            return await self.restart()
        outcome: asyncio.Future[str] = self._loop.create_future()
        self._reload_future = outcome
        self.process.send(wire.RELOAD, {})
        self._readiness.start(self.process, "the reload")
        try:
            return await outcome
        finally:
            self._readiness.cancel()

    async def restart(self) -> str:
        """Replace the process after its event; return `ok` or the reason why it is not ready."""
        await self._stop_process(self._pool.trigger.termination_timeout)
        self.restarts += 1
        self._backoff.reset()
        self.start()
        return await self._wait_until_settled()

    def run_drain_callback(self) -> None:
        """Run the handler's drain callback after the current event."""
        if self.process is not None and self._ready_at:
            self.process.send(wire.DRAIN, {})

    async def stop(self, timeout: float) -> None:
        """End the process and start no other."""
        self._forbid_start()
        await self._stop_process(timeout)
        self.state = "stopped"

    def fall_asleep(self, offload: bool, timeout: float) -> Awaitable[None]:
        """Release the memory: end the process or, with `offload`, let the handler release it.

        From the call on, the worker does not become ready; the result is awaited for the end.
        """
        self._pool.remove_idle(self)
        if offload and self.state == "ready" and self.process is not None:
            self.state = "asleep"
            ended = self._await_end()
            self.process.send(wire.SLEEP, {})
            self._readiness.start(self.process, "sleep(context)")
            return ended
        self._forbid_start()
        return self._end_asleep(timeout)

    async def _end_asleep(self, timeout: float) -> None:
        await self.stop(timeout)
        self.state = "asleep"

    def wake(self) -> None:
        """Make a worker ready that is asleep."""
        if self.process is None:
            self.start()
            return
        self.state = "starting"
        self._ready_at = 0.0
        self._reported_failure = None
        self.process.send(wire.WAKE, {})
        self._readiness.start(self.process, "wake(context)")

    def _on_asleep(self, _message: wire.Message) -> None:
        self._readiness.cancel()
        self._resolve_end()

    def kill(self) -> None:
        """Kill the current process."""
        if self.process is not None:
            self.process.kill()

    def _forbid_start(self) -> None:
        self._stopping = True
        if self._start_timer is not None:
            self._start_timer.cancel()

    async def _stop_process(self, timeout: float) -> None:
        self._stopping = True
        self._pool.remove_idle(self)
        process = self.process
        if process is None:
            self._pool.spawner.cancel(self)
            return
        ended = self._await_end()
        if self._ready_at:
            process.send(wire.STOP, {})
        else:
            process.kill()
        timer = self._loop.call_later(timeout, process.kill)
        try:
            await ended
        finally:
            timer.cancel()

    def _await_end(self) -> "asyncio.Future[None]":
        ended: asyncio.Future[None] = self._loop.create_future()
        self._end_futures.append(ended)
        return ended

    async def _wait_until_settled(self) -> str:
        limit = time.monotonic() + self._pool.config.readiness_timeout + 5.0
        while time.monotonic() < limit:
            if self.state in ("ready", "busy"):
                return "ok"
            if self.state in ("unhealthy", "stopped"):
                break
            await asyncio.sleep(0.01)
        return self.failure.text if self.failure else "worker %s is %s" % (self.name, self.state)

    def to_dict(self) -> Dict[str, Any]:
        """Return the worker's entry in the status."""
        return {
            "id": self.name,
            "state": self.state,
            "pid": self.pid,
            "device": ",".join(self.device.values()),
            "restarts": self.restarts,
            "reason": self.failure.reason if self.failure else "",
            "message": self.failure.text if self.failure else "",
        }
