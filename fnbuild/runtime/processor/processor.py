"""The processor: serves triggers with the pools of workers, from its start to its end.

    python -m fnbuild.runtime.processor --config processor.json

`config` describes the file. SIGTERM and SIGINT end the processor after the requests in flight, a
second signal ends it at once. With `linger`, it serves on for some seconds after SIGTERM, since
clients may not know yet that another processor has taken over.
"""

import asyncio
import os
import signal
import socket
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any, Awaitable, Dict, List, Optional, Tuple

from .. import allocator, sockets
from ..config import ConfigFileError, ProcessorConfig, TriggerConfig
from ..groups.member import join_group
from ..http.server import HttpServer
from ..logs import Log
from ..recording.recorder import Recorder
from ..triggers.base import Trigger, TriggerContext
from ..triggers.http import app_without_trigger
from ..triggers.kinds import TRIGGER_KINDS, served_triggers
from .admin import ProcessorControl
from .admin_listeners import AdminListeners
from .metrics import PREFIX, MetricsRegistry, TriggerMetricFamilies, TriggerMetrics, metric_labels
from .pools import WorkerPools
from .processor_metrics import register_gauges
from .refusal_log import RefusalLog
from .sleep import SleepController

if TYPE_CHECKING:
    from .grpc_gateway import GrpcGateway

# Seconds between checks of workers that load.
_POLL_INTERVAL = 0.02
# Seconds for which idle connections may stay open after a signal.
_IDLE_TIMEOUT_AT_SIGNAL = 1.0


