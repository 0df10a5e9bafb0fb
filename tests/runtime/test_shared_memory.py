"""Large bodies in shared memory keep their bytes as long as they are referenced."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fnbuild.runtime.processor import shared_memory
from tests.runtime import interpreters

pytestmark = pytest.mark.system

HANDLER = """
import hashlib

kept = []


def handler(context, event):
    what = event.path.strip("/")
    if what == "keep-body":
        kept.append(event.raw_body)
    if what == "keep-event":
        kept.append(event)
    if what == "kept":
        found = [one.body if hasattr(one, "body") else one for one in kept]
        return [hashlib.sha256(one).hexdigest() for one in found]
    if what == "raise":
        raise ValueError("no")
    data = event.body
    if isinstance(data, dict):
        return {"size": len(data["image"]), "last": data["image"][-1]}
    assert type(data) is bytes and data is event.body and data == event.raw_body
    return context.Response(body=data)
"""

SIZE = 1_000_000


def bytes_of(number: int, size: int = SIZE) -> bytes:
    return bytes([number]) * size


@pytest.fixture(scope="module", params=interpreters.every(interpreters.PYPY))
def processor(request: pytest.FixtureRequest, serve_module: Any) -> Any:
    return serve_module(HANDLER, version=request.param)


def test_large_bodies_are_unchanged(processor: Any) -> None:
    for size in (shared_memory.MIN_SHARED_BODY - 1, shared_memory.MIN_SHARED_BODY, SIZE, 4_000_001):
        body = os.urandom(size)
        assert processor.send(body).body == body
    text = "x" * SIZE + "ü"
    assert processor.call({"image": text}) == {"size": SIZE + 1, "last": "ü"}
    broken = b'{"image": ' + b"x" * SIZE
    assert processor.send(broken, content_type="application/json").body == broken
    assert processor.send(bytes_of(1), "/raise").status == 500


def test_a_body_that_a_handler_keeps_is_unchanged(serve: Any) -> None:
    from hashlib import sha256

    processor = serve(HANDLER)
    processor.send(bytes_of(1), "/keep-body")
    processor.send(bytes_of(2), "/keep-event")
    for number in range(3, 8):
        processor.send(bytes_of(number))
    expected = [sha256(bytes_of(1)).hexdigest(), sha256(bytes_of(2)).hexdigest()]
    assert json.loads(processor.send(path="/kept").body) == expected


def test_an_unread_event_is_passed_to_another_worker(serve: Any) -> None:
    processor = serve(HANDLER)
    for number in range(5):
        os.kill(processor.status()["workers"][0]["pid"], signal.SIGKILL)
        assert processor.send(bytes_of(number)).body == bytes_of(number)


def segments_of(pid: int) -> set[str]:
    """Return the segments that a process has mapped."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return {line.split()[4] for line in lines if "fnbuild-body" in line}


def test_memory_is_reused_and_released(serve: Any, soon: Any) -> None:
    processor = serve(HANDLER)
    worker = processor.status()["workers"][0]["pid"]
    processor.send(bytes_of(1, shared_memory.MIN_SHARED_BODY - 1))
    assert not segments_of(processor.pid)
    for _ in range(20):
        processor.send(bytes_of(1))
    assert 1 <= len(segments_of(processor.pid)) <= 2
    assert segments_of(worker) <= segments_of(processor.pid)
    assert segments_of(worker)
    soon(lambda: not segments_of(processor.pid) and not segments_of(worker))
    assert processor.send(bytes_of(2)).body == bytes_of(2)


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def test_segments_cannot_be_truncated(loop: asyncio.AbstractEventLoop) -> None:
    memory = shared_memory.RequestMemory(loop)
    body = memory.allocate_body(SIZE).data
    with pytest.raises(PermissionError):
        os.ftruncate(body.segment.fd, 10)


def test_without_shared_memory_bodies_use_the_socket(
    monkeypatch: pytest.MonkeyPatch, loop: asyncio.AbstractEventLoop
) -> None:
    monkeypatch.setattr(
        shared_memory, "_create_memfd", lambda: (_ for _ in ()).throw(OSError("no memfd"))
    )
    memory = shared_memory.RequestMemory(loop)
    assert isinstance(memory.allocate_body(SIZE).data, bytearray)
