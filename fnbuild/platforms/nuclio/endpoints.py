"""The URL at which this machine reaches a function: its address, or a relay to the dashboard."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from fnbuild.hosts import bracketed
from fnbuild.platforms import Deployment
from fnbuild.platforms.nuclio.transport import DashboardAddress

_CONNECT_SECONDS = 1.0
_INVOCATIONS_PATH = "/api/function_invocations"
# The time limit of the caller is shorter.
_MAX_INVOKE_SECONDS = 3600
_HOP_HEADERS = (
    "host", "connection", "keep-alive", "transfer-encoding", "content-length", "te", "upgrade",
    "server", "date",
)  # fmt: skip


def find_direct_url(deployment: Deployment, hosts: Iterable[str]) -> str:
    """Return the first address of the function that accepts a connection, or "".

    The function's port may be open on `hosts`.
    """
    addresses = deployment.external_urls
    urls = [address if "://" in address else f"http://{address}" for address in addresses]
    if deployment.http_port:
        urls += [f"http://{bracketed(host)}:{deployment.http_port}" for host in hosts if host]
    return next((url for url in dict.fromkeys(urls) if _accepts_connections(url)), "")


def _accepts_connections(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        with socket.create_connection((parts.hostname or "", port), _CONNECT_SECONDS):
            return True
    except (OSError, ValueError):
        return False


@contextmanager
def open_endpoint(address: DashboardAddress, deployment: Deployment) -> Iterator[str]:
    """Yield the function's own address if it is reachable, else that of a relay."""
    if url := find_direct_url(deployment, [address.host]):
        yield url
        return

    class Handler(_InvocationRelay):
        dashboard = address
        namespace = deployment.function.metadata.namespace
        function = deployment.name

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _InvocationRelay(BaseHTTPRequestHandler):
    """Relay requests to /api/function_invocations; headers name the function and the path.

    The response is the function's, without the headers X-Nuclio-*, which the dashboard removes.
    """

    dashboard: DashboardAddress
    namespace: str
    function: str

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        """Log nothing: the caller reports the outcome."""

    def __getattr__(self, name: str) -> Any:
        # Requests of any method are relayed.
        if name.startswith("do_"):
            return self._relay
        raise AttributeError(name)

    def _relay(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            status, headers, content = self._invoke(body)
        except (OSError, http.client.HTTPException) as error:
            content = f"the Nuclio dashboard does not answer: {error}\n".encode()
            status, headers = 502, [("Content-Type", "text/plain")]
        with contextlib.suppress(OSError):  # the caller may have disconnected
            self.send_response(status)
            for name, text in headers:
                self.send_header(name, text)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    def _invoke(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = _open_connection(self.dashboard)
        headers = {
            name: text for name, text in self.headers.items() if name.lower() not in _HOP_HEADERS
        }
        headers |= {
            "X-Nuclio-Function-Name": self.function,
            "X-Nuclio-Function-Namespace": self.namespace,
            "X-Nuclio-Path": self.path,
            "X-Nuclio-Invoke-Timeout": f"{_MAX_INVOKE_SECONDS}s",
        }
        if self.dashboard.authorization:
            headers["Authorization"] = self.dashboard.authorization
        path = urlsplit(self.dashboard.url).path + _INVOCATIONS_PATH
        try:
            connection.request(self.command, path, body=body or None, headers=headers)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        end_to_end = [
            (name, text) for name, text in response.getheaders() if name.lower() not in _HOP_HEADERS
        ]
        return response.status, end_to_end, content


def _open_connection(address: DashboardAddress) -> http.client.HTTPConnection:
    parts = urlsplit(address.url)
    is_https = parts.scheme == "https"
    connection = http.client.HTTPSConnection if is_https else http.client.HTTPConnection
    return connection(parts.hostname or "", parts.port, timeout=_MAX_INVOKE_SECONDS)
