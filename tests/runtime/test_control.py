"""The admin API: status, metrics, drain, reload and stop."""

from __future__ import annotations

import array
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fnbuild.runtime import ids
from tests.runtime.conftest import PATIENCE, ROOT

pytestmark = pytest.mark.system

HANDLER = """
import os
import time


def init_context(context):
    context.user_data.loads = getattr(context.user_data, "loads", 0) + 1
    context.user_data.pid = os.getpid()
    context.platform.set_termination_callback(lambda: print("model closed"))


def handler(context, event):
    time.sleep(float(event.get_header("x-seconds") or 0))
    return {"loads": context.user_data.loads, "pid": context.user_data.pid, "version": 1}
"""


@pytest.fixture
def keep_alive() -> Iterator[Any]:
    """Open connections that have been used once and stay open."""
    opened: list[http.client.HTTPConnection] = []

    def connect(processor: Any) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(processor.url[len("http://") :], timeout=PATIENCE)
        opened.append(connection)
        connection.request("GET", "/")
        assert connection.getresponse().read()
        return connection

    yield connect
    for connection in opened:
        connection.close()


def test_health_and_status(serve: Any) -> None:
    processor = serve(HANDLER, workers=2)
    assert processor.admin("/live").status == 200
    assert processor.admin("/ready").status == 200
    health = processor.send(path="/__internal/health", method="GET")
    assert health.status == 200
    assert health.header("x-fnbuild-instance") == ids.instance_id(socket.gethostname())
    status = processor.status()
    assert status["state"] == "ready"
    assert status["pid"] == processor.pid
    assert status["revision"] == 7
    assert abs(status["started"] - time.time()) < 60
    assert [w["id"] for w in status["workers"]] == ["0", "1"]
    assert {w["state"] for w in status["workers"]} == {"ready"}
    for worker in status["workers"]:
        os.kill(worker["pid"], 0)
    assert processor.admin("/nothing").status == 404
    assert processor.admin("/drain").status == 404
    assert processor.tell("/status").status == 405


def test_metrics(serve: Any) -> None:
    processor = serve(HANDLER)
    processor.call()
    processor.send(path="/", x_seconds="nonsense")
    answer = processor.admin("/metrics")
    assert answer.header("content-type").startswith("text/plain; version=0.0.4")
    text = answer.body.decode()
    labels = 'namespace="nuclio",function="under-test",project="p",trigger_kind="http"'
    lines = [
        'handled_events_total{%s,trigger_id="http",result="success"} 1',
        'handled_events_total{%s,trigger_id="http",result="failure"} 1',
        'worker_allocation_total{%s,trigger_id="http",result="success_immediate"} 2',
    ]
    without_instance = text.replace(f'instance="{socket.gethostname()}",', "")
    for line in lines:
        assert "nuclio_processor_" + line % labels in without_instance
    assert 'nuclio_processor_workers{instance="' in text


def test_health_is_available_before_the_model(serve: Any) -> None:
    processor = serve(
        """
        import os
        import time

        while not os.path.exists("gate"):
            time.sleep(0.02)

        def handler(context, event):
            return "served"
        """,
        wait=None,
        trigger={"availability_timeout_ms": 10},
    )
    assert processor.admin("/live").status == 200
    assert processor.send(path="/__internal/health", method="GET").status == 200
    answer = processor.admin("/ready")
    assert (answer.status, json.loads(answer.body)["state"]) == (503, "starting")
    answer = processor.send()
    assert answer.status == 503
    assert "the function is starting" in json.loads(answer.body)["error"]
    assert answer.header("retry-after") == "1"
    (processor.code / "gate").touch()
    processor.await_state("ready")
    assert processor.send().body == b"served"


def test_accept_when_ready(serve: Any) -> None:
    processor = serve(
        "import time\ntime.sleep(1)\ndef handler(c, e):\n    return 'served'\n",
        wait=None,
        accept="when-ready",
    )
    # The connection waits in the listening socket's queue.
    assert processor.send().body == b"served"


def test_with_ready_or_end_a_failed_start_ends_the_processor(serve: Any) -> None:
    processor = serve("import nowhere_to_be_found\n", wait=None, accept="ready-or-end")
    assert processor.process.wait(PATIENCE) == 1
    processor.await_record("nowhere_to_be_found", level="error")
    well = serve("def handler(c, e):\n    return 'served'\n", wait=None, accept="ready-or-end")
    assert well.send().body == b"served"


