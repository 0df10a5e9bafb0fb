"""What commands and the supervisor say to each other: one JSON object a line, over a unix socket.

    → {"version": "0.1.0", "verb": "switch", "arguments": {…}}
    ← {"progress": "starting 2 workers"}          any number of times
    ← {"result": {…}}  or  {"error": {"code", "message", "hint", "detail"}}

The caller closes the connection to take its request back. Both sides must be the same version of
fnbuild, except for the verbs `hello` and `handover`, which stay as they are for good: with them a
newer fnbuild replaces an older supervisor without stopping a function.
"""

from __future__ import annotations

from typing import Any

import msgspec

from fnbuild.errors import FnbuildError, PlatformError

LONGEST_LINE = 16 << 20
TIMELESS = frozenset({"hello", "handover"})


class Request(msgspec.Struct, frozen=True):
    version: str
    verb: str
    arguments: dict[str, Any] = msgspec.field(default_factory=dict)


class Failure(msgspec.Struct, frozen=True):
    """An error of the family, as it travels."""

    code: str
    message: str
    hint: str | None = None
    detail: str | None = None

    @classmethod
    def of(cls, error: FnbuildError) -> Failure:
        return cls(error.code, error.message, error.hint, error.detail)

    def error(self) -> FnbuildError:
        kind = _kinds().get(self.code, PlatformError)
        return kind(self.message, hint=self.hint, detail=self.detail)


class Reply(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of an answer: exactly one of the three is set."""

    progress: str | None = None
    result: dict[str, Any] | None = None
    error: Failure | None = None


def _kinds() -> dict[str, type[FnbuildError]]:
    # A ConfigError cannot travel without its report, and nothing behind the socket raises one.
    return {
        kind.code: kind
        for kind in FnbuildError.__subclasses__()
        if kind.__init__ is FnbuildError.__init__
    }


def encode(message: Request | Reply) -> bytes:
    return msgspec.json.encode(message) + b"\n"


def decode_request(line: bytes) -> Request:
    """Return the request in a line; raise `msgspec.MsgspecError` if there is none."""
    return _REQUEST.decode(line)


def decode_reply(line: bytes | str) -> Reply:
    """Return the reply in a line; raise `msgspec.MsgspecError` if there is none."""
    return _REPLY.decode(line)


# Made at import, as in fnbuild.platforms.processors.
_REQUEST = msgspec.json.Decoder(Request)
_REPLY = msgspec.json.Decoder(Reply)
