"""A server as its connections see it."""

import abc
import asyncio
import socket
from typing import Awaitable, Callable, Dict, Optional, Union

from .messages import ConnectionLimits, Deferred, HttpRequest, Reply
from .parser import HttpError
from .reader import RequestReader, SizedBody

# Returns a Reply, an awaitable, or DEFERRED. A reply of None ends the connection without an answer.
App = Callable[[HttpRequest], Union[Reply, Awaitable[Optional[Reply]], Deferred, None]]
# Called with a duplicate of the connection's socket, which the server then closes.
Command = Callable[[socket.socket], None]
# Called with a description and the exception.
OnError = Callable[[str, BaseException], None]
# Returns the memory for a body of that many bytes.
BodyAllocator = Callable[[int], SizedBody]
# Called with the status and the reason.
OnRefusal = Callable[[int, str], None]


class ConnectionOwner(abc.ABC):
    """A server as its connections see it: the application, limits, counters, reports of errors.

    `app` answers requests, `in_flight` counts those that it has. With `keep_alive_disabled` a
    connection ends after the last request that has arrived on it; with `expired` at once. With
    `half_closed_is_gone` a client that sends nothing more does not wait for its reply.
    `on_refusal` is called for requests that are refused before the application, `on_error` for
    exceptions of the application. `commands` are lines, with their line feeds, that clients may
    send instead of HTTP; their functions receive the connection. `allocate_body` returns the memory
    for a body of known size.
    """

    app: App
    loop: asyncio.AbstractEventLoop
    limits: ConnectionLimits
    commands: Dict[bytes, Command]
    in_flight = 0
    keep_alive_disabled = False
    expired = False
    half_closed_is_gone = False
    on_error: Optional[OnError] = None
    on_refusal: Optional[OnRefusal] = None
    allocate_body: BodyAllocator

    def new_reader(self) -> RequestReader:
        """Return a reader for one connection's requests."""
        limits = self.limits
        return RequestReader(limits.max_head, limits.max_body, self.allocate_body)

    def run_command(self, line: bytes, sock: socket.socket) -> bool:
        """Run the command of a connection's first line; return False if it is none."""
        command = self.commands.get(line)
        if command is None:
            return False
        with socket.fromfd(sock.fileno(), sock.family, sock.type) as duplicate:
            command(duplicate)
        return True

    @abc.abstractmethod
    def request_ended(self) -> None:
        """Handle the end of a request whose connection is closed."""

    def request_refused(self, error: HttpError) -> None:
        """Handle a request that was answered without the application."""
        if self.on_refusal is not None:
            self.on_refusal(error.status, error.message)

    def application_failed(self, request: HttpRequest, error: BaseException) -> Reply:
        """Return the reply to a request whose application raised."""
        self.report("the application failed at %s %s" % (request.method, request.path), error)
        text = "%s: %s" % (type(error).__name__, error)
        return Reply.json(500, {"error": "the request could not be served: " + text}, close=True)

    def report(self, description: str, error: BaseException) -> None:
        """Report an exception."""
        if self.on_error is not None:
            self.on_error(description, error)