def test_a_drain_serves_open_connections_until_they_close(serve: Any, keep_alive: Any) -> None:
    processor = serve(HANDLER)
    idle, busy = keep_alive(processor), keep_alive(processor)
    busy.request("GET", "/", headers={"X-Seconds": "1"})
    assert processor.tell("/drain").status == 200
    assert processor.status()["state"] == "draining"
    reply = busy.getresponse()
    assert reply.status == 200
    assert reply.getheader("connection") == "close"
    assert reply.read()
    assert processor.process.poll() is None
    # The idle connection may send one more request.
    idle.request("GET", "/")
    reply = idle.getresponse()
    assert (reply.status, reply.getheader("connection")) == (200, "close")
    assert reply.read()
    assert processor.process.wait(PATIENCE) == 0
    processor.await_record("model closed", name="stdout")
    assert not processor.control.exists()


def test_a_drain_has_a_timeout(serve: Any, keep_alive: Any) -> None:
    processor = serve(HANDLER, drain_timeout=0.3)
    keep_alive(processor)
    processor.tell("/drain")
    assert processor.process.wait(PATIENCE) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_waits_for_pending_requests(
    serve: Any, keep_alive: Any, soon: Any, number: int
) -> None:
    processor = serve(HANDLER)
    keep_alive(processor)
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(processor.send(x_seconds="1")))
    thread.start()
    soon(lambda: processor.status()["workers"][0]["state"] == "busy")
    processor.process.send_signal(number)
    thread.join()
    assert answers[0].status == 200
    assert processor.process.wait(PATIENCE) == 0


def test_a_request_beyond_the_termination_timeout_is_aborted(
    serve: Any, keep_alive: Any, soon: Any
) -> None:
    processor = serve(HANDLER, trigger={"termination_timeout": 0.3})
    connection = keep_alive(processor)
    connection.request("GET", "/", headers={"X-Seconds": "60"})
    soon(lambda: processor.status()["workers"][0]["state"] == "busy")
    pid = processor.status()["workers"][0]["pid"]
    assert processor.end() == 0
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_second_signal_ends_the_processor_at_once(serve: Any, keep_alive: Any, soon: Any) -> None:
    processor = serve(HANDLER)
    connection = keep_alive(processor)
    connection.request("GET", "/", headers={"X-Seconds": "60"})
    soon(lambda: processor.status()["workers"][0]["state"] == "busy")
    processor.process.send_signal(signal.SIGTERM)
    soon(lambda: processor.status()["state"] == "draining")
    began = time.monotonic()
    processor.process.send_signal(signal.SIGTERM)
    assert processor.process.wait(PATIENCE) == 1
    assert time.monotonic() - began < 9  # of the 10 that a request has to end


def test_stop(serve: Any) -> None:
    processor = serve(HANDLER)
    assert processor.tell("/stop").status == 200
    assert processor.process.wait(PATIENCE) == 0


def test_the_listeners_can_be_adopted(serve: Any) -> None:
    processor = serve(HANDLER)
    with processor.connect() as link:
        link.sendall(b"LISTENERS\n")
        message, ancillary, _, _ = link.recvmsg(100, socket.CMSG_SPACE(16))
    assert message == b"LISTENERS 2 0\n"
    fds = array.array("i")
    fds.frombytes(ancillary[0][2])
    with socket.socket(fileno=fds[0]) as http_, socket.socket(fileno=fds[1]) as admin:
        ports = json.loads((processor.folder / "ports").read_text())
        assert http_.getsockname()[1] == ports["http"]
        assert admin.getsockname()[1] == ports["admin"]
        processor.end()
        # The port is still listened on.
        with socket.create_connection(("127.0.0.1", ports["http"])) as waiting:
            http_.setblocking(True)
            accepted, _ = http_.accept()
            accepted.close()
            waiting.close()


def test_a_reload_keeps_the_model_and_is_quick(serve: Any) -> None:
    processor = serve(HANDLER, workers=2)
    before = processor.call()
    processor.write(HANDLER.replace('"version": 1', '"version": 2').replace("+ 1", "+ 100"))
    began = time.monotonic()
    assert json.loads(processor.tell("/reload").body) == {
        "ok": True,
        "workers": {"0": "ok", "1": "ok"},
    }
    assert time.monotonic() - began < 10
    after = [processor.call() for _ in range(4)]
    assert {a["version"] for a in after} == {2}
    assert {a["loads"] for a in after} == {1}
    assert before["pid"] in {a["pid"] for a in after}


