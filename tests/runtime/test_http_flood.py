"""Ten thousand malformed streams over the wire: correct replies, no hang, no growth."""

import os
import socket
from itertools import islice
from pathlib import Path

import pytest

from fnbuild.runtime.http.parser import HttpError
from fnbuild.runtime.http.reader import NOTHING, RequestReader
from tests.runtime.http_wire import Process, Wire, serving, until
from tests.runtime.mutation import streams

pytestmark = pytest.mark.system

MAX_BODY = 1 << 20
AT_ONCE = 100


def expected(raw: bytes) -> list[int]:
    """Return the statuses that a client gets for these bytes."""
    reader = RequestReader(16 * 1024, MAX_BODY)
    reader.feed(raw)
    statuses = []
    try:
        while (request := reader.next()) is not None:
            statuses.append(200 if request[0].path == "/echo" else 404)
            if not request[0].keep_alive:
                return statuses
    except HttpError as refusal:
        return [*statuses, refusal.status]
    return statuses if reader.progress == NOTHING else [*statuses, 400]


def answered(wire: Wire) -> list[int]:
    """Return the statuses until the server closes; raise TimeoutError if it does not."""
    data = b""
    while got := wire.sock.recv(1 << 16):
        data += got
    statuses = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        status = int(first.split(b" ", 2)[1])
        if status != 100:
            statuses.append(status)
            headers = dict(line.lower().split(b": ", 1) for line in lines)
            data = data[int(headers[b"content-length"]) :]
    return statuses


def kilobytes(server: Process) -> int:
    """Return the memory of the server without other clients."""
    until(lambda: server.counts()["connections"] == 1, "all connections are gone")
    status = Path(f"/proc/{server.popen.pid}/status").read_text()
    resident = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(resident.split()[1])


def descriptors(server: Process) -> int:
    return len(os.listdir(f"/proc/{server.popen.pid}/fd"))


def flood(server: Process, batch: list[bytes]) -> None:
    wires = []
    for raw in batch:
        wire = server.wire()
        wire.send(raw)
        wire.sock.shutdown(socket.SHUT_WR)
        wires.append(wire)
    for wire, raw in zip(wires, batch, strict=True):
        with wire:
            assert answered(wire) == expected(raw), raw


def test_malformed_streams_get_replies_and_leave_nothing():
    corpus = streams(10_000, seed=11)
    with serving(limits={"max_body": MAX_BODY}) as server:
        open_before = descriptors(server)
        for _ in range(10):
            flood(server, list(islice(corpus, AT_ONCE)))
        before = kilobytes(server)
        while batch := list(islice(corpus, AT_ONCE)):
            flood(server, batch)
        assert kilobytes(server) < before + 2048
        until(lambda: descriptors(server) == open_before, "every descriptor is closed")
        # The server is unchanged: it has neither errors nor requests in flight.
        assert server.counts()["errors"] == []
        with server.wire() as wire:
            assert wire.ask("/echo", b"as ever").answer().body == b"as ever"
