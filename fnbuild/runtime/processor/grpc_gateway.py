"""The gRPC side of a processor: its listeners, the relay, and the gRPC server.

The server turns calls into requests of the V2 protocol, which it sends to the application of the
http listeners over a private socket. It is started again if it dies; without its packages, only
HTTP is served.
"""

import asyncio
import os
import shutil
import sys
import tempfile
import time
from typing import Any, Dict, Optional

from .. import sockets
from ..config import ConfigFileError, ProcessorConfig
from ..grpc_server import channel
from ..http.messages import Reply, encode_reply_head
from ..http.server import HttpServer
from ..logs import Log, LogRecord
from .grpc_process import GrpcProcess, GrpcProcessOwner
from .grpc_relay import GrpcRelay
from .pools import WorkerPools
from .worker_failure import describe_exit

_FIRST_DELAY = 0.5
_MAX_DELAY = 30.0
# A server that ran for so many seconds starts again without a longer delay.
_STEADY_SECONDS = 30.0
# Typed elements are shorter in a message than in raw bytes, by up to this factor.
_RAW_FACTOR = 8
# The largest value of grpcio's limit.
_MAX_MESSAGE = (1 << 31) - 1

_MISSING = (
    "gRPC is not served, only HTTP: grpcio, protobuf, grpcio-health-checking and grpcio-reflection"
    " for Python %d.%d are not in %s (%s); deploy the function again where pip reaches a package"
    " index, or, for functions on this machine, `pip install 'fnbuild[grpc]'`"
)


class GrpcGateway(GrpcProcessOwner):
    """The gRPC side of a processor.

    It serves once its listeners may accept and its server is ready; `settled` is True once that
    was ready or has failed. `http` is the server of the http listeners, whose application and
    limits it shares.
    """

    def __init__(
        self, config: ProcessorConfig, http: HttpServer, pools: WorkerPools, log: Log
    ) -> None:
        self._pools = pools
        self._log = log
        self._loop = http.loop
        self._packages = config.grpc_packages or ""
        self._max_message = min(http.limits.max_body, _MAX_MESSAGE)
        self.listeners = [sockets.open_listener(listener, "grpc") for listener in config.grpc]
        self._folder = _make_folder()
        size = http.limits.max_body * _RAW_FACTOR + http.limits.max_head
        limits = http.limits._replace(max_body=size)
        self._http = HttpServer(http.app, limits, http.on_error, loop=self._loop)
        self._http.allocate_body = http.allocate_body
        # The server closes the connection of a call that was cancelled.
        self._http.half_closed_is_gone = True
        self._private = sockets.listen_unix(os.path.join(self._folder, channel.PROCESSOR_SOCKET))
        self._relay = GrpcRelay(
            os.path.join(self._folder, channel.SERVER_SOCKET), self._http.report, self._loop
        )
        self._process = GrpcProcess(self._folder, self._packages, self, self._loop)
        pools.add_child(self._process)
        self._state = "starting"
        self.settled = False
        self._message = self._last_line = ""
        self._accepts = self._draining = self._closed = False
        self._failures, self._started = 0, 0.0
        self._restart: Optional[asyncio.TimerHandle] = None
        self._expiry: Optional[asyncio.TimerHandle] = None

    @property
    def in_flight(self) -> int:
        """The number of calls that workers have or that wait for one."""
        return self._http.in_flight

    def start(self) -> None:
        """Start the server, and listen for its requests."""
        self._http.start(self._private)
        for sock in self.listeners:
            self._relay.start(sock)
        if self._packages:
            self._start_server()
        else:
            self._give_up("the processor's configuration names no packages")

    def _start_server(self) -> None:
        self._state = "starting"
        self._started = time.monotonic()
        try:
            self._process.start(self._max_message)
        except OSError as error:
            self._start_again("the gRPC server cannot be started: %s" % error)

    def accept(self) -> None:
        """Accept connections as soon as the server is ready."""
        self._accepts = True
        self._accept_if_ready()

    def _accept_if_ready(self) -> None:
        if self._accepts and self._state != "starting" and not self._draining:
            self._relay.resume()

    # Callbacks of the process.

    def on_server_ready(self) -> None:
        self._set_state("ready")
        for sock in self.listeners:
            self._log.info("Listening on grpc://%s:%d" % sock.getsockname()[:2])
        self._accept_if_ready()

    def on_server_line(self, line: str) -> None:
        self._last_line = line
        self._log.write(LogRecord("info", line, "grpc"))

    def on_server_end(self, status: int) -> None:
        if self._draining:
            return
        if status == channel.MISSING_STATUS:
            self._give_up(self._last_line)
            return
        if time.monotonic() - self._started > _STEADY_SECONDS:
            self._failures = 0
        self._start_again(describe_exit("grpc", status).replace("worker grpc", "the gRPC server"))

    def _set_state(self, state: str, message: str = "") -> None:
        self._state = state
        self._message = message
        self.settled = True

    def _start_again(self, reason: str) -> None:
        # New connections wait in the queue of the sockets.
        self._relay.pause()
        self._set_state("starting", reason)
        delay = min(_MAX_DELAY, _FIRST_DELAY * 2.0 ** min(self._failures, 10))
        self._failures += 1
        self._log.error("%s; it starts again in %g s" % (reason, delay))
        self._restart = self._loop.call_later(delay, self._start_server)

    def _give_up(self, reason: str) -> None:
        message = _MISSING % (*sys.version_info[:2], self._packages or "a folder", reason)
        self._set_state("unavailable", message)
        self._log.error(message)
        self._pools.warnings.append(message)
        reply = Reply.json(503, {"error": message})
        assert isinstance(reply.body, bytes)
        self._relay.refusal = encode_reply_head(reply, False, "1.1") + reply.body
        self._accept_if_ready()

    # Ending.

    def retire(self) -> None:
        """Ask clients to make further calls on new connections."""
        self._relay.retire()

    async def drain(self, idle_timeout: float, call_timeout: float) -> None:
        """Stop accepting; return when no connection is open.

        Connections may stay open for `idle_timeout` seconds. Calls in flight then get
        `call_timeout` seconds. A further call sets new timeouts.
        """
        self._draining = True
        self._relay.pause()
        self._relay.retire()
        if self._restart is not None:
            self._restart.cancel()
        if self._expiry is not None:
            self._expiry.cancel()
        self._expiry = self._loop.call_later(idle_timeout, self._process.stop, call_timeout)
        await self._relay.wait_closed()

    def close(self) -> None:
        """End the server, and close every connection immediately. Further calls have no effect."""
        if self._closed:
            return
        self._closed = self._draining = True
        for timer in (self._restart, self._expiry):
            if timer is not None:
                timer.cancel()
        self._relay.close()
        self._http.close()
        self._process.kill()
        self._private.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def to_dict(self) -> Dict[str, Any]:
        """Return the entry in the status: `state` is starting, ready or unavailable."""
        return {
            "state": self._state,
            "message": self._message,
            "pid": self._process.pid,
            "connections": self._relay.connections,
        }


def _make_folder() -> str:
    """Return a new folder for sockets, which only this user may enter."""
    problem: Optional[OSError] = None
    # The second is for images with a read-only file system.
    for parent in (None, "/dev/shm"):  # noqa: S108 - the folder has mode 0700
        try:
            return tempfile.mkdtemp(prefix="fnbuild-grpc-", dir=parent)
        except OSError as error:
            problem = error
    text = "listeners.grpc: no folder for sockets: %s; set TMPDIR to one that is writable"
    raise ConfigFileError(text % problem)
