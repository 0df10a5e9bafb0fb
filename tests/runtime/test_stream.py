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
    """Records its calls."""

    def __init__(self) -> None:
        self.data = b""
        self.told: list[str] = []
        self.error: Exception | None = None
        self.on_data: Callable[[bytes], None] = lambda _data: None

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.on_data(data)

    def buffer_updated(self, count: int) -> None:
        self.told.append(f"filled {count}")

    def eof_received(self) -> None:
        self.told.append("ended")

    def flushed(self) -> None:
        self.told.append("flushed")

    def connection_lost(self, error: Exception | None) -> None:
        self.told.append("lost")
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
        ours, self.peer = socket.socketpair()
        self.peer.settimeout(60)
        self.owner = Owner()
        self.stream = Stream(loop, ours, self.owner)

    def until(self, condition: Callable[[], Any]) -> None:
        async def poll() -> None:
            while not condition():
                await asyncio.sleep(0.001)

        self.loop.run_until_complete(asyncio.wait_for(poll(), 60))

    def take(self, count: int) -> bytes:
        """Read so much at the other end while the loop runs."""
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


def test_bytes_come_and_go(pair: Pair) -> None:
    pair.peer.sendall(b"hello")
    pair.until(lambda: pair.owner.data == b"hello")
    pair.stream.write(b"back")
    assert pair.peer.recv(100) == b"back"
    pair.stream.write_two(b"head", memoryview(b"body"))
    assert pair.peer.recv(100) == b"headbody"
    assert pair.stream.unsent == 0


@pytest.mark.parametrize("head", [10, 700_000])
def test_what_has_no_room_is_held_back_and_keeps_its_order(pair: Pair, head: int) -> None:
    parts = [os.urandom(head), os.urandom(2_000_000), b"x" * 100_000, b"", b"end"]
    pair.stream.write_two(parts[0], parts[1])
    held = pair.stream.unsent
    assert 0 < held < head + 2_000_000
    pair.stream.write(parts[2])
    pair.stream.write_two(parts[3], parts[4])
    assert pair.stream.unsent == held + 100_003
    whole = b"".join(parts)
    assert pair.take(len(whole)) == whole
    pair.until(lambda: pair.owner.told == ["flushed"])
    assert pair.stream.unsent == 0


def test_closing_waits_for_what_is_held_back(pair: Pair) -> None:
    pair.stream.write(b"x" * 3_000_000)
    pair.stream.close()
    pair.stream.write(b"too late")
    assert not pair.stream.closed
    assert pair.take(3_000_000) == b"x" * 3_000_000
    pair.until(lambda: pair.owner.told == ["lost"])
    assert pair.peer.recv(1) == b""


def test_the_end_of_writing_comes_behind_what_is_held_back(pair: Pair) -> None:
    pair.stream.write(b"x" * 3_000_000)
    pair.stream.write_eof()
    assert pair.take(3_000_000) == b"x" * 3_000_000
    pair.until(lambda: pair.owner.told == ["flushed"])
    assert pair.peer.recv(1) == b""
    pair.peer.sendall(b"still heard")
    pair.until(lambda: pair.owner.data == b"still heard")


def test_an_abort_waits_for_nothing(pair: Pair) -> None:
    pair.stream.write(b"x" * 3_000_000)
    pair.stream.abort()
    pair.stream.abort()
    assert pair.stream.closed
    # The owner is told from the loop, never from within its own call.
    assert pair.owner.told == []
    pair.until(lambda: pair.owner.told == ["lost"])
    assert pair.owner.error is None


def test_bytes_are_read_to_where_they_belong(pair: Pair) -> None:
    place = bytearray(10)
    view = memoryview(place)
    pair.stream.get_buffer = lambda: view[sum(int(t.split()[1]) for t in pair.owner.told) :]
    pair.peer.sendall(b"01234")
    pair.until(lambda: pair.owner.told == ["filled 5"])
    pair.peer.sendall(b"56789")
    pair.until(lambda: pair.owner.told == ["filled 5", "filled 5"])
    assert place == b"0123456789"


def test_a_paused_stream_reads_nothing(pair: Pair) -> None:
    pair.stream.pause()
    pair.peer.sendall(b"x")
    pair.until(lambda: True)
    assert pair.owner.data == b""
    pair.stream.resume()
    pair.until(lambda: pair.owner.data == b"x")


def test_the_peers_end_is_told_once_and_costs_no_cpu(pair: Pair) -> None:
    pair.peer.shutdown(socket.SHUT_WR)
    pair.until(lambda: pair.owner.told == ["ended"])
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
    assert pair.owner.told == ["ended"]
    pair.stream.write(b"still heard")
    assert pair.peer.recv(100) == b"still heard"


def test_a_peer_that_is_gone(pair: Pair) -> None:
    pair.stream.write(b"unread")
    pair.peer.close()
    pair.until(lambda: "lost" in pair.owner.told or "ended" in pair.owner.told)
    pair.stream.write(b"x")
    pair.until(lambda: "lost" in pair.owner.told)
    assert isinstance(pair.owner.error, OSError)


def test_an_owner_that_raises_costs_its_own_stream_alone(
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
    pair.until(lambda: pair.owner.told == ["lost"] and other.owner.data == b"y")
    assert [str(fault) for fault in faults] == ["b'x'"]
    other.stream.abort()
    other.peer.close()
