"""A processor that is ending serves on while clients may still send requests."""

from __future__ import annotations

import http.client
import operator
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.runtime import interpreters
from tests.runtime.conftest import PATIENCE, Running

pytestmark = pytest.mark.system

HANDLER = """
import time


def handler(context, event):
    time.sleep(float(event.get_header("x-seconds") or 0))
    return "served"
"""
LINGER = 4.0


Connect = Callable[[Running], http.client.HTTPConnection]


@pytest.fixture
def connected() -> Iterator[Connect]:
    """Opens connections that stay open until the test ends, unless the processor closes them."""
    opened: list[http.client.HTTPConnection] = []

    def connect(processor: Running) -> http.client.HTTPConnection:
        opened.append(http.client.HTTPConnection(processor.url[len("http://") :], timeout=PATIENCE))
        return opened[-1]

    yield connect
    for connection in opened:
        connection.close()


def request(connection: http.client.HTTPConnection, path: str = "/", **headers: str) -> Any:
    """Return the reply with its body, on a connection that may stay open."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("GET", path, headers=named)
    reply = connection.getresponse()
    reply.read()
    return reply


def send_signal(processor: Running, number: int = signal.SIGTERM) -> float:
    """Send the signal that starts the lingering; return the earliest time of its start."""
    began = time.monotonic()
    processor.process.send_signal(number)
    processor.await_record(f"Serving for {LINGER:g} more seconds before the end")
    return began


@pytest.mark.parametrize("version", interpreters.few())
def test_a_lingering_processor_serves_and_closes_connections(
    version: str, serve: Any, connected: Connect
) -> None:
    processor = serve(HANDLER, version=version, linger=LINGER)
    used, idle = connected(processor), connected(processor)
    assert request(used).getheader("connection") != "close"
    assert request(idle).status == 200
    began = send_signal(processor)
    # Existing connections and new ones.
    for connection in (used, connected(processor)):
        reply = request(connection)
        assert (reply.status, reply.getheader("connection")) == (200, "close")
    assert request(connected(processor), "/__internal/health").status == 200
    assert processor.admin("/ready").status == 200
    assert processor.status()["state"] == "ready"
    assert processor.process.poll() is None
    # The drain after it waits for idle connections as usual.
    assert processor.process.wait(PATIENCE) == 0
    assert time.monotonic() - began >= LINGER


def test_a_request_pending_at_the_end_is_answered(serve: Any, connected: Connect) -> None:
    processor = serve(HANDLER, linger=LINGER)
    send_signal(processor)
    assert request(connected(processor), x_seconds="6").status == 200
    assert processor.process.wait(PATIENCE) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_another_signal_ends_the_processor(serve: Any, connected: Connect, number: int) -> None:
    processor = serve(HANDLER, linger=60.0)
    processor.process.send_signal(signal.SIGTERM)
    processor.await_record("Serving for 60 more seconds before the end")
    thread = threading.Thread(
        target=lambda: replies.append(request(connected(processor), x_seconds="1"))
    )
    replies: list[Any] = []
    thread.start()
    processor.await_workers("busy")
    processor.process.send_signal(number)
    thread.join(PATIENCE)
    assert replies[0].status == 200
    assert processor.process.wait(PATIENCE) == 0


def test_an_interrupt_does_not_start_it(serve: Any) -> None:
    processor = serve(HANDLER, linger=60.0)
    processor.process.send_signal(signal.SIGINT)
    assert processor.process.wait(PATIENCE) == 0
    assert not processor.records(message="Serving for 60 more seconds before the end")


def test_no_request_is_served_before_the_model_is_loaded(serve: Any) -> None:
    processor = serve("import time\ntime.sleep(60)\n" + HANDLER, wait="starting", linger=60.0)
    assert processor.end() == 0


def test_a_processor_that_was_never_ready_does_not_linger(serve: Any) -> None:
    broken = "def init_context(context):\n    1 / 0\n"
    processor = serve(broken + HANDLER, wait="unhealthy", linger=60.0, accept="when-ready")
    processor.process.send_signal(signal.SIGTERM)
    assert processor.process.wait(PATIENCE) == 0


def test_cron_triggers_are_stopped_meanwhile(serve: Any) -> None:
    cron = {"kind": "cron", "attributes": {"interval": 0.1}}
    processor = serve(
        "def handler(context, event): print('ran')", triggers={"tick": cron}, linger=60.0
    )
    processor.await_record("ran")
    processor.process.send_signal(signal.SIGTERM)
    processor.await_record("Serving for 60 more seconds before the end")
    assert processor.status()["triggers"][0]["next"] is None


def test_a_switch_with_a_late_balancer_loses_no_request(
    serve: Any, connected: Connect, soon: Any
) -> None:
    """Clients that keep connections and never retry; new ones use the old processor first."""
    target = serve(HANDLER, linger=6.0)
    failures: list[str] = []
    answered = [0] * 4
    stop = threading.Event()

    def client(number: int) -> None:
        try:
            while not stop.is_set():
                connection = connected(target)
                closes = False
                while not closes and not stop.is_set():
                    reply = request(connection)
                    assert reply.status == 200
                    answered[number] += 1
                    closes = reply.getheader("connection") == "close"
                connection.close()
        except (OSError, AssertionError, http.client.HTTPException) as error:
            failures.append(repr(error))

    def all_clients_were_served() -> None:
        marks = [count + 20 for count in answered]
        soon(lambda: failures or all(map(operator.gt, answered, marks)))

    threads = [threading.Thread(target=client, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(2):
        old, new = target, serve(HANDLER, linger=6.0)
        old.process.send_signal(signal.SIGTERM)
        all_clients_were_served()
        target = new
        assert old.process.wait(PATIENCE) == 0
        all_clients_were_served()
    stop.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert failures == []


def test_without_lingering_the_end_begins_at_once(serve: Any) -> None:
    processor = serve(HANDLER)
    began = time.monotonic()
    assert processor.end() == 0
    assert time.monotonic() - began < LINGER
    assert not [each for each in processor.records() if "before the end" in each["message"]]
