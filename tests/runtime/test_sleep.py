"""Sleep and wake: idle workers release their memory, and requests wait for them."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.runtime import interpreters

pytestmark = pytest.mark.system

HANDLER = """
import os
import time


def init_context(context):
    if os.path.exists("broken"):
        raise ValueError("no weights")
    while os.path.exists("gate"):
        time.sleep(0.01)
    context.platform.set_termination_callback(lambda: print("model closed"))


def handler(context, event):
    time.sleep(float(event.get_header("x-seconds") or 0))
    body = event.body.decode() if isinstance(event.body, bytes) else ""
    return {"pid": os.getpid(), "body": body}
"""


def sleep_state(processor: Any) -> str:
    return processor.status()["sleep"]["state"]


def await_sleep(processor: Any, soon: Any, state: str = "asleep") -> None:
    soon(lambda: sleep_state(processor) == state)


def put_to_sleep(processor: Any) -> None:
    answer = processor.tell("/sleep")
    assert answer.status == 200, answer
    assert json.loads(answer.body)["state"] == "asleep"


def timing(answer: Any, stage: str) -> float | None:
    match = re.search(rf"\b{stage};dur=([\d.]+)", answer.header("server-timing"))
    return float(match.group(1)) if match else None


def metric(processor: Any, name: str) -> float:
    text = processor.admin("/metrics").body.decode()
    match = re.search(rf"^nuclio_processor_{name}{{.*}} (\S+)$", text, re.MULTILINE)
    assert match, text
    return float(match.group(1))


@pytest.mark.parametrize("version", interpreters.every())
def test_an_idle_function_sleeps_and_a_request_wakes_it(
    serve: Any, soon: Any, version: str
) -> None:
    processor = serve(HANDLER, workers=2, sleep={"idle_timeout": 0.3}, version=version)
    first = processor.call()["pid"]
    await_sleep(processor, soon)
    status = processor.status()
    assert status["state"] == "ready"
    assert [(w["state"], w["pid"]) for w in status["workers"]] == [("asleep", 0)] * 2
    assert status["sleep"]["idle_timeout"] == 0.3
    assert status["sleep"]["level"] == "exit"
    assert status["sleep"]["wake_seconds"] > 0
    assert abs(status["sleep"]["since"] - time.time()) < 60
    assert not Path(f"/proc/{first}").exists()
    assert [r["message"] for r in processor.records(message="model closed")] == ["model closed"] * 2
    assert processor.admin("/ready").status == 200
    assert metric(processor, "asleep") == 1
    answer = processor.send(b"waited")
    assert json.loads(answer.body)["body"] == "waited"
    assert timing(answer, "wake") > 0
    assert metric(processor, "wakes_total") >= 1
    assert processor.await_record("Awake after")
    assert {w["restarts"] for w in processor.status()["workers"]} == {0}


def test_the_processor_measures_the_wake(serve: Any, soon: Any) -> None:
    source = HANDLER + "\ntime.sleep(0)\n\n_init = init_context\n\n" + (
        "def init_context(context):\n    time.sleep(0.4)\n    _init(context)\n"
    )  # fmt: skip
    processor = serve(source)
    put_to_sleep(processor)
    answer = processor.send()
    assert timing(answer, "wake") >= 400
    stages = [timing(answer, s) for s in ("queue", "handover", "handler", "reply")]
    assert all(value is not None for value in stages)
    assert processor.status()["sleep"]["wake_seconds"] >= 0.4
    assert timing(processor.send(), "wake") is None
    assert metric(processor, "wakes_total") == 1


def test_requests_with_a_worker_prevent_the_sleep(serve: Any, soon: Any) -> None:
    processor = serve(HANDLER, sleep={"idle_timeout": 0.2})
    with ThreadPoolExecutor() as threads:
        long = threads.submit(processor.send, x_seconds="1.5")
        processor.await_workers("busy")
        time.sleep(0.6)
        assert sleep_state(processor) == "awake"
        assert long.result().status == 200
    await_sleep(processor, soon)


def test_requests_postpone_the_sleep(serve: Any) -> None:
    processor = serve(HANDLER, sleep={"idle_timeout": 3})
    pids = set()
    for _ in range(6):
        pids.add(processor.call()["pid"])
        time.sleep(0.7)
    assert len(pids) == 1


def test_many_callers_share_a_wake(serve: Any, soon: Any) -> None:
    processor = serve(HANDLER, workers=2)
    put_to_sleep(processor)
    gate = processor.code / "gate"
    gate.touch()
    with ThreadPoolExecutor(12) as threads:
        calls = [threads.submit(processor.send, str(n)) for n in range(12)]
        processor.await_waiting(12)
        assert sleep_state(processor) == "waking"
        assert processor.status()["state"] == "ready"
        gate.unlink()
        answers = [call.result() for call in calls]
    assert [json.loads(answer.body)["body"] for answer in answers] == [str(n) for n in range(12)]
    assert all(timing(answer, "wake") > 0 for answer in answers)
    assert metric(processor, "wakes_total") == 1


def test_health_checks_metrics_and_status_do_not_wake(serve: Any, soon: Any) -> None:
    trigger = {"attributes": {"protocols": ["v2"], "model": "m"}}
    processor = serve(HANDLER, trigger=trigger)
    put_to_sleep(processor)
    assert processor.send(path="/__internal/health", method="GET").status == 200
    for path in ("/v2/health/ready", "/v2/models/m/ready"):
        assert processor.send(path=path, method="GET").status == 200, path
    processor.admin("/metrics")
    time.sleep(0.1)
    assert sleep_state(processor) == "asleep"


def test_a_request_may_refuse_to_wake(serve: Any) -> None:
    processor = serve(HANDLER)
    assert processor.send(x_fnbuild_no_wake="1").status == 200
    put_to_sleep(processor)
    answer = processor.send(x_fnbuild_no_wake="1")
    assert answer.status == 503
    assert "asleep" in json.loads(answer.body)["error"]
    assert answer.header("retry-after")
    assert sleep_state(processor) == "asleep"


def test_cron_runs_do_not_wake(serve: Any, soon: Any) -> None:
    cron = {"kind": "cron", "attributes": {"interval": 0.1}}
    processor = serve(HANDLER, triggers={"clock": cron, "http": {}}, sleep={"idle_timeout": 1.5})
    await_sleep(processor, soon)
    skipped = processor.status()["triggers"][0]["skipped"]
    soon(lambda: processor.status()["triggers"][0]["skipped"] > skipped + 1)
    assert sleep_state(processor) == "asleep"
    runs = processor.status()["triggers"][0]["runs"]
    assert processor.send().status == 200
    soon(lambda: processor.status()["triggers"][0]["runs"] > runs)


def test_a_failed_wake_answers_everyone_with_the_traceback(serve: Any, soon: Any) -> None:
    processor = serve(HANDLER, workers=2)
    put_to_sleep(processor)
    broken = processor.code / "broken"
    broken.touch()
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: processor.send(), range(4)))
    for answer in answers:
        assert answer.status == 503
        assert "ValueError: no weights" in json.loads(answer.body)["error"]
    assert 'line 8, in init_context\n    raise ValueError("no weights")' in answers[0].body.decode(
        "unicode_escape"
    )
    assert processor.await_state("unhealthy")["sleep"]["state"] == "waking"
    woken = processor.tell("/wake")
    assert (woken.status, "no weights" in woken.body.decode()) == (500, True)
    broken.unlink()
    processor.await_state("ready")
    assert processor.send().status == 200
    await_sleep(processor, soon, "awake")


def test_a_worker_killed_while_it_wakes_is_started_again(serve: Any, soon: Any) -> None:
    processor = serve(HANDLER)
    put_to_sleep(processor)
    gate = processor.code / "gate"
    gate.touch()
    with ThreadPoolExecutor(3) as threads:
        calls = [threads.submit(processor.send) for _ in range(3)]
        processor.await_waiting(3)
        pid = soon(lambda: processor.status()["workers"][0]["pid"])
        os.kill(pid, signal.SIGKILL)
        soon(lambda: processor.status()["workers"][0]["pid"] not in (0, pid))
        gate.unlink()
        assert [call.result().status for call in calls] == [200] * 3


def test_requests_wait_as_long_as_a_worker_may_become_ready(serve: Any, soon: Any) -> None:
    """A failed worker does not end the wait while another one starts."""
    processor = serve(HANDLER, workers=2)
    (processor.code / "broken").touch()
    first, second = (worker["pid"] for worker in processor.status()["workers"])
    os.kill(first, signal.SIGKILL)
    processor.await_workers("unhealthy", "ready")
    (processor.code / "broken").unlink()
    (processor.code / "gate").touch()
    os.kill(second, signal.SIGKILL)
    soon(lambda: processor.status()["state"] == "starting")
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(processor.send)
        processor.await_waiting(1)
        (processor.code / "gate").unlink()
        assert call.result().status == 200


def test_a_wake_that_hangs_ends_at_the_readiness_timeout(serve: Any) -> None:
    processor = serve(HANDLER, readiness_timeout=5.0)
    put_to_sleep(processor)
    (processor.code / "gate").touch()
    answer = processor.send()
    assert answer.status == 503
    assert "init_context did not finish within 5 s" in json.loads(answer.body)["error"]
    (processor.code / "gate").unlink()


def test_the_availability_timeout_counts_from_the_end_of_the_wake(serve: Any, soon: Any) -> None:
    processor = serve(HANDLER, trigger={"availability_timeout_ms": 100})
    put_to_sleep(processor)
    gate = processor.code / "gate"
    gate.touch()
    with ThreadPoolExecutor(2) as threads:
        calls = [threads.submit(processor.send, x_seconds="0.6") for _ in range(2)]
        processor.await_waiting(2)
        time.sleep(0.3)
        gate.unlink()
        statuses = sorted(call.result().status for call in calls)
    assert statuses == [200, 503]


def test_the_backlog_is_limited_during_a_wake(serve: Any) -> None:
    processor = serve(HANDLER, trigger={"attributes": {"maxBacklog": 2}})
    put_to_sleep(processor)
    gate = processor.code / "gate"
    gate.touch()
    with ThreadPoolExecutor(2) as threads:
        calls = [threads.submit(processor.send) for _ in range(2)]
        processor.await_waiting(2)
        refused = processor.send()
        gate.unlink()
        assert [call.result().status for call in calls] == [200, 200]
    assert refused.status == 503
    assert "maxBacklog" in refused.body.decode()


def test_a_caller_that_leaves_during_a_wake_is_not_handled(serve: Any, soon: Any) -> None:
    processor = serve(HANDLER)
    put_to_sleep(processor)
    gate = processor.code / "gate"
    gate.touch()
    host, port = processor.url[len("http://") :].split(":")
    with socket.create_connection((host, int(port))) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: f\r\n\r\n")
        processor.await_waiting(1)
        # A client that only sends nothing more may wait for its answer.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    soon(lambda: processor.status()["connections"] == 0)
    gate.unlink()
    await_sleep(processor, soon, "awake")
    soon(lambda: processor.status()["in_flight"] == 0)
    handled = r'handled_events_total{.*result="success"} (\S+)'
    assert re.search(handled, processor.admin("/metrics").body.decode()).group(1) == "0"
    assert processor.send().status == 200


def test_batches_wake_the_workers(serve: Any) -> None:
    source = """
        def handler(context, events):
            return [context.Response(body=event.body, headers={}, event_id=event.id)
                    for event in events]
        """
    processor = serve(source, trigger={"batch": {"size": 4, "timeout": 0.05}})
    put_to_sleep(processor)
    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(lambda n: processor.send(str(n)), range(6)))
    assert [answer.status for answer in answers] == [200] * 6, answers


def test_a_sleep_right_after_a_wake_ends_the_workers_that_still_start(serve: Any) -> None:
    processor = serve(HANDLER, workers=3, trigger={"availability_timeout_ms": 2000})
    for _ in range(12):
        put_to_sleep(processor)
        assert {worker["pid"] for worker in processor.status()["workers"]} == {0}
        assert processor.send().status == 200


def test_a_reload_wakes_and_loads_the_new_code(serve: Any) -> None:
    processor = serve(HANDLER)
    put_to_sleep(processor)
    processor.write("def handler(context, event):\n    return 'second'\n")
    answer = processor.tell("/reload")
    assert (answer.status, json.loads(answer.body)["ok"]) == (200, True)
    assert processor.send().body == b"second"


def test_sleep_and_wake_on_request(serve: Any) -> None:
    processor = serve(HANDLER, workers=2)
    put_to_sleep(processor)
    put_to_sleep(processor)
    answer = processor.tell("/wake")
    assert (answer.status, json.loads(answer.body)["state"]) == (200, "awake")
    with ThreadPoolExecutor(1) as threads:
        long = threads.submit(processor.send, x_seconds="8")
        processor.await_workers("busy", "ready")
        answer = processor.tell("/sleep")
        assert answer.status == 409
        assert "workers are busy" in json.loads(answer.body)["error"]
        assert long.result().status == 200


def test_a_sleeping_processor_ends_at_once(serve: Any) -> None:
    processor = serve(HANDLER)
    put_to_sleep(processor)
    started = time.monotonic()
    assert processor.end() == 0
    assert time.monotonic() - started < 3


OFFLOADING = """
import os