class Processor(ProcessorControl):
    """One processor, from its start to its end. `run` returns the exit status."""

    def __init__(self, config: ProcessorConfig, log: Log, loop: asyncio.AbstractEventLoop) -> None:
        self.config = config
        self.log = log
        self._loop = loop
        served = served_triggers(config)
        self._termination_timeout = max(trigger.termination_timeout for trigger in served)
        self.pools = WorkerPools(config, served, log, loop)
        self.registry = MetricsRegistry(metric_labels(config.function))
        self._metrics = TriggerMetricFamilies(self.registry)
        self._refusal_log = RefusalLog(self._loop, log)
        self.http = HttpServer(app_without_trigger, on_error=self._log_error, loop=loop)
        self.http.on_refusal = self._on_refusal
        self._recorder = Recorder(config.record, log, loop) if config.record else None
        self.triggers = [self._create_trigger(trigger) for trigger in served]
        self.sleep = SleepController(config.sleep, self.pools, self._requests_in_hand, log, loop)
        self._group = join_group(config, log, loop)
        if self._group is not None:
            self.sleep.join(self._group)
        self.pools.on_start = self.sleep.begin
        self.pools.on_demand = self.sleep.wake
        self.pools.on_awake = self.sleep.on_awake
        self._started = time.time()
        self._draining: Optional[asyncio.Task[None]] = None
        self._cut_off_timer: Optional[asyncio.TimerHandle] = None
        self._linger_timer: Optional[asyncio.TimerHandle] = None
        self._finished: asyncio.Future[int] = self._loop.create_future()
        self._signals = 0
        self._sockets: List[socket.socket] = []
        self._admin = AdminListeners(self, config, self._log_error, loop)
        self._grpc: "Optional[GrpcGateway]" = None
        self._stopped = False
        self._accepts = False
        self._register_metrics()

    def _create_trigger(self, config: TriggerConfig) -> Trigger:
        metrics = TriggerMetrics(self._metrics, config.kind, config.name)
        pool = self.pools.pool_for(config)
        context = TriggerContext(
            config, pool, metrics, self.http, self._refusal_log, self._recorder
        )
        return TRIGGER_KINDS[config.kind](context)

    async def run(self) -> int:
        """Serve until the end; return the exit status. Raises ConfigFileError for a listener."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._on_signal, number)
        listen = not self.config.listen_when_accepting
        http = [sockets.open_listener(listener, "http", listen) for listener in self.config.http]
        self._sockets.extend(http)
        self._sockets.extend(self._admin.open_admin())
        if self.config.grpc:
            # Late, since few functions need it.
            from .grpc_gateway import GrpcGateway

            self._grpc = GrpcGateway(self.config, self.http, self.pools, self.log)
        self._warn_of_triggers()
        self.pools.call_when_ready(self._start_triggers)
        self.pools.call_when_ready(self.sleep.start)
        self.pools.start()
        if self._grpc is not None:
            self._grpc.start()
        if self.config.accept == "immediately":
            self._accept(http)
        elif self.config.accept == "when-ready":
            self.pools.call_when_ready(lambda: self._accept(http))
        else:
            self._loop.create_task(self._accept_when_settled(http))
        self._admin.open_control(self._listeners)
        try:
            return await self._finished
        finally:
            self._close()

    def _listeners(self) -> Tuple[List[socket.socket], List[socket.socket]]:
        return self._sockets, self._grpc.listeners if self._grpc is not None else []

    def _accept(self, http: List[socket.socket]) -> None:
        self._accepts = True
        for sock in http:
            if self.config.listen_when_accepting:
                sock.listen(sockets.BACKLOG)
            self.http.start(sock)
            name = sock.getsockname()
            if isinstance(name, tuple):
                self.log.info("Listening on http://%s:%d" % name[:2])
        if self._grpc is not None:
            self._grpc.accept()

    async def _accept_when_settled(self, http: List[socket.socket]) -> None:
        """Leave clients in the socket's queue until the workers are ready or have failed.

        Polls, since workers may fail in many ways.
        """
        while self.pools.state() == "starting":
            await asyncio.sleep(_POLL_INTERVAL)
        if self.config.accept == "ready-or-end" and self.pools.state() == "unhealthy":
            # The caller detects a failed function by the end of the processor, as Nuclio does.
            self._finish(1)
        else:
            self._accept(http)

    def drain(self) -> None:
        """Stop accepting; end when the last connection closes or drain_timeout has passed.

        The workers' drain callbacks run once, their termination callbacks at the end.
        """
        if self._draining is None:
            self.pools.run_drain_callbacks()
        self._begin_shutdown(self.config.drain_timeout)

    def stop(self) -> None:
        """End after the requests in flight; idle connections get one second."""
        self._begin_shutdown(_IDLE_TIMEOUT_AT_SIGNAL)

    def _begin_shutdown(self, idle_timeout: float) -> None:
        # A further call sets a new timeout for the current drain.
        if self._cut_off_timer is not None:
            self._cut_off_timer.cancel()
        self._end_linger()
        self._stop_triggers()
        self.sleep.close()
        worker_timeout = self._termination_timeout
        self._cut_off_timer = self._loop.call_later(idle_timeout + worker_timeout, self._cut_off)
        drains = [self.http.drain(idle_timeout)]
        if self._grpc is not None:
            drains.append(self._grpc.drain(idle_timeout, worker_timeout))
        drained = asyncio.gather(*drains)
        if self._draining is None:
            self._draining = self._loop.create_task(self._shut_down(drained, worker_timeout))

    async def _shut_down(self, drained: Awaitable[Any], worker_timeout: float) -> None:
        self.log.info("Draining", connections=self.http.connections)
        await drained
        if self._group is not None:
            self._group.withdraw()
        await self.pools.stop(worker_timeout)
        self._finish(0)

    def _cut_off(self) -> None:
        count = self._requests_in_hand()
        self.log.warn("Ending %d requests that did not finish in time" % count)
        self.http.close()
        if self._grpc is not None:
            self._grpc.close()
        self.pools.kill()

    def _requests_in_hand(self) -> int:
        return self.http.in_flight + (self._grpc.in_flight if self._grpc is not None else 0)

    def _finish(self, status: int) -> None:
        self._stopped = True
        if not self._finished.done():
            self._finished.set_result(status)

    def _on_signal(self, number: int) -> None:
        self._signals += 1
        if self._signals == 1 and number == signal.SIGTERM and self._may_linger():
            self._linger()
        elif self._signals == 1 or self._linger_timer is not None:
            self.stop()
        else:
            self.pools.kill()
            self._finish(1)

    def _may_linger(self) -> bool:
        """Return True if lingering is configured and the processor serves."""
        serves = self._accepts and self.pools.state() != "starting"
        return self.config.linger > 0 and self._draining is None and serves

    def _linger(self) -> None:
        """Serve on, including new connections, before the end."""
        seconds = self.config.linger
        self.log.info("Serving for %g more seconds before the end" % seconds)
        self._stop_triggers()
        self.sleep.close()
        self.http.disable_keep_alive()
        if self._grpc is not None:
            self._grpc.retire()
        self._linger_timer = self._loop.call_later(seconds, self.stop)

    def _end_linger(self) -> None:
        if self._linger_timer is not None:
            self._linger_timer.cancel()
            self._linger_timer = None

    def _close(self) -> None:
        self._stop_triggers()
        self.pools.kill()
        if self._group is not None:
            self._group.close()
        self.http.close()
        if self._grpc is not None:
            self._grpc.close()
        self._refusal_log.close()
        self._admin.close()

    async def reload(self, restart: bool) -> Dict[str, str]:
        # So that the outcome is known, and not at the next request.
        await self.sleep.wake_and_wait()
        return await self.pools.reload(restart)

    def metrics_text(self) -> str:
        return self.registry.text()

    def status(self) -> Dict[str, Any]:
        pools = self.pools
        state = pools.state()
        if self._stopped:
            state = "stopped"
        elif self._draining is not None:
            state = "draining"
        elif state == "ready" and self._grpc is not None and not self._grpc.settled:
            state = "starting"
        failure = pools.failure()
        triggers = [trigger.to_dict() for trigger in self.triggers]
        return {
            "state": state,
            "reason": failure.reason if failure else "",
            "message": failure.text if failure else "",
            "pid": os.getpid(),
            "revision": self.config.function.get("revision"),
            "started": self._started,
            "workers": [worker.to_dict() for worker in pools.workers],
            "triggers": [entry for entry in triggers if entry is not None],
            "connections": self.http.connections,
            "in_flight": self.http.in_flight,
            "grpc": self._grpc.to_dict() if self._grpc is not None else None,
            "mount": pools.mount,
            "start": pools.spawner.to_dict(),
            "warnings": pools.warnings,
            "sleep": self.sleep.to_dict(),
            "recording": self._recorder.to_dict() if self._recorder is not None else None,
        }

    def _start_triggers(self) -> None:
        if self._draining is None and self._linger_timer is None:
            for trigger in self.triggers:
                trigger.start()

    def _stop_triggers(self) -> None:
        for trigger in self.triggers:
            trigger.stop()

    def _warn_of_triggers(self) -> None:
        for trigger in self.config.triggers.values():
            if trigger.kind not in TRIGGER_KINDS:
                text = 'trigger "%s" of kind "%s" is not served' % (trigger.name, trigger.kind)
                self.pools.warnings.append(text)
                self.log.warn(text)

    def _log_error(self, description: str, error: BaseException) -> None:
        self.log.error("%s: %s: %s" % (description, type(error).__name__, error))

    def _register_metrics(self) -> None:
        register_gauges(self.registry, self.pools, self.http, self.sleep, self.triggers)
        self._refused = self.registry.counter(
            PREFIX + "http_refusals_total",
            "Requests that were refused before they became events, by status",
            ("status",),
        )
        for status in (400, 401, 403, 408, 413, 421, 429, 431):
            self._refused.child(status)

    def _on_refusal(self, status: int, reason: str) -> None:
        self._refused.child(status).value += 1
        self._refusal_log.add(status, reason)


def _describe_fault(context: Dict[str, Any]) -> str:
    """Describe a bug of the processor, which ends neither it nor other requests."""
    error = context.get("exception")
    text = str(context.get("message"))
    if error is None:
        return text
    trace = traceback.format_exception(type(error), error, error.__traceback__)
    return text + "\n" + "".join(trace)


def main(arguments: List[str]) -> int:
    """Run a processor for a configuration file; return the status of `serve`, or 2 for usage."""
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
    """Run a processor; return 0 after a drain, 1 if it was cut short or could not listen."""
    allocator.tune()
    log = Log(config.log_level, config.log_format)
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda _loop, context: log.error(_describe_fault(context)))
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(Processor(config, log, loop).run())
    except ConfigFileError as problem:
        log.error(str(problem))
        sys.stderr.write("%s\n" % problem)
        return 1
    finally:
        # The loop closes this pipe before it removes its handlers: a signal in between is an error.
        signal.set_wakeup_fd(-1)
        loop.close()
