"""Batches whose size the http trigger learns, and requests whose clients leave."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.runtime import interpreters
from tests.runtime.conftest import eventually

pytestmark = pytest.mark.system

HANDLER = """
import os
import time


def handler(context, events):
    bodies = [event.body.decode() for event in events]
    context.logger.info_with("called", bodies=bodies)
    for event in events:
        gate = event.headers.get("X-Gate")
        while gate and not os.path.exists(gate):
            time.sleep(0.01)
    # A call with 8 events takes twice the time of one with a single event.
    time.sleep(0.018 + 0.003 * len(events))
    return ["%s of %d" % (body, len(events)) for body in bodies]
"""


def adaptive(size: int, **more: Any) -> dict[str, Any]:
    return {"batch": {"size": size, "timeout": 15.0, "adaptive": True}, **more}


def entry(processor: Any) -> dict[str, Any]:
    """The trigger's entry in the status."""
    (entry,) = processor.status()["triggers"]
    return entry


def await_received(processor: Any, count: int) -> None:
    """Wait until this number of requests waits or was dropped."""

    def received() -> bool:
        status = entry(processor)
        return status["waiting"] + status["dropped"] == count

    eventually(received, 30.0)


def calls(processor: Any) -> list[list[str]]:
    return [record["bodies"] for record in processor.records(message="called")]


def raw_request(body: str) -> bytes:
    return f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


def leave(processor: Any, body: str, before: Callable[[], object] = lambda: None) -> None:
    """Send a request and close the connection, once `before` has returned, without its reply."""
    address = processor.url.removeprefix("http://").split(":")
    with socket.create_connection((address[0], int(address[1]))) as sock:
        sock.sendall(raw_request(body))
        before()


@pytest.mark.parametrize("version", interpreters.few())
def test_a_single_caller_does_not_wait_and_many_get_large_batches(serve: Any, version: str) -> None:
    processor = serve(HANDLER, version=version, trigger=adaptive(8))
    assert [processor.send(str(number)).body for number in range(12)] == [
        b"%d of 1" % number for number in range(12)
    ]
    sizes: set[int] = set()
    end = time.monotonic() + 60.0

    def send_repeatedly(name: int) -> None:
        number = 0
        while 8 not in sizes and time.monotonic() < end:
            number += 1
            text = f"{name}-{number}"
            echo, _, size = processor.send(text).body.decode().partition(" of ")
            assert echo == text
            sizes.add(int(size))

    with ThreadPoolExecutor(24) as pool:
        list(pool.map(send_repeatedly, range(24)))
    assert max(sizes) == 8
    status = entry(processor)
    assert (status["mode"], status["size"], status["waiting"]) == ("adaptive", 8, 0)
    assert status["mean_size"] > 1.0


def test_status_and_metrics(serve: Any) -> None:
    processor = serve(HANDLER, trigger={"batch": {"size": 2, "timeout": 0.01}})
    assert [processor.send("a").status, processor.send("b").status] == [200, 200]
    assert entry(processor) == {
        "name": "http", "kind": "http", "mode": "enable", "size": 2, "limit": 2,
        "waiting": 0, "batches": 2, "mean_size": 1.0, "dropped": 0,
    }  # fmt: skip
    text = processor.admin("/metrics").body.decode()
    assert re.search(r'batch_events_bucket{.*le="1"} 2\n', text)
    assert re.search(r'batches_total{.*completeness="full"} 0\n', text)
    assert re.search(r'batches_total{.*completeness="partial"} 2\n', text)
    assert re.search(r"batch_dropped_events_total{.*} 0\n", text)


