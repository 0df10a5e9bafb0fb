"""The http trigger of a real processor: timings, the backlog, traces."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.runtime.http_wire import Wire

pytestmark = pytest.mark.system

HANDLER = """
import time

order = []


def handler(context, event):
    if event.path.startswith("/sleep"):
        time.sleep(float(event.fields["s"]))
    if event.path.startswith("/order"):
        order.append(event.fields["n"])
        return order
    if event.path.startswith("/log"):
        context.logger.info("looked at it")
    if event.path.startswith("/own"):
        return context.Response(headers={"Server-Timing": "model;dur=1"}, body="x")
    return {"id": event.id, "traceparent": event.headers.get("Traceparent")}
"""

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
PREFIX = "nuclio_processor_"


@pytest.fixture(scope="module")
def processor(serve_module: Any) -> Iterator[Any]:
    return serve_module(HANDLER, trigger={"attributes": {"maxRequestBodySize": 100_000}})


def wire_to(processor: Any) -> Wire:
    return Wire(("127.0.0.1", int(processor.url.rsplit(":", 1)[1])))


def metric(processor: Any, name: str, **labels: str) -> float:
    """Return the sum of the samples of this name that have these labels."""
    text = processor.admin("/metrics").body.decode()
    samples = re.findall(rf"^{PREFIX}{name}{{([^}}]*)}} (\S+)$", text, re.MULTILINE)
    wanted = [f'{key}="{value}"' for key, value in labels.items()]
    return sum(float(value) for pairs, value in samples if all(w in pairs for w in wanted))


def times(header: str) -> dict[str, float]:
    return {name: float(ms) for name, ms in re.findall(r"(\w+);dur=([\d.]+)", header)}


def test_replies_have_timings(processor: Any) -> None:
    began = time.monotonic()
    answer = processor.send(path="/sleep?s=0.1")
    elapsed = (time.monotonic() - began) * 1000
    spent = times(answer.header("server-timing"))
    assert list(spent) == ["queue", "handover", "handler", "reply"]
    assert spent["handler"] >= 100
    assert all(0 <= ms < elapsed for ms in spent.values())
    assert sum(spent.values()) <= elapsed
    for stage in spent:
        assert metric(processor, "event_stage_duration_milliseconds_count", stage=stage) >= 1
    assert metric(processor, "event_stage_duration_milliseconds_sum", stage="handler") >= 100


def test_a_handler_may_add_its_own_timing(processor: Any) -> None:
    with wire_to(processor) as wire:
        wire.ask("/own")
        raw = b""
        while b"\r\n\r\nx" not in raw:
            raw += wire.sock.recv(4096)
    lines = [line for line in raw.split(b"\r\n") if line.startswith(b"Server-Timing")]
    assert lines[0] == b"Server-Timing: model;dur=1"
    assert lines[1].startswith(b"Server-Timing: queue;dur=")


def test_waiting_for_a_worker_is_the_queue_time(processor: Any) -> None:
    with wire_to(processor) as first, wire_to(processor) as second:
        first.ask("/sleep?s=3")
        processor.await_workers("busy")
        second.ask("/")
        assert times(first.answer().headers["server-timing"])["queue"] < 1000
        assert times(second.answer().headers["server-timing"])["queue"] > 100


def test_bodies_and_refusals_are_counted(processor: Any) -> None:
    bodies = metric(processor, "request_body_bytes_sum")
    processor.send(b"x" * 50_000)
    assert metric(processor, "request_body_bytes_sum") == bodies + 50_000
    assert processor.send(b"x" * 100_001).status == 413
    with wire_to(processor) as wire:
        assert wire.send(b"GET / HTTP/1.1\r\n\r\n").answer().status == 400
    assert metric(processor, "http_refusals_total", status="413") == 1
    assert metric(processor, "http_refusals_total", status="400") == 1
    assert metric(processor, "http_refusals_total", status="431") == 0
    assert metric(processor, "waiting_events") == 0


def test_the_event_has_the_id_of_the_request(processor: Any) -> None:
    answer = processor.send()
    assert json.loads(answer.body)["id"] == answer.header("x-request-id")
    ids = {json.loads(processor.send().body)["id"] for _ in range(200)}
    assert len(ids) == 200
    named = processor.send(x_request_id="mine")
    assert named.header("x-request-id") == "mine"
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", json.loads(named.body)["id"])


def test_traces_reach_the_handler_and_the_log(processor: Any) -> None:
    assert processor.call(path="/log", traceparent=PARENT)["traceparent"] == PARENT
    assert processor.await_record("looked at it", trace_id=TRACE)["request_id"]
    for wrong in (PARENT.upper(), PARENT[:-3], PARENT.replace(TRACE, "0" * 32), "ff" + PARENT[2:]):
        processor.call(path="/log", traceparent=wrong)
    assert len(processor.records(trace_id=TRACE)) == 1


def test_the_logs_header_has_no_ids(processor: Any) -> None:
    answer = processor.send(path="/log", traceparent=PARENT, x_nuclio_log_level="info")
    (record,) = json.loads(answer.header("x-nuclio-logs"))
    assert set(record) == {"time", "level", "name", "message"}


def test_a_pipelining_client_gets_no_more_workers_than_others(serve: Any) -> None:
    processor = serve(HANDLER)
    with wire_to(processor) as busy, wire_to(processor) as greedy, wire_to(processor) as modest:
        busy.ask("/sleep?s=3")
        processor.await_workers("busy")
        for number in range(30):
            greedy.ask(f"/order?n={number}")
        processor.await_waiting(1)
        modest.ask("/order?n=modest")
        order = modest.answer().json
        for _ in range(30):
            greedy.answer()
    assert order in (["0", "modest"], ["modest"])


def test_a_full_backlog_is_reported_at_once(serve: Any) -> None:
    processor = serve(HANDLER, trigger={"attributes": {"maxBacklog": 2}})
    with ExitStack() as stack:
        waiting = [stack.enter_context(wire_to(processor)).ask("/sleep?s=5")]
        processor.await_workers("busy")
        waiting += [stack.enter_context(wire_to(processor)).ask("/sleep?s=0") for _ in range(2)]
        processor.await_waiting(2)
        began = time.monotonic()
        answer = processor.send()
        assert time.monotonic() - began < 2
        assert answer.status == 503
        assert answer.header("retry-after") == "1"
        assert "2 requests are waiting for a worker already (maxBacklog)" in str(answer.body)
        assert metric(processor, "waiting_events") == 2
        assert metric(processor, "worker_allocation_total", result="error_backlog") == 1
        assert [wire.answer().status for wire in waiting] == [200, 200, 200]
    assert processor.send().status == 200


def test_a_backlog_is_bounded_in_bytes_too(serve: Any) -> None:
    processor = serve(HANDLER, trigger={"attributes": {"maxBacklogBytes": 100_000}})
    with ExitStack() as stack:
        waiting = []
        # The second waits whatever its size, because no other request waits.
        for size, seconds in ((10, 4), (200_000, 0)):
            wire = stack.enter_context(wire_to(processor))
            waiting.append(wire.ask(f"/sleep?s={seconds}", bytes(size)))
            processor.await_workers("busy")
        processor.await_waiting(1)
        refused = processor.send(b"x")
        assert refused.status == 503
        assert "1 requests with 200000 bytes are waiting" in str(refused.body)
        assert [wire.answer().status for wire in waiting] == [200, 200]
    assert processor.send(b"x").status == 200


def test_requests_beyond_the_workers_are_served_in_order(serve: Any) -> None:
    processor = serve(HANDLER, workers=2)
    statuses = []

    def ask() -> None:
        with wire_to(processor) as wire:
            for _ in range(20):
                statuses.append(wire.ask("/").answer().status)

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 320
    assert metric(processor, "waiting_events") == 0


def test_a_client_that_leaves_the_queue_occupies_no_worker(serve: Any) -> None:
    processor = serve(HANDLER)
    with wire_to(processor) as busy:
        busy.ask("/sleep?s=3")
        processor.await_workers("busy")
        for _ in range(3):
            with wire_to(processor) as gone:
                gone.ask("/order?n=gone")
                gone.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        assert busy.answer().status == 200
    assert processor.call(path="/order?n=here") == ["here"]


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"maxBacklog": "many"}, "attributes.maxBacklog: 'many' is not a number of requests"),
        ({"maxBacklogBytes": -1}, "attributes.maxBacklogBytes: -1 is not a number of bytes"),
        ({"readBufferSize": [1]}, "attributes.readBufferSize: [1] is not a number of bytes"),
        ({"cors": True}, "cors: True is not an object"),
        ({"cors": {"enabled": 1}}, "cors.enabled: 1 is not a bool"),
        ({"cors": {"enabled": True, "allowMethods": [1]}}, "cors.allowMethods: [1] is not a list"),
    ],
)
def test_invalid_attributes_are_reported(serve: Any, attributes: Any, message: str) -> None:
    processor = serve(HANDLER, trigger={"attributes": attributes}, wait=None)
    assert processor.process.wait(20) == 1
    assert message in processor.log_path.read_text()
    assert "Traceback" not in processor.log_path.read_text()


def test_a_wrong_limit_of_replies_is_an_error_of_the_configuration(serve: Any) -> None:
    processor = serve(HANDLER, trigger={"attributes": {"maxReplyBodySize": "1GB"}}, wait=None)
    assert processor.process.wait(20) == 2
    file, _, message = processor.log_path.read_text().partition(": ")
    assert file.endswith("processor.json")
    assert message == "attributes.maxReplyBodySize: '1GB' is not a number of bytes\n"


def test_headers_may_be_as_large_as_the_read_buffer(serve: Any) -> None:
    attributes = {"readbuffersize": 40_000, "reduceMemoryUsage": True, "port": 32001}
    processor = serve(HANDLER, trigger={"attributes": attributes})
    assert processor.send(x_large="y" * 39_000).status == 200
    answer = processor.send(x_large="y" * 41_000)
    assert answer.status == 431
    assert "40000 bytes" in str(answer.body)


def test_spans_are_created_if_the_environment_enables_them(serve: Any) -> None:
    processor = serve(HANDLER, env={"OTEL_TRACES_EXPORTER": "console"})
    seen = processor.call(path="/log", traceparent=PARENT)["traceparent"]
    assert seen.startswith(f"00-{TRACE}-")
    assert seen != PARENT
    own = json.loads(processor.send().body)["traceparent"].split("-")[1]
    assert own != TRACE
    assert processor.send(path="/sleep?s=x").status == 500
    assert processor.await_record("looked at it", trace_id=TRACE)
    assert processor.end() == 0
    text = processor.log_path.read_text()
    spans = [json.loads(line) for line in re.findall(r"^\{\n.*?^\}", text, re.M | re.S)]
    assert [span["attributes"]["http.response.status_code"] for span in spans] == [200, 200, 500]
    assert spans[0]["name"] == "under-test"
    assert spans[0]["kind"] == "SpanKind.SERVER"
    assert spans[0]["context"]["trace_id"] == f"0x{TRACE}"
    assert spans[0]["parent_id"] == "0x00f067aa0ba902b7"
    assert seen.split("-")[2] in spans[0]["context"]["span_id"]
    assert spans[1]["context"]["trace_id"] == f"0x{own}"
    assert [span["status"]["status_code"] for span in spans] == ["UNSET", "UNSET", "ERROR"]


def test_spans_that_cannot_be_created_are_a_warning(serve: Any) -> None:
    processor = serve(HANDLER, environ={"OTEL_TRACES_EXPORTER": "nonsense"})
    assert processor.call(traceparent=PARENT)["traceparent"] == PARENT
    assert processor.await_record("there are no spans", level="warn")
