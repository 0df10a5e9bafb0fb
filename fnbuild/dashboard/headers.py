"""Which headers go on to a function, and which of its reply's come back."""

from __future__ import annotations

import aiohttp

from fnbuild.dashboard.tokens import SESSION_COOKIE

Headers = list[tuple[str, str]]

_OF_ONE_HOP = frozenset(
    (
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization",
        "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
    )
)  # fmt: skip
_OF_REQUESTS = _OF_ONE_HOP | {"host", "expect"}
# The server adds its own; what is left of a page's state is not a function's to clear.
_OF_REPLIES = _OF_ONE_HOP | {"date", "server", "clear-site-data"}
# Cookies of this address that say who somebody is.
_COOKIES = frozenset({SESSION_COOKIE, "session"})
_LOGS = "x-nuclio-logs"


def of_reply(reply: aiohttp.ClientResponse, *, logs: bool) -> list[tuple[bytes, bytes]]:
    """The function's headers for the caller.

    Nuclio's dashboard keeps those that begin with X-Nuclio to itself
    (pkg/dashboard/resource/function_invocation.go).
    """
    left_out = _OF_REPLIES | _named(reply.headers.getall("Connection", []))
    return [
        (low.encode("latin-1"), value)
        for name, value in reply.raw_headers
        for low in [name.decode("latin-1").lower()]
        if low not in left_out
        and not low.startswith("access-control-")
        and not (low == "set-cookie" and _cookie_of(value) in _COOKIES)
        and (not low.startswith("x-nuclio") or (logs and low == _LOGS))
    ]


def _cookie_of(value: bytes) -> str:
    return value.partition(b"=")[0].strip().decode("latin-1")


def for_function(headers: list[tuple[bytes, bytes]], left_out: frozenset[str]) -> Headers:
    """A caller's headers for the function, without those of one hop and those left out."""
    given = [(_text(name).lower(), _text(value)) for name, value in headers]
    left_out |= _OF_REQUESTS | _named([value for name, value in given if name == "connection"])
    if any(name == "transfer-encoding" for name, _ in given):
        # Of the two, that one says how long the body is (RFC 9112, 6.3).
        left_out |= {"content-length"}
    return [(name, value) for name, value in given if name not in left_out]


def _named(connection: list[str]) -> frozenset[str]:
    """The headers that a Connection header says are of one hop."""
    return frozenset(one.strip().lower() for value in connection for one in value.split(","))


def _text(header: bytes) -> str:
    # What goes out is UTF-8, so only that comes through as it was.
    try:
        return header.decode()
    except UnicodeDecodeError:
        return header.decode("latin-1")
