"""The event loop's direct path for sockets, and its streams."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fnbuild.runtime.streams import Stream, StreamOwner


class Owner(StreamOwner):
    """A stream owner that records its calls."""

    def __init__(self) -> None:
        self.data = b""
        self.calls: list[str] = []
        self.error: Exception | None = None
        self.on_data: Callable[[bytes], None] = lambda _data: None

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.on_data(data)

    def buffer_updated(self, count: int) -> None:
        self.calls.append(f"filled {count}")

    def eof_received(self) -> None:
        self.calls.append("ended")

    def flushed(self) -> None:
        self.calls.append("flushed")

    def connection_lost(self, error: Exception | None) -> None:
        self.calls.append("lost")
        self.error = error


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


class Pair:
    """A stream and the plain socket at its other end."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        own_end, self.peer = socket.socketpair()
        self.peer.settimeout(60)
        self.owner = Owner()
        self.stream = Stream(loop, own_end, self.owner)

    def until(self, condition: Callable[[], Any]) -> None:
        async def poll() -> None:
            while not condition():
                await asyncio.sleep(0.001)

        self.loop.run_until_complete(asyncio.wait_for(poll(), 60))

    def take(self, count: int) -> bytes:
        """Read that many bytes at the other end while the loop runs."""
        got = bytearray()
        self.peer.setblocking(False)

        def read() -> bool:
            try:
                got.extend(self.peer.recv(65536))
            except BlockingIOError:
                return False
            return len(got) >= count

        self.until(read)
        return bytes(got)


@pytest.fixture
def pair(loop: asyncio.AbstractEventLoop) -> Iterator[Pair]:
    pair = Pair(loop)
    yield pair
    pair.stream.abort()
    pair.peer.close()


def test_bytes_are_sent_and_received(pair: Pair) -> None:
    pair.peer.sendall(b"hello")
    pair.until(lambda: pair.owner.data == b"hello")
    pair.stream.write(b"back")
    assert pair.peer.recv(100) == b"back"
    pair.stream.write_two(b"head", memoryview(b"body"))
    assert pair.peer.recv(100) == b"headbody"
    assert pair.stream.unsent == 0


@pytest.mark.parametrize("head", [10, 700_000])
def test_buffered_data_keeps_its_order(pair: Pair, head: int) -> None:
    parts = [os.urandom(head), os.urandom(2_000_000), b"x" * 100_000, b"", b"end"]
    pair.stream.write_two(parts[0], parts[1])
    held = pair.stream.unsent
    assert 0 < held < head + 2_000_000
    pair.stream.write(parts[2])
    pair.stream.write_two(parts[3], parts[4])
    assert pair.stream.unsent == held + 100_003
    expected = b"".join(parts)
    assert pair.take(len(expected)) == expected
    pair.until(lambda: pair.owner.calls == ["flushed"])
    assert pair.stream.unsent == 0


def test_closing_waits_for_buffered_data(pair: Pair) -> None:
    pair.stream.write(b"x" * 3_000_000)
    pair.stream.close()
    pair.stream.write(b"too late")
    assert not pair.stream.closed
    assert pair.take(3_000_000) == b"x" * 3_000_000
    pair.until(lambda: pair.owner.calls == ["lost"])
    assert pair.peer.recv(1) == b""


def test_the_end_of_writing_follows_buffered_data(pair: Pair) -> None:
    pair.stream.write(b"x" * 3_000_000)
    pair.stream.write_eof()
    assert pair.take(3_000_000) == b"x" * 3_000_000
    pair.until(lambda: pair.owner.calls == ["flushed"])
    assert pair.peer.recv(1) == b""
    pair.peer.sendall(b"still heard")
    pair.until(lambda: pair.owner.data == b"still heard")


def test_an_abort_does_not_wait(pair: Pair) -> None:
    pair.stream.write(b"x" * 3_000_000)
    pair.stream.abort()
    pair.stream.abort()
    assert pair.stream.closed
    # The owner is called from the loop, never from within its own call.
    assert pair.owner.calls == []
    pair.until(lambda: pair.owner.calls == ["lost"])
    assert pair.owner.error is None


def test_bytes_are_read_into_the_owners_buffer(pair: Pair) -> None:
    place = bytearray(10)
    view = memoryview(place)
    pair.stream.get_buffer = lambda: view[sum(int(t.split()[1]) for t in pair.owner.calls) :]
    pair.peer.sendall(b"01234")
    pair.until(lambda: pair.owner.calls == ["filled 5"])
    pair.peer.sendall(b"56789")
    pair.until(lambda: pair.owner.calls == ["filled 5", "filled 5"])
    assert place == b"0123456789"


def test_a_paused_stream_reads_nothing(pair: Pair) -> None:
    pair.stream.pause()
    pair.peer.sendall(b"x")
    pair.until(lambda: True)
    assert pair.owner.data == b""
    pair.stream.resume()
    pair.until(lambda: pair.owner.data == b"x")


def test_the_peers_end_is_reported_once_and_uses_no_cpu(pair: Pair) -> None:
    pair.peer.shutdown(socket.SHUT_WR)
    pair.until(lambda: pair.owner.calls == ["ended"])
    pair.stream.resume()
    turns = 0

    async def idle() -> None:
        nonlocal turns
        selector = pair.loop._selector  # type: ignore[attr-defined]
        before = selector.select
        selector.select = lambda timeout=None: count() or before(timeout)
        await asyncio.sleep(0.1)

    def count() -> None:
        nonlocal turns
        turns += 1

    pair.loop.run_until_complete(idle())
    assert turns < 10
    assert pair.owner.calls == ["ended"]
    pair.stream.write(b"still heard")
    assert pair.peer.recv(100) == b"still heard"


def test_a_peer_that_has_closed(pair: Pair) -> None:
    pair.stream.write(b"unread")
    pair.peer.close()
    pair.until(lambda: "lost" in pair.owner.calls or "ended" in pair.owner.calls)
    pair.stream.write(b"x")
    pair.until(lambda: "lost" in pair.owner.calls)
    assert isinstance(pair.owner.error, OSError)


def test_an_owner_that_raises_closes_only_its_own_stream(
    loop: asyncio.AbstractEventLoop, pair: Pair
) -> None:
    faults: list[Any] = []
    loop.set_exception_handler(lambda _loop, context: faults.append(context["exception"]))
    other = Pair(loop)

    def fail(data: bytes) -> None:
        raise ValueError(data)

    pair.owner.on_data = fail
    pair.peer.sendall(b"x")
    other.peer.sendall(b"y")
    pair.until(lambda: pair.owner.calls == ["lost"] and other.owner.data == b"y")
    assert [str(fault) for fault in faults] == ["b'x'"]
    other.stream.abort()
    other.peer.close()
