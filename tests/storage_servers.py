"""Servers of storage on this machine: S3, Google Cloud Storage, and a web server with files."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.engine import free_port, until

S3_KEYS = {"AWS_ACCESS_KEY_ID": "AKIATEST", "AWS_SECRET_ACCESS_KEY": "s3cret/+"}


@contextmanager
def s3_server(host: str = "127.0.0.1") -> Iterator[str]:
    """Yield the URL of a server with S3's API."""
    command = [sys.executable, "-m", "moto.server", "-H", host, "-p", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as server:
        try:
            assert server.stdout is not None
            lines = (line.decode() for line in server.stdout)
            address = next(
                filter(None, (re.search(rf"http://{re.escape(host)}:\d+", x) for x in lines))
            )
            reader = threading.Thread(target=lambda: list(lines), daemon=True)
            reader.start()  # a full pipe would stop the server
            yield address[0]
        finally:
            server.kill()


def put_s3(server: str, path: str, body: bytes = b"", **headers: str) -> None:
    """Store an object, or create a bucket."""
    url = f"{server}/{urllib.parse.quote(path)}"
    # The server does not check the signature.
    credential = "AWS4-HMAC-SHA256 Credential=AKIATEST/20260101/us-east-1/s3/aws4_request"
    fields = {"Content-Type": "application/octet-stream", "Authorization": credential}
    request = urllib.request.Request(url, body, fields | headers, method="PUT")
    urllib.request.urlopen(request).close()


@contextmanager
def google_server(host: str = "127.0.0.1") -> Iterator[str]:
    """Yield the URL of a server with the API of Google Cloud Storage."""
    port = free_port()
    arguments = ["start", "--in-memory", "--host", host, "--port", str(port), "--quiet"]
    with subprocess.Popen([sys.executable, "-m", "gcp_storage_emulator", *arguments]) as server:
        try:
            url = f"http://{host}:{port}"
            until("an answer of the storage server", lambda: _answers(url))
            yield url
        finally:
            server.kill()


def _answers(url: str) -> bool:
    with suppress(OSError):
        urllib.request.urlopen(f"{url}/storage/v1/b?project=p", timeout=2).close()
        return True
    return False


def put_google(server: str, bucket: str, name: str = "", body: bytes = b"") -> None:
    """Store an object, or create a bucket."""
    if name:
        query = urllib.parse.urlencode({"uploadType": "media", "name": name})
        url = f"{server}/upload/storage/v1/b/{bucket}/o?{query}"
        headers = {"Content-Type": "application/octet-stream"}
    else:
        url, headers = f"{server}/storage/v1/b?project=p", {"Content-Type": "application/json"}
        body = b'{"name": "%s"}' % bucket.encode()
    try:
        urllib.request.urlopen(urllib.request.Request(url, body, headers, method="POST")).close()
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != 409:  # the bucket exists
            raise


@dataclass
class FileServer:
    """A web server. `files` are contents by path; `documents` are answers as they are.

    The next `cuts` responses end after half of their body. `requests` are methods, paths and
    headers. With `plain`, there are neither ranges nor tags.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    documents: dict[str, tuple[int, dict[str, str], bytes]] = field(default_factory=dict)
    cuts: int = 0
    plain: bool = False
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    @property
    def ranges(self) -> list[str]:
        """The ranges that were requested."""
        headers = [headers.get("Range", "") for _, _, headers in self.requests]
        return [value for value in headers if value]

    def answer(self, path: str, ranges: str, match: str) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body for a request of a file."""
        body = self.files.get(path)
        if body is None:
            return 404, {}, b"no such file"
        if self.plain:
            return 200, {}, body
        tag = {"ETag": f'"{hashlib.md5(body).hexdigest()}"'}
        if match not in ("", tag["ETag"]):
            return 412, {}, b""
        start = re.fullmatch(r"bytes=(\d+)-", ranges)
        if start is None:
            return 200, tag, body
        offset = int(start[1])
        if offset >= len(body):
            return 416, {}, b""
        content_range = f"bytes {offset}-{len(body) - 1}/{len(body)}"
        return 206, tag | {"Content-Range": content_range}, body[offset:]


@contextmanager
def file_server(host: str = "127.0.0.1") -> Iterator[FileServer]:
    """Run a web server with files at an address of this machine."""
    state = FileServer()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            state.requests.append((self.command, self.path, dict(self.headers)))
            path = urllib.parse.unquote(self.path.partition("?")[0])
            status, headers, body = state.documents.get(self.path) or state.answer(
                path, self.headers.get("Range", ""), self.headers.get("If-Match", "")
            )
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "HEAD":
                return
            if state.cuts and len(body) > 1 and path in state.files:
                state.cuts -= 1
                self.wfile.write(body[: len(body) // 2])
                self.close_connection = True
                return
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer((host, 0), Handler)
    state.url = f"http://{host}:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
