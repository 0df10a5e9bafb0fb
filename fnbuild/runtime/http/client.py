"""A small blocking HTTP client over TCP or a unix socket, for requests to processors."""

import http.client
import os
from typing import Dict, Mapping, NamedTuple, Optional, Union
from urllib.parse import urlsplit

from .. import sockets


class HttpResponse(NamedTuple):
    """A response. Of several headers with one name, the last one counts."""

    status: int
    headers: Dict[str, str]
    body: bytes


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: sockets.SocketPath, timeout: Optional[float]) -> None:
        super().__init__("localhost")
        self._path = path
        self._connect_timeout = timeout

    def connect(self) -> None:
        self.sock = sockets.connect_unix(self._path, self._connect_timeout)


def request(  # noqa: PLR0913, PLR0917 - the parts of a request
    method: str,
    address: Union[str, "os.PathLike[str]"],
    path: str = "/",
    body: Optional[bytes] = None,
    headers: Optional[Mapping[str, str]] = None,
    timeout: Optional[float] = 30.0,
) -> HttpResponse:
    """Send one request on a connection of its own.

    `address` is `http://host:port` or the path of a unix socket. `timeout` is in seconds, for each
    operation. Raises OSError without an answer, ConnectionError for an incomplete response.
    """
    connection = _connection(address, timeout)
    fields = {"Connection": "close"}
    fields.update(headers or {})
    try:
        try:
            connection.request(method, path, body, fields)
        except (BrokenPipeError, ConnectionResetError):
            # The server may have answered before it read the whole body.
            if connection.sock is None:
                raise
        response = connection.getresponse()
        return HttpResponse(response.status, dict(response.getheaders()), response.read())
    except http.client.HTTPException as error:
        raise ConnectionError("no complete HTTP response from %s: %r" % (address, error)) from error
    finally:
        connection.close()


def _connection(
    address: Union[str, "os.PathLike[str]"], timeout: Optional[float]
) -> http.client.HTTPConnection:
    text = os.fspath(address)
    if "://" not in text:
        return _UnixConnection(text, timeout)
    parts = urlsplit(text)
    if parts.scheme != "http" or not parts.hostname or parts.path not in ("", "/"):
        raise ValueError("%r is neither http://host:port nor the path of a socket" % text)
    return http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=timeout)
