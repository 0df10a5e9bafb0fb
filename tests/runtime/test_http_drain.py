"""Draining without lost requests, and sharing a listening socket."""

import contextlib
import threading

import pytest

from tests.runtime import interpreters
from tests.runtime.http_wire import DEADLINE, Process, Wire, listener, serving, until


@pytest.fixture(params=interpreters.few())
def version(request):
    return request.param


@pytest.fixture
def server(version):
    with serving(version) as process:
        yield process


def test_a_drain_without_connections_ends_at_once(server: Process):
    server.command("DRAIN 600")
    assert server.drained() == 0


def test_requests_in_flight_are_answered(server: Process):
    with server.wire() as wire:
        wire.ask("/sleep?1.5", extra="X-N: 1\r\n")
        until(lambda: server.counts()["in_flight"] == 2, "the request is in flight")
        server.command("DRAIN 600")
        answer = wire.answer()
        assert (answer.body, answer.closes) == (b"1", True)
        assert wire.ended()
    assert server.drained() == 0


def test_a_drain_waits_for_idle_connections(server: Process):
    with server.wire() as fresh, server.wire() as used:
        used.ask("/echo", b"x").answer()
        until(lambda: server.counts()["connections"] == 3, "all are accepted")
        server.command("DRAIN 600")
        assert used.silent()
        assert fresh.silent()
        for wire in (used, fresh):
            answer = wire.ask("/echo", b"last").answer()
            assert (answer.body, answer.closes) == (b"last", True)
            assert wire.ended()
            wire.sock.close()
    assert server.drained() == 0


def test_idle_connections_are_closed_by_the_timeout(server: Process):
    with server.wire() as fresh, server.wire() as used:
        used.ask("/echo", b"x").answer()
        until(lambda: server.counts()["connections"] == 3, "all are accepted")
        server.command("DRAIN 0.2")
        assert fresh.ended()
        assert used.ended()
    assert server.drained() == 0


def test_requests_in_flight_outlast_the_timeout(server: Process):
    with server.wire() as wire:
        wire.ask("/sleep?1.5", extra="X-N: 1\r\n")
        until(lambda: server.counts()["in_flight"] == 2, "the request is in flight")
        server.command("DRAIN 0.2")
        assert wire.answer().body == b"1"
        assert wire.ended()
    assert server.drained() == 0


def test_a_partly_received_request_is_answered(server: Process):
    with server.wire() as head, server.wire() as body:
        head.send(b"POST /echo HTTP/1.1\r\nHo")
        body.send(b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhe")
        until(lambda: server.counts()["connections"] == 3, "all are accepted")
        server.command("DRAIN 0.2")
        assert head.silent(0.5)
        assert body.silent(0.1)
        assert body.send(b"llo").answer().body == b"hello"
        assert head.send(b"st: test\r\n\r\n").answer().closes
        assert head.ended()
        assert body.ended()
    assert server.drained() == 0


def test_received_pipelined_requests_are_answered(server: Process):
    with server.wire() as wire:
        wire.ask("/sleep?1.5")
        # More than one read returns, so that some wait in the kernel when the drain begins.
        for _ in range(60):
            wire.ask("/echo", b"x" * 10_000)
        until(lambda: server.counts()["in_flight"] == 2, "the request is in flight")
        server.command("DRAIN 600")
        answers = [wire.answer() for _ in range(61)]
        assert [answer.status for answer in answers] == [200] * 61
        assert [answer.closes for answer in answers] == [False] * 60 + [True]
        assert wire.ended()
    assert server.drained() == 0


def test_a_second_drain_shortens_the_first(server: Process):
    with server.wire() as wire:
        until(lambda: server.counts()["connections"] == 2, "the connection is accepted")
        with server.wire() as control:
            until(lambda: server.counts()["connections"] == 3, "so is the other")
            server.command("DRAIN 600")
            control.send(b"DRAIN 0.2\n")
            assert control.ended()
        assert wire.ended()
    assert server.drained() == 0


def test_paused_servers_leave_connections_in_the_queue(server: Process):
    server.command("PAUSE")
    with server.wire() as wire:
        wire.ask("/echo", b"x")
        assert wire.silent()


def serves(wire: Wire) -> int:
    return wire.ask("/inspect", extra="Connection: close\r\n").answer().json["pid"]


def test_two_processes_share_a_listener(version: str):
    with listener() as sock, serving(version, sock) as first, serving(version, sock) as second:
        pids = {first.popen.pid, second.popen.pid}
        seen: set[int] = set()

        def both_serve() -> bool:
            with contextlib.ExitStack() as stack:
                wires = [stack.enter_context(Wire(sock.getsockname())) for _ in range(20)]
                seen.update(serves(wire) for wire in wires)
            return seen == pids

        until(both_serve, "both have served")
        with Wire(sock.getsockname()) as wire:
            wire.send(b"DRAIN 600\n")
            assert wire.ended()

        def ended() -> bool:
            with Wire(sock.getsockname()) as wire:
                left = serves(wire)
            return any(p.popen.poll() is not None and p.popen.pid != left for p in (first, second))

        until(ended, "one has ended and the other serves")


def test_a_switch_between_processes_loses_no_request(version: str):
    """Clients that keep their connections and never retry, while servers take turns."""
    stop = threading.Event()
    failures: list[str] = []
    answered = [0] * 4

    def client(index: int, address: object) -> None:
        try:
            while not stop.is_set():
                with Wire(address) as wire:
                    closes = False
                    while not closes and not stop.is_set():
                        answer = wire.ask("/echo", b"x").answer()
                        assert answer.body == b"x"
                        answered[index] += 1
                        closes = answer.closes
        except (OSError, AssertionError) as error:
            failures.append(repr(error))

    with listener() as sock, contextlib.ExitStack() as stack:
        address = sock.getsockname()
        current = stack.enter_context(serving(version, sock))
        # Idle during the first switch.
        idle = stack.enter_context(Wire(address))
        threads = [threading.Thread(target=client, args=(i, address)) for i in range(4)]
        for thread in threads:
            thread.start()
        for turn in range(3):
            marks = list(answered)
            until(lambda m=marks: all(a > b + 20 for a, b in zip(answered, m, strict=True)), "load")
            following = stack.enter_context(serving(version, sock))
            _drain(current, address)
            if turn == 0:
                assert idle.ask("/echo", b"idle").answer().body == b"idle"
                idle.sock.close()
            assert current.drained() == 0
            current = following
        stop.set()
        for thread in threads:
            thread.join(DEADLINE)
    assert not failures


def _drain(process: Process, address: object) -> None:
    """Tell this one of several servers on a listener to drain."""
    for _ in range(1000):
        with Wire(address) as wire:
            if wire.ask("/inspect").answer().json["pid"] == process.popen.pid:
                wire.send(b"DRAIN 600\n")
                assert wire.ended()
                return
    raise AssertionError("the server was never reached")
