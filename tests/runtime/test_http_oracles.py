"""The request parser against two others, h11 and httptools, as oracles.

Requests that fnbuild accepts, both must accept with the same method, target, version, headers and
body, and the same start of the next request. fnbuild may refuse requests that they accept, because
it is the strictest of the three. The intended differences:

- Empty lines in front of a request are skipped (RFC 9112 2.2); h11 refuses them.
- An HTTP/1.0 request may keep its connection by asking for it; h11 reads nothing after one.
- Any token is a method; httptools knows a list of them.
- Targets may hold `"`, `<`, `>`, `^`, `` ` ``, `{`, `|` and `}`, which browsers send.
"""

import functools
import re
from typing import Any, NamedTuple

import h11
import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fnbuild.runtime.http.parser import HttpError
from fnbuild.runtime.http.reader import RequestReader
from tests.runtime.malformed import FORMS
from tests.runtime.mutation import PIECES, WHOLE, streams

Headers = list[tuple[bytes, bytes]]
_EMPTY_LINES = re.compile(rb"(\r\n)+")


class Read(NamedTuple):
    method: bytes
    target: bytes
    version: bytes
    headers: Headers
    body: bytes


class Verdict(NamedTuple):
    """Return the requests, True if the rest was refused, and the stream without empty lines."""

    requests: list[Read]
    refused: bool
    stream: bytes = b""


def by_fnbuild(raw: bytes) -> Verdict:
    reader = RequestReader(16 * 1024, 1 << 20)
    reader.feed(raw)
    requests: list[Read] = []
    stream = b""
    at = 0
    refused = False
    try:
        while (request := reader.next()) is not None:
            head, body = request
            headers = [(n.lower().encode(), v.encode("latin-1")) for n, v in head.fields]
            version = head.version.encode()
            requests.append(
                Read(head.method.encode(), head.target.encode(), version, headers, bytes(body))
            )
            end = len(raw) - reader.unread
            stream += without_empty_lines(raw[at:end])
            at = end
            if not head.keep_alive:
                break
    except HttpError:
        refused = True
    return Verdict(requests, refused, stream + without_empty_lines(raw[at:]))


def without_empty_lines(raw: bytes) -> bytes:
    skipped = _EMPTY_LINES.match(raw)
    return raw[skipped.end() :] if skipped else raw


def by_h11(raw: bytes) -> Verdict:
    requests: list[Read] = []
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(raw)
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                request, body = event, b""
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                headers = list(request.headers)
                version = request.http_version
                requests.append(Read(request.method, request.target, version, headers, body))
                connection.send(h11.Response(status_code=400, headers=[("Content-Length", "0")]))
                connection.send(h11.EndOfMessage())
                if connection.our_state is not h11.DONE:
                    return Verdict(requests, refused=False)
                connection.start_next_cycle()
            else:
                return Verdict(requests, refused=False)
    except h11.RemoteProtocolError:
        return Verdict(requests, refused=True)


class _Collector:
    """Callbacks of httptools."""

    def __init__(self) -> None:
        self.parser: Any = httptools.HttpRequestParser(self)
        self.requests: list[Read] = []

    def on_message_begin(self) -> None:
        self.target, self.body = b"", b""
        self.headers: Headers = []
        self.in_trailer = False

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.in_trailer:
            self.headers.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        self.in_trailer = True

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        self.requests.append(Read(method, self.target, version, self.headers, self.body))


def by_httptools(raw: bytes) -> Verdict:
    collector = _Collector()
    try:
        collector.parser.feed_data(raw)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return Verdict(collector.requests, refused=True)
    return Verdict(collector.requests, refused=False)


@functools.cache
def known_to_httptools(method: bytes) -> bool:
    return not by_httptools(method + b" / HTTP/1.1\r\nHost: a\r\n\r\n").refused


def compare(raw: bytes) -> Verdict:
    """Fail if our parser accepts what an oracle refuses or reads differently."""
    verdict = by_fnbuild(raw)
    accepted = verdict.requests
    for oracle, until in ((by_h11, ends_for_h11), (by_httptools, ends_for_httptools)):
        seen = oracle(verdict.stream).requests
        for number, read in enumerate(accepted):
            if until(accepted[: number + 1]):
                break
            assert number < len(seen), (oracle.__name__, raw)
            assert read == seen[number], (oracle.__name__, raw)
    return verdict


def ends_for_h11(requests: list[Read]) -> bool:
    return any(read.version == b"1.0" for read in requests[:-1])


def ends_for_httptools(requests: list[Read]) -> bool:
    last = requests[-1]
    return not known_to_httptools(last.method) or bool(re.search(rb'["<>^`{|}]', last.target))


def test_mutated_streams_are_read_as_the_oracles_read_them():
    accepted = refused = 0
    for raw in streams(10_000, seed=7):
        verdict = compare(raw)
        accepted += len(verdict.requests)
        refused += verdict.refused
    # The corpus must have both accepted and refused streams.
    assert accepted > 3000
    assert refused > 3000


@settings(max_examples=400, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(WHOLE), st.sampled_from(PIECES), st.binary(max_size=3))))
def test_any_mixture_is_read_as_the_oracles_read_it(parts):
    compare(b"".join(parts))


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(WHOLE),
    st.integers(0, 200),
    st.integers(0, 3),
    st.one_of(st.sampled_from(PIECES), st.binary(max_size=4)),
)
def test_any_damage_is_read_as_the_oracles_read_it(raw, at, gone, put):
    compare(raw[:at] + put + raw[at + gone :] + WHOLE[0])


@pytest.mark.parametrize("raw", [form[1] for form in FORMS], ids=[form[0] for form in FORMS])
def test_malformed_requests_are_refused_by_all_parsers(raw):
    assert compare(raw).refused


def test_the_intended_differences_exist():
    get = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    assert len(by_fnbuild(b"\r\n" + get).requests) == 1
    assert by_h11(b"\r\n" + get).refused
    old = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    assert len(by_fnbuild(old + old).requests) == 2
    assert len(by_h11(old + old).requests) == 1
    foreign = get.replace(b"GET", b"BREW")
    assert len(by_fnbuild(foreign).requests) == 1
    assert by_httptools(foreign).refused
