"""Archives of every kind, and a web server on this machine that serves them."""

from __future__ import annotations

import io
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

CONFIG = b"metadata: {name: face}\nspec: {handler: 'main:handler', runtime: 'python:3.11'}\n"
MAIN = b"def handler(context, event):\n    return 'ok'\n"


@dataclass
class Page:
    """The server's response for a path."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: int = 0  # bytes that are announced but not sent


@dataclass
class Web:
    """`pages` are responses by path; `seen` are the paths and headers of requests."""

    url: str
    pages: dict[str, Page] = field(default_factory=dict)
    seen: list[tuple[str, dict[str, str]]] = field(default_factory=list)


@pytest.fixture
def web() -> Iterator[Web]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server_pages.seen.append((self.path, dict(self.headers)))
            page = server_pages.pages.get(self.path, Page(status=404))
            self.send_response(page.status)
            for name, value in page.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(page.body) + page.cut))
            self.end_headers()
            self.wfile.write(page.body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server_pages = Web(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server_pages
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def pack(tmp_path: Path) -> Callable[..., Path]:
    """Pack texts by name: `pack("x.tar.gz", {"main.py": b"…"})`."""

    def make(name: str, files: dict[str, bytes]) -> Path:
        path = tmp_path / name
        if name.endswith(".zip"):
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                for member, content in files.items():
                    archive.writestr(member, content)
            return path
        kind: Any = "w:" + {"gz": "gz", "bz2": "bz2", "xz": "xz"}.get(name.rpartition(".")[2], "")
        with tarfile.open(path, kind) as archive:
            for member, content in files.items():
                info = tarfile.TarInfo(member)
                info.size, info.mode = len(content), 0o644
                archive.addfile(info, io.BytesIO(content))
        return path

    return make
