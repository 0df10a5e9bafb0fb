"""The URL at which this machine reaches a function: its own address, or a relay through the
dashboard.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from fnbuild.platforms import Deployment
from fnbuild.platforms.nuclio.transport import DashboardAddress

_CONNECT_SECONDS = 1.0
_INVOCATIONS_PATH = "/api/function_invocations"
# The caller has a time limit of its own, which ends before.
_MAX_INVOKE_SECONDS = 3600
_HOP_HEADERS = (
    "host", "connection", "keep-alive", "transfer-encoding", "content-length", "te", "upgrade",
    "server", "date",
)  # fmt: skip


def find_direct_url(deployment: Deployment, hosts: Iterable[str]) -> str:
    """The first of the function's addresses that takes a connection; "" when none does.

    `hosts` are machines that may have its port.
    """
    given = [one if "://" in one else f"http://{one}" for one in deployment.external_urls]
    if deployment.http_port:
        given += [f"http://{_bracketed(one)}:{deployment.http_port}" for one in hosts if one]
    return next((url for url in dict.fromkeys(given) if _accepts_connections(url)), "")


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


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
    """The function's own address where that works, else one that leads through the dashboard."""
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
    """Hands one request to /api/function_invocations, where headers name function and path.

    What the function answers comes back, without the headers that begin with X-Nuclio: the
    dashboard keeps those.
    """

    dashboard: DashboardAddress
    namespace: str
    function: str

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        """Nothing: the caller tells what came of the call."""

    def __getattr__(self, name: str) -> Any:
        # Whatever the method, it is passed on.
        if name.startswith("do_"):
            return self._pass_on
        raise AttributeError(name)

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            status, headers, answer = self._asked(body)
        except (OSError, http.client.HTTPException) as error:
            answer = f"the Nuclio dashboard does not answer: {error}\n".encode()
            status, headers = 502, [("Content-Type", "text/plain")]
        with contextlib.suppress(OSError):  # the caller may be gone
            self.send_response(status)
            for name, text in headers:
                self.send_header(name, text)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

    def _asked(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
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
            reply = connection.getresponse()
            answer = reply.read()
        finally:
            connection.close()
        kept = [(key, one) for key, one in reply.getheaders() if key.lower() not in _HOP_HEADERS]
        return reply.status, kept, answer


def _open_connection(address: DashboardAddress) -> http.client.HTTPConnection:
    parts = urlsplit(address.url)
    host = parts.hostname or ""
    if parts.scheme == "https":
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(
            host, parts.port, timeout=_MAX_INVOKE_SECONDS, context=context
        )
    return http.client.HTTPConnection(host, parts.port, timeout=_MAX_INVOKE_SECONDS)
