"""The reason why a worker is down, in one line, and its record in the log."""

from __future__ import annotations

import json
import os
import signal
import threading
from typing import Any

import pytest

from tests.runtime import interpreters

pytestmark = pytest.mark.system

SEGFAULT = """
import ctypes

def load():
    ctypes.string_at(0)

def init_context(context):
    load()

def handler(context, event):
    return ""
"""


@pytest.mark.parametrize("version", interpreters.every())
def test_a_crash_in_init_context_shows_the_handlers_frames_only(serve: Any, version: str) -> None:
    status = serve(SEGFAULT, wait="unhealthy", version=version).status()
    assert status["reason"].startswith("worker 0 crashed in init_context (SIGSEGV)")
    assert "\n" not in status["reason"]
    lines = status["message"].splitlines()
    assert lines[0] == status["reason"]
    assert [line.partition(", ")[2] for line in lines if "main.py" in line] == [
        "line 8 in init_context",
        "line 5 in load",
    ]
    assert "fnbuild" not in status["message"]
    assert "0x" not in status["message"]


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("def handler(:\n", "SyntaxError: invalid syntax (main.py, line 1)"),
        ("raise ValueError('no weights')\n", "ValueError: no weights (main.py:1, in <module>)"),
        ("import os\nos.kill(os.getpid(), 9)\n", "worker 0 was killed while the handler was"),
        ("import os\nos._exit(3)\n", "worker 0 ended itself with exit code 3 while the handler"),
    ],
)
def test_the_reason_of_a_failed_import(serve: Any, source: str, reason: str) -> None:
    processor = serve(source, wait="unhealthy")
    assert processor.status()["reason"].startswith(reason)
    assert reason in json.loads(processor.send().body)["error"]


def test_the_stack_of_a_hang_may_be_late(serve: Any) -> None:
    source = """
        import os, signal, subprocess, time

        def init_context(context):
            subprocess.Popen(["sh", "-c", "sleep 2; kill -CONT %d" % os.getpid()])
            os.kill(os.getpid(), signal.SIGSTOP)
            time.sleep(600)

        def handler(context, event):
            return ""
        """
    processor = serve(source, readiness_timeout=1.0, wait="unhealthy")
    assert "; it was at main.py:" in processor.status()["reason"]


@pytest.mark.parametrize("version", interpreters.every())
def test_a_hang_is_reported_with_its_position(serve: Any, version: str) -> None:
    source = """
        import time

        def wait():
            time.sleep(600)

        def init_context(context):
            wait()

        def handler(context, event):
            return ""
        """
    processor = serve(source, readiness_timeout=5.0, wait="unhealthy", version=version)
    assert processor.status()["reason"] == (
        "worker 0: init_context did not finish within 5 s (readiness timeout);"
        " it was at main.py:5, in wait"
    )


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("\ndef handler(): pass\n", "main.py:2: handler() cannot be called as handler(context, ev"),
        ("def handler(context, event, more): pass\n", "missing a required argument: 'more'"),
        (
            "def init_context(): pass\ndef handler(context, event): pass\n",
            "main.py:1: init_context() cannot be called as init_context(context)",
        ),
    ],
)
def test_functions_with_other_parameters_are_refused(serve: Any, source: str, message: str) -> None:
    assert message in serve(source, wait="unhealthy").status()["reason"]


@pytest.mark.parametrize(
    "source",
    [
        "def handler(*args): return 'served'",
        "def handler(context, event, more=1): return 'served'",
        "from functools import partial\nhandler = partial(lambda n, c, e: 'served', 1)",
        "class Model:\n    def __call__(self, context, event): return 'served'\nhandler = Model()",
        "from functools import wraps\n"
        "def inner(context, event, model): return model\n"
        "@wraps(inner)\n"
        "def handler(*args): return inner(*args, 'served')",
    ],
)
def test_other_callables_are_accepted(serve: Any, source: str) -> None:
    assert serve(source + "\n").send().body == b"served"


MORTAL = """
import os
import signal
import time

def init_context(context):
    while os.path.exists("gate"):
        time.sleep(0.02)

def handler(context, event):
    if event.path == "/kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if event.path == "/slow":
        time.sleep(4)
    return str(os.getpid())
"""


def test_the_end_of_a_worker_names_its_request_and_its_restart_is_logged(serve: Any) -> None:
    processor = serve(MORTAL)
    processor.send(path="/kill", x_request_id="r-1")
    record = processor.await_record("while it handled request r-1", level="error")
    assert (record["request_id"], record["worker"]) == ("r-1", "0")
    processor.await_record("worker 0 is ready again", level="info")
    os.kill(processor.status()["workers"][0]["pid"], signal.SIGKILL)
    idle = processor.await_record("worker 0 was killed", name="processor")
    assert idle["message"].endswith("likely out of memory") or "request_id" in idle


def test_requests_wait_for_a_worker_that_starts(serve: Any) -> None:
    processor = serve(
        MORTAL, files={"gate": ""}, wait=None, trigger={"availability_timeout_ms": 300}
    )
    refused = processor.send()
    assert refused.status == 503
    assert "no worker became ready within 300 ms" in json.loads(refused.body)["error"]
    assert processor.status()["state"] == "starting"

    patient = serve(MORTAL)
    assert patient.send().status == 200


def test_the_first_request_is_served_by_a_processor_that_starts(serve: Any) -> None:
    processor = serve("import time\ntime.sleep(0.5)\n" + MORTAL, wait=None)
    assert processor.send().status == 200


@pytest.mark.parametrize(("end", "status"), [("pass", 200), ("raise ValueError('none')", 503)])
def test_callers_may_wait_for_the_result_of_a_start(end: str, status: int, serve: Any) -> None:
    code = f"import time\ntime.sleep(0.5)\n{end}\n" + MORTAL
    trigger = {"availability_timeout_ms": 50}
    processor = serve(code, wait=None, accept="when-settled", trigger=trigger)
    reply = processor.send()
    assert reply.status == status, reply.body


def test_refusals_are_logged_and_a_flood_is_counted(serve: Any) -> None:
    processor = serve(MORTAL, trigger={"attributes": {"maxRequestBodySize": 10}})
    for _ in range(5):
        assert processor.send(b"x" * 11).status == 413
    record = processor.await_record(
        "a request was refused with 413: the request's body has 11 bytes"
    )
    assert record["level"] == "warn"
    processor.end()
    counted = processor.await_record("4 more requests were refused with 413")
    assert counted["level"] == "warn"
    assert len([r for r in processor.records(level="warn") if "413" in r["message"]]) == 2


def test_a_refusal_for_lack_of_a_worker_is_logged(serve: Any) -> None:
    processor = serve(MORTAL, trigger={"availability_timeout_ms": 50})
    busy = threading.Thread(target=lambda: processor.send(path="/slow"))
    busy.start()
    processor.await_workers("busy")
    assert processor.send(x_request_id="r-2").status == 503
    busy.join()
    record = processor.await_record("refused with 503: all 1 workers were busy", request_id="r-2")
    assert record["level"] == "warn"


def test_an_incomplete_line_is_logged_with_its_own_request(serve: Any) -> None:
    processor = serve(
        """
        import sys

        def handler(context, event):
            sys.stdout.write("half of " + event.path)
            return ""
        """
    )
    processor.send(path="/1", x_request_id="first")
    processor.send(path="/2", x_request_id="second")
    assert processor.await_record("half of /1")["request_id"] == "first"
    assert processor.await_record("half of /2")["message"] == "half of /2"
