"""The program of the pod that reads and writes a claim: a small HTTP server on the loopback.

It runs as source text in an image with Python 3.6 or newer, needs only the standard library, and
is reached by a port-forward. It ends by itself if there are no requests for a while.

    GET  /files              the files below the folder, as [[path, size], …]
    GET  /sha256?path=P      the hash of a file, "" without one
    GET  /part?path=P        the size of the part of a file
    PUT  /part?path=P&offset=N      append the body
    POST /complete?path=P&sha256=H  check the part and move it to its path
    POST /move?path=P&target=T      move a file; nothing is overwritten
    DELETE /file?path=P             remove a file and its part
"""

import contextlib
import errno
import hashlib
import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, Dict, List, Tuple
from urllib.parse import parse_qsl, urlsplit

Query = Dict[str, str]

PORT = 18080
IDLE_SECONDS = 120.0
STATE = ".fnbuild"
CHUNK = 1 << 20


class ClaimHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    folder = ""
    last_request = time.monotonic()

    def do_GET(self) -> None:
        path, query = self._begin()
        if path == "/files":
            self._answer(200, list_files(self.folder))
        elif path == "/sha256":
            file = self._local(query)
            self._answer(200, sha256(file) if os.path.isfile(file) else "")
        elif path == "/part":
            part = self._part(query)
            self._answer(200, os.path.getsize(part) if os.path.exists(part) else 0)
        else:
            self._answer(404, "no such path")

    def do_PUT(self) -> None:
        _path, query = self._begin()
        part = self._part(query)
        os.makedirs(os.path.dirname(part), exist_ok=True)
        left = int(self.headers.get("Content-Length", 0))
        with open(part, "r+b" if os.path.exists(part) else "w+b") as file:
            file.seek(int(query["offset"]))
            file.truncate()
            while left:
                chunk = self.rfile.read(min(left, CHUNK))
                if not chunk:
                    break
                file.write(chunk)
                left -= len(chunk)
                ClaimHandler.last_request = time.monotonic()
            size = file.tell()
        self._answer(200, size)

    def do_DELETE(self) -> None:
        _path, query = self._begin()
        for file in (self._local(query), self._part(query)):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(file)
        self._answer(200, "")

    def do_POST(self) -> None:
        path, query = self._begin()
        if path == "/move":
            self._move(self._local(query), self._local({"path": query["target"]}))
        else:
            self._complete(query)

    def _move(self, source: str, target: str) -> None:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if os.path.lexists(target):
            raise OSError(errno.EEXIST, "%s exists already" % os.path.basename(target))
        os.rename(source, target)
        self._answer(200, "")

    def _complete(self, query: Query) -> None:
        part, target = self._part(query), self._local(query)
        if not os.path.exists(part):
            open(part, "wb").close()
        if sha256(part) != query["sha256"]:
            os.unlink(part)
            self._answer(409, "the content has another hash")
            return
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.chmod(part, 0o644)
        os.replace(part, target)
        self._answer(200, "")

    def _begin(self) -> Tuple[str, Query]:
        ClaimHandler.last_request = time.monotonic()
        parts = urlsplit(self.path)
        return parts.path, dict(parse_qsl(parts.query))

    def _local(self, query: Query) -> str:
        path = os.path.normpath(os.path.join(self.folder, query["path"]))
        if not path.startswith(self.folder + os.sep):
            raise ValueError("the path leads out of the folder")
        return path

    def _part(self, query: Query) -> str:
        name = hashlib.sha256(query["path"].encode("utf-8", "surrogateescape")).hexdigest()[:32]
        folder = os.path.join(self.folder, STATE)
        os.makedirs(folder, exist_ok=True)
        return os.path.join(folder, name)

    def _answer(self, status: int, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (OSError, ValueError, KeyError) as error:
            self.close_connection = True
            with contextlib.suppress(OSError):
                self._answer(500, getattr(error, "strerror", None) or str(error))

    def log_message(self, *_arguments: Any) -> None:
        pass


def list_files(top: str) -> List[List[Any]]:
    files: List[List[Any]] = []
    for folder, folders, names in os.walk(top):
        folders[:] = [name for name in folders if name != STATE]
        for name in names:
            path = os.path.join(folder, name)
            if os.path.isfile(path):
                files.append([os.path.relpath(path, top), os.path.getsize(path)])
    return sorted(files)


def sha256(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for chunk in iter(lambda: file.read(CHUNK), b""):
            digest.update(chunk)
            ClaimHandler.last_request = time.monotonic()
    return digest.hexdigest()


def end_when_idle() -> None:
    while time.monotonic() - ClaimHandler.last_request < IDLE_SECONDS:
        time.sleep(1)
    os._exit(0)


def main(folder: str) -> None:
    ClaimHandler.folder = os.path.normpath(folder)
    threading.Thread(target=end_when_idle, daemon=True).start()
    HTTPServer(("127.0.0.1", PORT), ClaimHandler).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1])
