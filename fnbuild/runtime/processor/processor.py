"""The processor: takes requests, gives them to workers, and keeps the workers alive.

    python -m fnbuild.runtime.processor --config processor.json

`config` describes the file. SIGTERM and SIGINT end it behind the requests under way, a second one
at once. Where `linger` is given, SIGTERM begins with that: whoever sends requests may not know yet
that another processor has taken over.
"""

import asyncio
import os
import signal
import socket
import sys
import time
import traceback
from contextlib import suppress
from typing import Any, Dict, List, Optional

from .. import allocator, sockets
from ..config import SUPPORTED_KINDS, ConfigFileError, ProcessorConfig, TriggerConfig
from ..event_loop import EventLoop
from ..http.server import HttpServer
from ..logs import Log
from ..triggers.batch import BatchTrigger
from ..triggers.cron import CronTrigger
from ..triggers.http import HttpTrigger, app_without_trigger, connection_limits
from . import metrics
from .admin import AdminApi
from .metrics import MetricsRegistry, TriggerMetricFamilies
from .pool import WorkerPools
from .refusal_log import RefusalLog
from .shared_memory import SharedMemory
from .tracing import create_tracer

# Between two looks at workers that load, in seconds.
_POLL_INTERVAL = 0.02
_CONTROL_BACKLOG = 128
# How long a signal waits for idle connections, in seconds.
_IDLE_TIMEOUT_AT_SIGNAL = 1.0