def test_a_broken_reload_keeps_the_old_handler(serve: Any) -> None:
    processor = serve(HANDLER)
    for source, message in [
        ("def handler(c, e:\n", "SyntaxError"),
        ("x = 1\nraise KeyError('new')\n", 'main.py", line 2'),
        ("def handle(c, e):\n    pass\n", "did you mean handle?"),
    ]:
        processor.write(source)
        answer = processor.tell("/reload")
        assert answer.status == 500
        error = json.loads(answer.body)
        assert error["ok"] is False
        assert message in error["workers"]["0"]
        assert "fnbuild" not in error["workers"]["0"]
        assert processor.call()["version"] == 1
    processor.write(HANDLER.replace('"version": 1', '"version": 3'))
    assert processor.tell("/reload").status == 200
    assert processor.call()["version"] == 3


def test_reload_with_restart(serve: Any) -> None:
    processor = serve(HANDLER, workers=2)
    before = {w["pid"] for w in processor.status()["workers"]}
    processor.write(HANDLER.replace('"version": 1', '"version": 2'))
    stop = threading.Event()
    statuses: list[int] = []

    def load() -> None:
        while not stop.is_set():
            statuses.append(processor.send().status)

    thread = threading.Thread(target=load)
    thread.start()
    answer = processor.tell("/reload", {"restart": True})
    stop.set()
    thread.join()
    assert json.loads(answer.body) == {"ok": True, "workers": {"0": "ok", "1": "ok"}}
    assert set(statuses) == {200}
    assert processor.call()["version"] == 2
    assert not before & {w["pid"] for w in processor.status()["workers"]}
    processor.await_record("model closed", name="stdout")


def test_a_reload_starts_a_function_that_had_failed(serve: Any) -> None:
    processor = serve("raise ValueError('not yet')\n", wait="unhealthy", workers=2)
    answer = processor.tell("/reload")
    assert "ValueError: not yet" in json.loads(answer.body)["workers"]["0"]
    processor.write(HANDLER)
    assert processor.tell("/reload").status == 200
    assert processor.call()["loads"] == 1


def test_concurrent_reloads(serve: Any, soon: Any) -> None:
    processor = serve(HANDLER, workers=2)
    answers: list[Any] = []
    bodies = [{"restart": True}, {}, {"restart": True}, {}]
    threads = [
        threading.Thread(target=lambda body=body: answers.append(processor.tell("/reload", body)))
        for body in bodies
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer.status for answer in answers] == [200] * 4
    processor.await_workers("ready", "ready")
    pids = {worker["pid"] for worker in processor.status()["workers"]}
    soon(
        lambda: (
            set(map(int, children(processor.pid)))
            == {*pids, processor.status()["start"]["template"]}
        )
    )


def children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def test_invalid_reloads(serve: Any) -> None:
    processor = serve(HANDLER)
    answer = processor.tell("/reload", [1])
    assert answer.status == 400


def test_limits_of_the_trigger(serve: Any) -> None:
    processor = serve(HANDLER, trigger={"attributes": {"maxRequestBodySize": 1000}})
    answer = processor.send(b"x" * 1001)
    assert answer.status == 413
    error = json.loads(answer.body)["error"]
    assert "maxRequestBodySize" in error
    assert "1000" in error
    assert "1001" in error
    assert processor.send(b"x" * 1000).status == 200


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fnbuild.runtime.processor", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
        timeout=PATIENCE,
    )


def test_a_port_in_use(tmp_path: Any) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        port = sock.getsockname()[1]
        listener = {"host": "127.0.0.1", "port": port}
        config = {"handler": "main", "code": str(tmp_path), "listeners": {"http": listener}}
        (tmp_path / "p.json").write_text(json.dumps(config))
        done = run("--config", str(tmp_path / "p.json"))
    assert done.returncode == 1
    assert f"127.0.0.1 port {port} is in use by another program" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_invalid_limit(tmp_path: Path) -> None:
    trigger = {"kind": "http", "attributes": {"maxRequestBodySize": "much"}}
    listeners = {"http": {"port": 0}}
    config = {"handler": "main", "code": str(tmp_path), "triggers": {"t": trigger}}
    (tmp_path / "p.json").write_text(json.dumps({**config, "listeners": listeners}))
    done = run("--config", str(tmp_path / "p.json"))
    assert done.returncode == 1
    assert done.stderr == "attributes.maxRequestBodySize: 'much' is not a number of bytes\n"


def test_usage(tmp_path: Any) -> None:
    assert run().returncode == 2
    done = run("--config", str(tmp_path / "none.json"))
    assert done.returncode == 2
    assert "none.json cannot be read" in done.stderr
