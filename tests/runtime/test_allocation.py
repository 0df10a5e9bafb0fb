"""Allocation of workers: events that get one, wait, or are refused."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

pytestmark = pytest.mark.system

SLEEPY = """
import time

order = []


def handler(context, event):
    if event.path == "/order":
        return order
    order.append(event.path)
    time.sleep(float(event.get_header("x-seconds") or 0))
    return context.worker_id
"""


def send_concurrently(processor: Any, count: int, seconds: str) -> list[Any]:
    answers: list[Any] = []
    threads = []
    for number in range(count):
        path = f"/{number}"
        threads.append(
            threading.Thread(
                target=lambda path=path: answers.append(
                    processor.send(path=path, x_seconds=seconds)
                )
            )
        )
        threads[-1].start()
    for thread in threads:
        thread.join()
    return answers


def test_no_wait_with_a_timeout_of_zero(serve: Any) -> None:
    processor = serve(SLEEPY, trigger={"availability_timeout_ms": 0})
    answers = send_concurrently(processor, 2, "3")
    assert sorted(a.status for a in answers) == [200, 503]
    refused = next(a for a in answers if a.status == 503)
    assert refused.header("retry-after") == "1"
    assert "workerAvailabilityTimeoutMilliseconds" in json.loads(refused.body)["error"]
    assert processor.send().status == 200


def test_the_wait_ends_with_the_timeout(serve: Any) -> None:
    processor = serve(SLEEPY, trigger={"availability_timeout_ms": 300})
    answers = send_concurrently(processor, 3, "4")
    assert sorted(a.status for a in answers) == [200, 503, 503]


def test_requests_are_served_in_order_of_arrival(serve: Any) -> None:
    processor = serve(SLEEPY)
    with ThreadPoolExecutor(6) as pool:
        answers = [pool.submit(processor.send, path="/0", x_seconds="4")]
        processor.await_workers("busy")
        for number in range(1, 6):
            answers.append(pool.submit(processor.send, path=f"/{number}"))
            processor.await_waiting(number)
    assert {answer.result().status for answer in answers} == {200}
    assert json.loads(processor.send(path="/order").body) == [f"/{n}" for n in range(6)]


def test_every_worker_gets_events(serve: Any) -> None:
    processor = serve(SLEEPY, workers=3)
    answers = send_concurrently(processor, 3, "3")
    assert sorted(a.body for a in answers) == [b"0", b"1", b"2"]


def test_a_disconnected_client_occupies_no_worker(serve: Any, soon: Any) -> None:
    import socket

    processor = serve(SLEEPY)
    port = int(processor.url.rpartition(":")[2])
    gone = []
    for _ in range(5):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-Seconds: 0.2\r\n\r\n")
        gone.append(sock)
    for sock in gone:
        sock.close()
    assert processor.send().status == 200
    soon(lambda: processor.status()["in_flight"] == 0)
