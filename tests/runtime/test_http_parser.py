"""Reading requests, without sockets."""

import hashlib
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fnbuild.runtime.http.parser import HttpError, parse_head
from fnbuild.runtime.http.reader import NOTHING, RequestReader
from tests.runtime.malformed import FORMS

pytestmark = pytest.mark.system

MAX_HEAD = 16 * 1024
MAX_BODY = 100_000


def reader() -> RequestReader:
    return RequestReader(MAX_HEAD, MAX_BODY)


def read(pieces: list[bytes], into: RequestReader | None = None) -> list:
    """All requests in these bytes, as plain values."""
    into = into or reader()
    requests = []
    for piece in pieces:
        into.feed(piece)
        while (request := into.next()) is not None:
            head, body = request
            requests.append((head.method, head.target, head.version, head.fields, bytes(body)))
    return requests


def single_request(raw: bytes):
    into = reader()
    into.feed(raw)
    request = into.next()
    assert request is not None
    assert into.progress == NOTHING
    return request


def bytewise(raw: bytes) -> list[bytes]:
    return [raw[i : i + 1] for i in range(len(raw))]


@pytest.mark.parametrize(
    ("raw", "status"), [form[1:] for form in FORMS], ids=[form[0] for form in FORMS]
)
def test_malformed_requests_are_refused(raw, status):
    with pytest.raises(HttpError) as in_one_piece:
        read([raw])
    assert in_one_piece.value.status == status
    with pytest.raises(HttpError) as split:
        read(bytewise(raw))
    assert split.value.status == status


def test_a_request_is_parsed():
    head, body = single_request(
        b"POST /a%20b/%C3%A4?x=1&y=%20 HTTP/1.1\r\nHost: test:8080\r\nX-Empty:\r\n"
        b"x-padded: \t a b \t\r\nContent-Length: 3\r\nX-Latin: \xe4\r\n\r\nabc"
    )
    assert (head.method, head.version, head.path) == ("POST", "1.1", "/a b/ä")
    assert head.target == "/a%20b/%C3%A4?x=1&y=%20"
    assert head.query == "x=1&y=%20"
    assert head.fields == (
        ("Host", "test:8080"),
        ("X-Empty", ""),
        ("x-padded", "a b"),
        ("Content-Length", "3"),
        ("X-Latin", "ä"),
    )
    assert head.lookup()["x-padded"] == "a b"
    assert body == b"abc"


@pytest.mark.parametrize(
    ("line", "path", "query"),
    [
        ("GET / HTTP/1.1", "/", ""),
        ("GET /? HTTP/1.1", "/", ""),
        ("GET //x HTTP/1.1", "//x", ""),
        ("GET /a?b?c HTTP/1.1", "/a", "b?c"),
        ("GET /%zz HTTP/1.1", "/%zz", ""),
        ('GET /{"<|>^`} HTTP/1.1', '/{"<|>^`}', ""),
        ("GET http://test HTTP/1.1", "/", ""),
        ("GET http://test/a?b HTTP/1.1", "/a", "b"),
        ("GET HTTP://test:80?b HTTP/1.1", "/", "b"),
        ("OPTIONS * HTTP/1.1", "*", ""),
        ("M-SEARCH /x HTTP/1.1", "/x", ""),
    ],
)
def test_targets_are_parsed(line, path, query):
    head, _ = single_request(line.encode() + b"\r\nHost: test\r\n\r\n")
    assert (head.path, head.query) == (path, query)


