"""The page's files, read and compressed once and answered from memory.

A browser asks for a dozen of them at once, while platforms are asked in threads: a file that is
looked up, opened and read in threads of its own would wait for those at each of its steps.
"""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

STATIC_FOLDER = Path(__file__).parent / "static"

_MAX_RATIO = 0.9
"""A file that shrinks to less than this part of it travels compressed; pictures do not."""


@dataclass(frozen=True, slots=True)
class _EncodedFile:
    """A file as it travels."""

    body: bytes
    headers: dict[str, str]

    @classmethod
    def of(cls, body: bytes, kind: str, encoding: str = "") -> _EncodedFile:
        headers = {
            "content-type": f"{kind}; charset=utf-8" if kind.startswith("text/") else kind,
            "etag": f'"{hashlib.sha256(body).hexdigest()[:32]}"',
            "vary": "Accept-Encoding",
        }
        return cls(body, headers | {"content-encoding": encoding} if encoding else headers)


@cache
def _files() -> dict[str, tuple[_EncodedFile, _EncodedFile]]:
    """By path below the page's folder: plain, and for those who take gzip."""
    found = {}
    for path in STATIC_FOLDER.rglob("*"):
        if path.is_file():
            kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
            body = path.read_bytes()
            packed = gzip.compress(body, mtime=0)
            plain = _EncodedFile.of(body, kind)
            small = len(packed) < _MAX_RATIO * len(body)
            sent = plain, _EncodedFile.of(packed, kind, "gzip") if small else plain
            found[path.relative_to(STATIC_FOLDER).as_posix()] = sent
    return found


def file_response(request: Request, name: str) -> Response:
    """The file of that name, or that the client has it already; 404 when there is none."""
    if (found := _files().get(name)) is None:
        raise HTTPException(404)
    sent = found["gzip" in request.headers.get("accept-encoding", "")]
    if sent.headers["etag"] in request.headers.get("if-none-match", ""):
        kept = {key: sent.headers[key] for key in ("etag", "vary")}
        return Response(status_code=304, headers=kept)
    return Response(sent.body, headers=sent.headers)


def routes() -> list[Route]:
    """The page itself, and its files by their paths."""
    _files()  # now, while nobody waits for them
    return [Route("/", _get_index), Route("/static/{path:path}", _get_file)]


async def _get_index(request: Request) -> Response:
    return file_response(request, "index.html")


async def _get_file(request: Request) -> Response:
    return file_response(request, request.path_params["path"])
