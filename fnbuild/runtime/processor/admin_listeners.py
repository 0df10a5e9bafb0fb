"""The listeners of the admin API: the admin listener, and the control socket.

Clients of the control socket may also take the processor's listeners over.
"""

import asyncio
import os
import socket
from contextlib import suppress
from typing import Callable, Dict, List, Optional, Tuple

from .. import sockets
from ..config import ConfigFileError, ProcessorConfig
from ..http.connection_owner import Command
from ..http.server import HttpServer
from .admin import AdminApi, ProcessorControl

_CONTROL_BACKLOG = 128

Listeners = Tuple[List[socket.socket], List[socket.socket]]
"""The listeners for HTTP, the admin listener among them, and those for gRPC."""


class AdminListeners:
    """The listeners that the configuration names, and their servers."""

    def __init__(
        self,
        processor: ProcessorControl,
        config: ProcessorConfig,
        on_error: Callable[[str, BaseException], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._processor = processor
        self._config = config
        self._on_error = on_error
        self._loop = loop
        self._servers: List[HttpServer] = []

    def open_admin(self) -> List[socket.socket]:
        """Serve the admin listener; return it, or nothing without one."""
        if self._config.admin is None:
            return []
        admin = sockets.open_listener(self._config.admin, "admin")
        self._serve(admin)
        return [admin]

    def open_control(self, listeners: Callable[[], Listeners]) -> None:
        """Serve the control socket, also requests for the processor's listeners.

        Raises ConfigFileError if its path cannot be used.
        """
        control = self._control_socket()
        if control is None:
            return

        def send(peer: socket.socket) -> None:
            sockets.send_listeners(peer, *listeners())

        self._serve(control, {b"LISTENERS\n": send})

    def close(self) -> None:
        """Close the servers, and remove the control socket."""
        for server in self._servers:
            server.close()
        if self._config.control is not None:
            # The data directory may be gone, or may never have existed.
            with suppress(OSError):
                os.unlink(self._config.control)

    def _serve(self, sock: socket.socket, commands: Optional[Dict[bytes, Command]] = None) -> None:
        """Serve the admin API; with `commands` the requests of the control socket, too."""
        is_local = self._config.control is None and self._config.control_socket is None
        api = AdminApi(self._processor, control=commands is not None, local_control=is_local)
        server = HttpServer(api, on_error=self._on_error, commands=commands, loop=self._loop)
        self._servers.append(server)
        server.start(sock)

    def _control_socket(self) -> Optional[socket.socket]:
        if self._config.control_socket is not None:
            control = sockets.open_listener(self._config.control_socket, "control")
            # Clients see the credentials of the process that called listen last: this one.
            control.listen(_CONTROL_BACKLOG)
            return control
        if self._config.control is None:
            return None
        try:
            return sockets.listen_unix(self._config.control)
        except OSError as problem:
            text = "listeners.control: cannot listen on %s: %s"
            raise ConfigFileError(text % (self._config.control, problem.strerror)) from None