def init_context(context):
    context.user_data.weights = "on the device"


def sleep(context):
    if os.path.exists("cannot-sleep"):
        raise OSError("no room")
    context.user_data.weights = "in host memory"
    print("offloaded")


def wake(context):
    if os.path.exists("cannot-wake"):
        raise MemoryError("the device is full")
    context.user_data.weights = "back"


def handler(context, event):
    return {"pid": os.getpid(), "weights": context.user_data.weights}
"""
OFFLOAD = {"level": "offload"}


@pytest.mark.parametrize("version", interpreters.every())
def test_the_handler_offloads_its_memory(serve: Any, version: str) -> None:
    processor = serve(OFFLOADING, sleep=OFFLOAD, version=version)
    before = processor.call()
    put_to_sleep(processor)
    assert processor.await_record("offloaded")
    worker = processor.status()["workers"][0]
    assert (worker["state"], worker["pid"]) == ("asleep", before["pid"])
    assert processor.call() == {"pid": before["pid"], "weights": "back"}
    assert processor.status()["sleep"]["level"] == "offload"


@pytest.mark.parametrize("missing", ["sleep", "wake"])
def test_offload_needs_both_functions(serve: Any, missing: str) -> None:
    source = OFFLOADING.replace(f"def {missing}(", f"def other_{missing}(")
    source = f"from time import sleep\n{source}"
    processor = serve(source, sleep=OFFLOAD, wait="unhealthy")
    reason = processor.status()["reason"]
    assert f"needs {missing}(context) in the module main" in reason
    assert "or use the level exit" in reason


def test_a_failed_offload_ends_the_worker(serve: Any) -> None:
    processor = serve(OFFLOADING, sleep=OFFLOAD)
    before = processor.call()["pid"]
    (processor.code / "cannot-sleep").touch()
    put_to_sleep(processor)
    assert processor.status()["workers"][0]["pid"] == 0
    assert processor.await_record("OSError: no room", level="error")
    after = processor.call()
    assert after["pid"] != before
    assert after["weights"] == "on the device"


def test_a_failed_wake_of_an_offloaded_worker_starts_another(serve: Any) -> None:
    processor = serve(OFFLOADING, sleep=OFFLOAD)
    put_to_sleep(processor)
    (processor.code / "cannot-wake").touch()
    answer = processor.send()
    assert answer.status == 503
    assert "MemoryError: the device is full" in json.loads(answer.body)["error"]
    processor.await_state("ready")
    assert processor.call()["weights"] == "on the device"


def test_a_worker_that_dies_asleep_starts_at_the_next_wake(serve: Any, soon: Any) -> None:
    processor = serve(OFFLOADING, sleep=OFFLOAD)
    pid = processor.call()["pid"]
    put_to_sleep(processor)
    os.kill(pid, signal.SIGKILL)
    soon(lambda: processor.status()["workers"][0]["pid"] == 0)
    assert sleep_state(processor) == "asleep"
    assert processor.call()["weights"] == "on the device"


def test_sleeps_and_killed_workers_lose_no_other_request(serve: Any) -> None:
    """Random sleeps, wakes and kills among the requests of many clients."""
    source = HANDLER + (
        "\n_handle = handler\n\n"
        "def handler(context, event):\n"
        "    with open('handled', 'ab', 0) as file:\n"
        "        file.write(event.body + b'\\n')\n"
        "    time.sleep(0.002)\n"
        "    return _handle(context, event)\n"
    )
    trigger = {"availability_timeout_ms": 30000}
    processor = serve(source, workers=3, trigger=trigger)
    random_numbers = random.Random(16)
    ended = threading.Event()
    killed = []

    def disturb() -> int:
        sleeps = 0
        while not ended.is_set():
            choice = random_numbers.random()
            if choice < 0.25:
                pids = [w["pid"] for w in processor.status()["workers"] if w["pid"]]
                if pids:
                    killed.append(random_numbers.choice(pids))
                    os.kill(killed[-1], signal.SIGKILL)
            else:
                sleeps += processor.tell("/sleep").status == 200
            time.sleep(random_numbers.random() * 0.2)
        return sleeps

    def client(number: int) -> list[tuple[str, int, bytes]]:
        answers = []
        for index in range(15):
            name = f"{number}-{index}"
            answer = processor.send(name)
            answers.append((name, answer.status, answer.body))
            time.sleep(random_numbers.random() * 0.3)
        return answers

    with ThreadPoolExecutor(34) as threads:
        disturbance = threads.submit(disturb)
        results = [entry for entries in threads.map(client, range(32)) for entry in entries]
        ended.set()
        assert disturbance.result() > 3
    lost = [entry for entry in results if entry[1] != 200]
    assert all(status == 500 and b"SIGKILL" in body for _, status, body in lost), lost
    assert len(lost) <= len(killed)
    assert all(json.loads(body)["body"] == name for name, status, body in results if status == 200)
    handled = (processor.code / "handled").read_text().split()
    assert len(handled) == len(set(handled))
