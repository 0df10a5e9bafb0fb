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

PAGE = Path(__file__).parent / "static"

_WORTH = 0.9
"""A file that shrinks to less than this part of it travels compressed; pictures do not."""


@dataclass(frozen=True, slots=True)
class _Sent:
    """A file as it travels."""

    body: bytes
    headers: dict[str, str]

    @classmethod
    def of(cls, body: bytes, kind: str, encoding: str = "") -> _Sent:
        headers = {
            "content-type": f"{kind}; charset=utf-8" if kind.startswith("text/") else kind,
            "etag": f'"{hashlib.sha256(body).hexdigest()[:32]}"',
            "vary": "Accept-Encoding",
        }
        return cls(body, headers | {"content-encoding": encoding} if encoding else headers)


@cache
def _files() -> dict[str, tuple[_Sent, _Sent]]:
    """By path below the page's folder: plain, and for those who take gzip."""
    found = {}
    for path in PAGE.rglob("*"):
        if path.is_file():
            kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
            body = path.read_bytes()
            packed = gzip.compress(body, mtime=0)
            plain = _Sent.of(body, kind)
            small = len(packed) < _WORTH * len(body)
            sent = plain, _Sent.of(packed, kind, "gzip") if small else plain
            found[path.relative_to(PAGE).as_posix()] = sent
    return found


def answer(request: Request, name: str) -> Response:
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
    return [Route("/", _index), Route("/static/{path:path}", _static)]


async def _index(request: Request) -> Response:
    return answer(request, "index.html")


async def _static(request: Request) -> Response:
    return answer(request, request.path_params["path"])