class Processor:
    """See the module. `run` returns the exit status."""

    def __init__(self, config: ProcessorConfig, log: Log, loop: EventLoop) -> None:
        self.config = config
        self.log = log
        self._loop = loop
        self.pools = WorkerPools(config, log, loop)
        self.registry = MetricsRegistry(_metric_labels(config))
        self._metrics = TriggerMetricFamilies(self.registry)
        self._refusals = RefusalLog(self._loop, log)
        self.http = self._http_server()
        self.http.on_refusal = self._on_refusal
        self._crons = [self._cron(one) for one in config.served if one.kind == "cron"]
        self._started = time.time()
        self._draining: Optional[asyncio.Task[None]] = None
        self._cut: Optional[asyncio.TimerHandle] = None
        self._lingering: Optional[asyncio.TimerHandle] = None
        self._finished: asyncio.Future[int] = self._loop.create_future()
        self._signals = 0
        self._sockets: List[socket.socket] = []
        self._others: List[HttpServer] = []
        self._stopped = False
        self._accepts = False
        self._gauges()

    def _http_server(self) -> HttpServer:
        trigger = self.config.http_trigger
        if trigger is None:
            return HttpServer(
                app_without_trigger, connection_limits({}), self._failed, loop=self._loop
            )
        counts = self._metrics.trigger(trigger.kind, trigger.name)
        tracer = create_tracer(str(self.config.function.get("name", "")), self.config.env, self.log)
        kind = HttpTrigger if trigger.batch is None else BatchTrigger
        app = kind(self.pools.of(trigger), counts, self._refusals, tracer)
        server = HttpServer(
            app, connection_limits(trigger.attributes), self._failed, loop=self._loop
        )
        if trigger.batch is None:
            server.sized = SharedMemory(self._loop).body
        return server

    def _cron(self, trigger: TriggerConfig) -> CronTrigger:
        counts = self._metrics.trigger(trigger.kind, trigger.name)
        return CronTrigger(trigger, self.pools.of(trigger), counts)

    async def run(self) -> int:
        """Serve until told to end; ConfigFileError when a listener cannot be had."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._on_signal, number)
        http = [sockets.open_listener(one, "http") for one in self.config.http]
        self._sockets.extend(http)
        await self._open_admin()
        self._warn_of_triggers()
        self.pools.when_ready(self._start_crons)
        self.pools.start()
        if self.config.accept == "immediately":
            await self._accept(http)
        elif self.config.accept == "when-ready":
            self.pools.when_ready(lambda: self._loop.create_task(self._accept(http)))
        else:
            self._loop.create_task(self._accept_when_settled(http))
        await self._open_control()
        try:
            return await self._finished
        finally:
            self._close()

    async def _accept(self, http: List[socket.socket]) -> None:
        self._accepts = True
        for number, sock in enumerate(http):
            await self.http.start(sock, "http-%d" % number)
            name = sock.getsockname()
            if isinstance(name, tuple):
                self.log.info("Listening on http://%s:%d" % name[:2])

    async def _accept_when_settled(self, http: List[socket.socket]) -> None:
        """Leave callers in the socket's queue until it is known whether there is anybody to serve.

        Told by a look now and then, since the workers may fail in many ways.
        """
        while self.pools.state() == "starting":
            await asyncio.sleep(_POLL_INTERVAL)
        if self.config.accept == "ready-or-end" and self.pools.state() == "unhealthy":
            # Whoever started it waits for the end of a function that fails, as Nuclio does.
            self._finish(1)
        else:
            await self._accept(http)

    async def _open_admin(self) -> None:
        if self.config.admin is None:
            return
        admin = sockets.open_listener(self.config.admin, "admin")
        self._sockets.append(admin)
        server = HttpServer(AdminApi(self, control=False), on_error=self._failed, loop=self._loop)
        self._others.append(server)
        await server.start(admin, "admin")

    async def _open_control(self) -> None:
        control = self._control_socket()
        if control is None:
            return
        shared = list(self._sockets)
        server = HttpServer(
            AdminApi(self, control=True),
            on_error=self._failed,
            commands={b"LISTENERS\n": lambda peer: sockets.send_listeners(peer, shared)},
            loop=self._loop,
        )
        self._others.append(server)
        await server.start(control, "control")

    def _control_socket(self) -> Optional[socket.socket]:
        if self.config.control_socket is not None:
            control = sockets.open_listener(self.config.control_socket, "control")
            # The kernel tells callers which process listened last: this one, not who opened it.
            control.listen(_CONTROL_BACKLOG)
            return control
        if self.config.control is None:
            return None
        try:
            return sockets.listen_unix(self.config.control)
        except OSError as problem:
            raise ConfigFileError(
                "listeners.control: cannot listen on %s: %s"
                % (self.config.control, problem.strerror)
            ) from None

    def drain(self) -> None:
        """Stop accepting; end when the last connection is gone or drain_timeout has passed.

        The workers' drain callbacks run once, their termination callbacks at the end.
        """
        if self._draining is None:
            self.pools.drain()
        self._begin_end(self.config.drain_timeout)

    def stop(self) -> None:
        """End behind the requests under way; idle connections are hardly waited for."""
        self._begin_end(_IDLE_TIMEOUT_AT_SIGNAL)

    def _begin_end(self, idle: float) -> None:
        # Told again, the new time counts for the drain under way.
        if self._cut is not None:
            self._cut.cancel()
        self._end_linger()
        for cron in self._crons:
            cron.stop()
        patience = self.config.termination_timeout
        self._cut = self._loop.call_later(idle + patience, self._cut_off)
        drained = self._loop.create_task(self.http.drain(idle))
        if self._draining is None:
            self._draining = self._loop.create_task(self._end(drained, patience))

    async def _end(self, drained: "asyncio.Task[None]", patience: float) -> None:
        self.log.info("Draining", connections=self.http.connections)
        await drained
        await self.pools.stop(patience)
        self._finish(0)

    def _cut_off(self) -> None:
        self.log.warn("Ending %d requests that did not finish in time" % self.http.in_flight)
        self.http.close()
        self.pools.kill()

    def _finish(self, status: int) -> None:
        self._stopped = True
        if not self._finished.done():
            self._finished.set_result(status)

    def _on_signal(self, number: int) -> None:
        self._signals += 1
        if self._signals == 1 and number == signal.SIGTERM and self._may_linger():
            self._linger()
        elif self._signals == 1 or self._lingering is not None:
            self.stop()
        else:
            self.pools.kill()
            self._finish(1)

    def _may_linger(self) -> bool:
        """Whether that was asked for, and there is anybody to serve."""
        serves = self._accepts and self.pools.state() != "starting"
        return self.config.linger > 0 and self._draining is None and serves

    def _linger(self) -> None:
        """Serve on, new connections too, for as long as others may not know of the end."""
        seconds = self.config.linger
        self.log.info("Serving %g s more before the end" % seconds)
        for cron in self._crons:
            cron.stop()
        self.http.part()
        self._lingering = self._loop.call_later(seconds, self.stop)

    def _end_linger(self) -> None:
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None

    def _close(self) -> None:
        for cron in self._crons:
            cron.stop()
        self.pools.kill()
        self.http.close()
        self._refusals.close()
        for server in self._others:
            server.close()
        if self.config.control is not None:
            # The data directory may be gone, or may never have been there.
            with suppress(OSError):
                os.unlink(self.config.control)

    def status(self) -> Dict[str, Any]:
        """What GET /status shows."""
        pools = self.pools
        state = pools.state()
        if self._stopped:
            state = "stopped"
        elif self._draining is not None:
            state = "draining"
        trouble = pools.trouble()
        return {
            "state": state,
            "reason": trouble.reason if trouble else "",
            "message": trouble.text if trouble else "",
            "pid": os.getpid(),
            "revision": self.config.function.get("revision"),
            "started": self._started,
            "workers": [worker.to_dict() for worker in pools.workers],
            "triggers": [cron.to_dict() for cron in self._crons],
            "connections": self.http.connections,
            "in_flight": self.http.in_flight,
            "mount": pools.mount,
            "start": pools.starter.to_dict(),
            "warnings": pools.warnings,
        }

    def _start_crons(self) -> None:
        if self._draining is None and self._lingering is None:
            for cron in self._crons:
                cron.start()

    def _warn_of_triggers(self) -> None:
        for trigger in self.config.triggers.values():
            if trigger.kind not in SUPPORTED_KINDS:
                text = 'trigger "%s" of kind "%s" is not served' % (trigger.name, trigger.kind)
                self.pools.warnings.append(text)
                self.log.warn(text)

    def _failed(self, what: str, error: BaseException) -> None:
        self.log.error("%s: %s: %s" % (what, type(error).__name__, error))

    def _gauges(self) -> None:
        prefix = "nuclio_processor_"
        states = self.registry.gauge(prefix + "workers", "Workers, by state", ("state",))
        for state in ("starting", "ready", "busy", "restarting", "unhealthy", "stopped"):
            states.child(state).read(lambda state=state: self._count(state))
        restarts = self.registry.gauge(
            prefix + "worker_restarts", "Times a worker was started again", ("worker_index",)
        )
        for worker in self.pools.workers:
            restarts.child(worker.name).read(lambda worker=worker: worker.restarts)
        connections = self.registry.gauge(prefix + "connections", "Open http connections")
        connections.child().read(lambda: self.http.connections)
        waiting = self.registry.gauge(prefix + "waiting_events", "Events that wait for a worker")
        waiting.child().read(lambda: self.pools.waiting)
        memory = metrics.GpuMemory(lambda: [worker.pid for worker in self.pools.workers])
        self.registry.observed(
            metrics.GPU_MEMORY_METRIC,
            metrics.GPU_MEMORY_HELP,
            metrics.GPU_MEMORY_LABELS,
            memory.read,
        )
        self._refused = self.registry.counter(
            prefix + "http_refusals_total",
            "Requests that were refused before they became events, by status",
            ("status",),
        )
        for status in (400, 408, 413, 431):
            self._refused.child(status)

    def _on_refusal(self, status: int, reason: str) -> None:
        self._refused.child(status).inc()
        self._refusals.note(status, reason)

    def _count(self, state: str) -> int:
        return sum(1 for worker in self.pools.workers if worker.state == state)


def _metric_labels(config: ProcessorConfig) -> Dict[str, str]:
    function = config.function
    return {
        "instance": socket.gethostname(),
        "namespace": str(function.get("namespace", "")),
        "function": str(function.get("name", "")),
        "project": str(function.get("project", "")),
    }


def _describe_fault(context: Dict[str, Any]) -> str:
    """A fault of the processor itself, which ends neither it nor other requests."""
    error = context.get("exception")
    text = str(context.get("message"))
    if error is None:
        return text
    return (
        text + "\n" + "".join(traceback.format_exception(type(error), error, error.__traceback__))
    )


def main(arguments: List[str]) -> int:
    """Run a processor for a configuration file: as `serve`, and 2 for usage."""
    if len(arguments) != 2 or arguments[0] != "--config":
        sys.stderr.write("usage: python -m fnbuild.runtime.processor --config FILE\n")
        return 2
    try:
        config = ProcessorConfig.from_file(arguments[1])
    except ConfigFileError as problem:
        sys.stderr.write("%s\n" % problem)
        return 2
    return serve(config)


def serve(config: ProcessorConfig) -> int:
    """Run a processor: 0 after a drain, 1 when cut short or unable to listen."""
    allocator.tune()
    log = Log(config.log_level, config.log_format)
    loop = EventLoop()
    loop.set_exception_handler(lambda _loop, context: log.error(_describe_fault(context)))
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(Processor(config, log, loop).run())
    except ConfigFileError as problem:
        log.error(str(problem))
        sys.stderr.write("%s\n" % problem)
        return 1
    finally:
        loop.close()