@pytest.mark.parametrize(
    "host", ["", "test", "my_host", "127.0.0.1:80", "[::1]", "[::1]:8080", "a.b-c~d"]
)
def test_hosts_are_parsed(host):
    head, _ = single_request(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert head.lookup()["host"] == host


@pytest.mark.parametrize(
    ("version", "connection", "keeps"),
    [
        ("1.1", None, True),
        ("1.1", "close", False),
        ("1.1", "Close", False),
        ("1.1", "keep-alive, close", False),
        ("1.1", "upgrade", True),
        ("1.0", None, False),
        ("1.0", "Keep-Alive", True),
        ("1.0", "foo, keep-alive", True),
        ("1.0", "keep-alive, close", False),
    ],
)
def test_the_persistence_of_the_connection_is_determined(version, connection, keeps):
    line = f"Connection: {connection}\r\n" if connection else ""
    head, _ = single_request(f"GET / HTTP/{version}\r\nHost: test\r\n{line}\r\n".encode())
    assert head.keep_alive is keeps


def test_connection_may_be_in_several_headers():
    head, _ = single_request(
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: x\r\nConnection: close\r\n\r\n"
    )
    assert head.keep_alive is False


@pytest.mark.parametrize(
    ("chunks", "body"),
    [
        (b"0\r\n\r\n", b""),
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"5;name=value;other\r\nhello\r\n0;last\r\n\r\n", b"hello"),
        (b'5;a="; \\" \\\\";b\r\nhello\r\n0\r\n\r\n', b"hello"),
        (b"00A\r\n0123456789\r\n000\r\n\r\n", b"0123456789"),
        (b"a\r\n0123456789\r\n1\r\n\n\r\n0\r\n\r\n", b"0123456789\n"),
        (b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n"),
        (b"1\r\nx\r\n0\r\nA: b\r\nC: d\r\n\r\n", b"x"),
    ],
)
def test_chunks_are_parsed(chunks, body):
    raw = b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: Chunked\r\n\r\n" + chunks
    assert [request[-1] for request in read([raw + raw])] == [body, body]
    assert [request[-1] for request in read(bytewise(raw + raw))] == [body, body]


def test_limits_are_exact():
    head = b"POST / HTTP/1.1\r\nHost: test\r\n"
    sized = head + b"Content-Length: %d\r\n\r\n"
    chunked = head + b"Transfer-Encoding: chunked\r\n\r\n"
    largest = bytes(MAX_BODY)
    assert read([sized % MAX_BODY + largest])[0][-1] == largest
    assert read([chunked + b"%x\r\n%s\r\n0\r\n\r\n" % (MAX_BODY, largest)])[0][-1] == largest
    with pytest.raises(HttpError, match=r"100001 bytes .* 100000 bytes.*maxRequestBodySize"):
        read([sized % (MAX_BODY + 1)])
    with pytest.raises(HttpError, match=r"100001 bytes .* 100000 bytes.*maxRequestBodySize"):
        read([chunked + b"%x\r\n%s\r\n1\r\n" % (MAX_BODY, largest)])
    filler = MAX_HEAD - len(head) - len("X: ")
    assert len(read([head + b"X: " + b"y" * filler + b"\r\n\r\n"])) == 1
    with pytest.raises(HttpError, match="16384 bytes; raise readBufferSize") as refused:
        read([head + b"X: " + b"y" * (filler + 1) + b"\r\n\r\n"])
    assert refused.value.status == 431


def test_announced_bodies_allocate_no_memory():
    into = RequestReader(MAX_HEAD, 1 << 40)
    into.feed(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000000000\r\n\r\n")
    assert into.next() is None
    assert len(into._body.data) <= 1 << 20


def test_large_bodies_arrive_complete():
    body = hashlib.sha512(b"x").digest() * 160_000
    into = RequestReader(MAX_HEAD, len(body))
    raw = b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    pieces = [raw[i : i + 262_144] for i in range(0, len(raw), 262_144)]
    assert [request[-1] for request in read(pieces, into)] == [body]


def test_requests_with_equal_headers_are_independent():
    raw = b"GET /a HTTP/1.1\r\nHost: test\r\nX: %d"
    for number in (1, 1, *range(1000)):
        assert parse_head(raw % number).lookup()["x"] == str(number)
    for number in range(3000):
        head = parse_head(b"GET /%d HTTP/1.1\r\nHost: test\r\nX-%d: y" % (number, number))
        assert (head.path, head.fields[-1]) == (f"/{number}", (f"X-{number}", "y"))


TOKENS = st.text("abcdefghijklmnopqrstuvwxyzABC0123456789-_.!~", min_size=1, max_size=12)
VALUES = st.text(
    st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=20
)
RESERVED = {"host", "content-length", "transfer-encoding", "connection", "expect"}


@st.composite
def messages(draw):
    """A valid request and its body."""
    body = draw(st.binary(max_size=300))
    lines = [draw(TOKENS).upper() + " /" + draw(TOKENS) + " HTTP/1.1", "Host: test"]
    names = draw(st.lists(TOKENS.filter(lambda name: name.lower() not in RESERVED), max_size=5))
    lines += [name + ":" + draw(VALUES) for name in names]
    if draw(st.booleans()):
        lines.append("Transfer-Encoding: chunked")
        cuts = sorted([0, *draw(st.lists(st.integers(0, len(body)), max_size=4)), len(body)])
        parts = [body[a:b] for a, b in pairwise(cuts) if b > a]
        framed = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    else:
        framed = body
        if body or draw(st.booleans()):
            lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + framed, body


@settings(max_examples=300, deadline=None)
@given(st.lists(messages(), min_size=1, max_size=4), st.data())
def test_splitting_does_not_change_the_result(stream, data):
    raw = b"".join(request for request, _ in stream)
    complete = read([raw])
    assert [request[-1] for request in complete] == [body for _, body in stream]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=12)))
    pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    assert read([piece for piece in pieces if piece]) == complete
    assert read(bytewise(raw)) == complete


@settings(max_examples=300, deadline=None)
@given(st.lists(messages(), min_size=1, max_size=2), st.data())
def test_damaged_bytes_end_as_a_refusal_or_as_requests(stream, data):
    raw = bytearray(b"".join(request for request, _ in stream))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at : at + data.draw(st.integers(0, 2))] = data.draw(
            st.one_of(st.binary(max_size=2), st.sampled_from([b"\r", b"\n", b"\r\n", b":", b" "]))
        )
    outcomes = []
    for pieces in ([bytes(raw)], bytewise(bytes(raw))):
        try:
            outcomes.append([request[:-1] for request in read(pieces)])
        except HttpError as refusal:
            outcomes.append(400 <= refusal.status <= 505)
    if isinstance(outcomes[0], list):
        # Accepted requests are the same in pieces; refusals may occur at another point.
        assert outcomes[0] == outcomes[1]
