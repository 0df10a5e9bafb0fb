"""The process of the gRPC server, as the processor sees it: started, told to stop, reaped."""

import asyncio
import os
import subprocess
import sys
from contextlib import suppress
from typing import List, Optional

from ..grpc_server import channel
from .children import ChildProcess, kill_group, reap_child
from .worker_process import LinePipe

_PROGRAM = os.path.join(os.path.dirname(os.path.abspath(channel.__file__)), "__main__.py")


class GrpcProcessOwner:
    """Callbacks of the process."""

    def on_server_ready(self) -> None:
        """Handle that the server accepts connections."""

    def on_server_line(self, line: str) -> None:
        """Handle a line of its standard error."""

    def on_server_end(self, status: int) -> None:
        """Handle its end; `status` is negative for a signal."""


class GrpcProcess(ChildProcess):
    """A gRPC server in its process. `folder` has its sockets, `packages` grpcio and protobuf."""

    def __init__(
        self, folder: str, packages: str, owner: GrpcProcessOwner, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._folder = folder
        self._packages = packages
        self._owner = owner
        self._loop = loop
        self._popen: "Optional[subprocess.Popen[bytes]]" = None
        self._pipes: List[LinePipe] = []
        self._input = -1

    def start(self, max_message: int) -> None:
        """Start the process; messages are limited to so many bytes. Raises OSError."""
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(self._folder, channel.SERVER_SOCKET))
        out = LinePipe(self._loop, self._on_line)
        errors = LinePipe(self._loop, self._owner.on_server_line)
        self._pipes = [out, errors]
        stdin, self._input = os.pipe()
        try:
            self._popen = subprocess.Popen(
                [sys.executable, "-IS", _PROGRAM, self._packages, str(max_message)],
                stdin=stdin,
                stdout=out.child_end,
                stderr=errors.child_end,
                cwd=self._folder,
                # Ctrl-C is for the processor, which then stops the server.
                start_new_session=True,
            )
        except BaseException:
            os.close(self._input)
            raise
        finally:
            for fd in (stdin, out.child_end, errors.child_end):
                os.close(fd)
        self.pid = self._popen.pid

    def _on_line(self, line: str) -> None:
        if line == channel.READY:
            self._owner.on_server_ready()

    def stop(self, seconds: float) -> None:
        """End the server; calls in flight get so many seconds. Further calls have no effect."""
        if self.pid:
            with suppress(OSError):
                os.write(self._input, b"%f\n" % seconds)

    def kill(self) -> None:
        """Kill the server."""
        if self.pid:
            kill_group(self.pid)

    def reap(self) -> None:
        if not self.pid:
            return
        status = reap_child(self.pid)
        if status is not None and self._popen is not None:
            self._popen.returncode = status
            self.pid = 0
            os.close(self._input)
            for pipe in self._pipes:
                pipe.read_all_and_close()
            self._owner.on_server_end(status)