@pytest.mark.parametrize("is_adaptive", [True, False])
def test_requests_of_clients_that_left_are_dropped_before_the_call(
    serve: Any, tmp_path: Path, is_adaptive: bool
) -> None:
    gate = str(tmp_path / "gate")
    batch = {"size": 2, "timeout": 0.05, "adaptive": is_adaptive}
    trigger = {"batch": batch, "attributes": {"maxBacklog": 6}}
    processor = serve(HANDLER, trigger=trigger)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(processor.send, "first", x_gate=gate)
        processor.await_workers("busy")
        for number in range(6):
            leave(processor, f"left {number}", lambda n=number: await_received(processor, n + 1))
        # They filled the backlog.
        stays = [pool.submit(processor.send, f"stays {number}") for number in range(3)]
        await_received(processor, 9)
        Path(gate).touch()
        assert first.result().body == b"first of 1"
        assert {future.result().body.decode()[:7] for future in stays} == {
            "stays 0", "stays 1", "stays 2"
        }  # fmt: skip
    assert entry(processor)["dropped"] == 6
    assert not [body for bodies in calls(processor) for body in bodies if "left" in body]


def test_a_client_that_leaves_during_the_call_does_not_affect_the_others(
    serve: Any, tmp_path: Path
) -> None:
    gate = str(tmp_path / "gate")
    processor = serve(HANDLER, trigger={"batch": {"size": 3, "timeout": 15.0}})
    with ThreadPoolExecutor(2) as pool:
        leave_later = pool.submit(leave, processor, "left", lambda: processor.await_workers("busy"))
        processor.await_waiting(1)
        stays = [pool.submit(processor.send, "stays", x_gate=gate)]
        processor.await_waiting(2)
        other = socket.create_connection(("127.0.0.1", int(processor.url.rpartition(":")[2])))
        with other:
            other.sendall(raw_request("other"))
            leave_later.result()
            Path(gate).touch()
            assert stays[0].result().body == b"stays of 3"
            assert other.recv(65536).endswith(b"other of 3")
    (bodies,) = calls(processor)
    assert sorted(bodies) == ["left", "other", "stays"]


def test_each_request_waits_for_a_worker_as_long_as_configured(serve: Any, tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")
    processor = serve(HANDLER, trigger=adaptive(4, availability_timeout_ms=1500))
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(processor.send, "first", x_gate=gate)
        processor.await_workers("busy")
        early = pool.submit(processor.send, "early")
        processor.await_waiting(1)
        time.sleep(0.8)
        late = pool.submit(processor.send, "late")
        answer = early.result()
        assert answer.status == 503
        assert answer.header("retry-after") == "1"
        assert "all 1 workers were busy for 1500 ms" in json.loads(answer.body)["error"]
        assert not late.done()
        Path(gate).touch()
        assert (first.result().status, late.result().status) == (200, 200)


def test_a_pool_that_is_shared_with_another_trigger(serve: Any, soon: Any) -> None:
    triggers = {
        "web": {"kind": "http", "allocator": "both", **adaptive(8)},
        "clock": {"kind": "cron", "allocator": "both", "attributes": {"interval": 0.1}},
    }
    source = HANDLER.replace(
        "    bodies =", "    if not isinstance(events, list):\n        return None\n    bodies =", 1
    )
    processor = serve(source, triggers=triggers)

    def runs() -> int:
        return {entry["name"]: entry for entry in processor.status()["triggers"]}["clock"]["runs"]

    with ThreadPoolExecutor(9) as pool:
        before = runs()
        load = [
            pool.submit(lambda: [processor.send("x").status for _ in range(20)]) for _ in range(8)
        ]
        soon(lambda: runs() > before)
        assert {status for future in load for status in future.result()} == {200}


def test_a_drain_answers_the_requests_that_wait(serve: Any, tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")
    processor = serve(HANDLER, trigger=adaptive(4))
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(processor.send, "first", x_gate=gate)
        processor.await_workers("busy")
        others = [pool.submit(processor.send, f"other {number}") for number in range(3)]
        processor.await_waiting(3)
        processor.process.terminate()
        processor.await_record("Draining")
        Path(gate).touch()
        assert [future.result().status for future in [first, *others]] == [200] * 4
    assert processor.process.wait(60) == 0
