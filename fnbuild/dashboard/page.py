"""The page's files, read and compressed once and served from memory.

A browser requests a dozen of them at once, while calls to platforms occupy threads. Reading files
in threads would wait for those at each step.
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
"""A file is sent compressed if that shrinks it below this ratio; pictures do not shrink."""


@dataclass(frozen=True, slots=True)
class _EncodedFile:
    """A file as it is sent."""

    body: bytes
    headers: dict[str, str]

    @classmethod
    def create(cls, body: bytes, media_type: str, encoding: str = "") -> _EncodedFile:
        is_text = media_type.startswith("text/")
        headers = {
            "content-type": f"{media_type}; charset=utf-8" if is_text else media_type,
            "etag": f'"{hashlib.sha256(body).hexdigest()[:32]}"',
            "vary": "Accept-Encoding",
        }
        return cls(body, headers | {"content-encoding": encoding} if encoding else headers)


@cache
def _files() -> dict[str, tuple[_EncodedFile, _EncodedFile]]:
    """Return each file by its path in the static folder: as it is, and for clients with gzip."""
    files = {}
    for path in STATIC_FOLDER.rglob("*"):
        if path.is_file():
            media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
            body = path.read_bytes()
            compressed = gzip.compress(body, mtime=0)
            plain = encoded = _EncodedFile.create(body, media_type)
            if len(compressed) < _MAX_RATIO * len(body):
                encoded = _EncodedFile.create(compressed, media_type, "gzip")
            files[path.relative_to(STATIC_FOLDER).as_posix()] = plain, encoded
    return files


def file_response(request: Request, name: str) -> Response:
    """Return a file, or 304 if the client has it. Raises 404 if there is none of that name."""
    if (versions := _files().get(name)) is None:
        raise HTTPException(404)
    file = versions["gzip" in request.headers.get("accept-encoding", "")]
    if file.headers["etag"] in request.headers.get("if-none-match", ""):
        headers = {key: file.headers[key] for key in ("etag", "vary")}
        return Response(status_code=304, headers=headers)
    return Response(file.body, headers=file.headers)


def routes() -> list[Route]:
    """Return the routes of the page and its files."""
    _files()  # load them before the first request
    return [Route("/", _get_index), Route("/static/{path:path}", _get_file)]


async def _get_index(request: Request) -> Response:
    return file_response(request, "index.html")


async def _get_file(request: Request) -> Response:
    return file_response(request, request.path_params["path"])
