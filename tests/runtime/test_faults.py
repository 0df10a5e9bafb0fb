"""Failures of workers: the caller gets the reason, and other requests are served."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import threading
import time
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.runtime import interpreters
from tests.runtime.conftest import eventually

pytestmark = pytest.mark.system

DEADLY = """
import ctypes
import os
import resource
import signal
import subprocess
import sys
import time


def init_context(context):
    context.user_data.count = 0


def handler(context, event):
    context.user_data.count += 1
    what = event.path.strip("/")
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "segfault":
        ctypes.string_at(0)
    if what == "exit":
        print("last words")
        os._exit(7)
    if what == "child":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        open("child", "w").write(str(child.pid))
        time.sleep(60)
    if what == "fork":
        if os.fork() == 0:
            context.logger.info("from a copy")
            time.sleep(600)
        os._exit(1)
    if what == "slow":
        time.sleep(1.5)
    return {"worker": context.worker_id, "pid": os.getpid(), "count": context.user_data.count}
"""


def alive(pid: int) -> bool:
    """Return True if the process runs; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def zombies_of(pid: int) -> list[str]:
    zombies = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, fields = entry.read_text().rpartition(")")
        except (FileNotFoundError, ProcessLookupError):
            continue
        state, parent = fields.split()[:2]
        if state == "Z" and int(parent) == pid:
            zombies.append(name)
    return zombies


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/kill", "worker 0 was killed by signal 9 (SIGKILL), likely out of memory"),
        ("/segfault", "worker 0 crashed with signal 11 (SIGSEGV), a segmentation fault"),
        ("/exit", "worker 0 ended itself with exit code 7"),
    ],
)
def test_the_reason_of_a_workers_end_is_described(serve: Any, path: str, message: str) -> None:
    processor = serve(DEADLY)
    before = processor.call()["pid"]
    answer = processor.send(path=path, x_request_id="r-1")
    assert answer.status == 500
    error = json.loads(answer.body)
    assert error["error"].startswith(message)
    assert error["request_id"] == "r-1"
    processor.await_record(message, level="error")
    after = processor.call()
    assert (after["pid"] != before, after["count"]) == (True, 1)
    assert processor.status()["workers"][0]["restarts"] == 1
    assert zombies_of(processor.pid) == []


def test_the_reported_position_is_in_the_handlers_code(serve: Any) -> None:
    processor = serve(
        """
        import json

        def handler(context, event):
            return json.loads(event.body)["image"]
        """
    )
    text = processor.send(b"{").body.decode()
    assert text.endswith("(main.py:5, in handler)")
    record = processor.await_record("Traceback")["message"]
    assert "decoder.py" in record


LOOPING = """
import asyncio
import sys
import time


async def load(path):
    await asyncio.sleep(0)
    if path == "/hang":
        time.sleep(600)
    raise ValueError("no weights\\n  at model.onnx")


async def handler(context, event):
    await asyncio.sleep(0)
    if event.path == "/exit":
        sys.exit(5)
    await asyncio.wait_for(load(event.path), 60)
"""


@pytest.mark.parametrize("version", interpreters.every())
def test_an_async_handlers_stack_begins_with_the_handler(serve: Any, version: str) -> None:
    processor = serve(LOOPING, version=version, event_timeout=3.0)
    for path, expected in (("/", "ValueError: no weights"), ("/exit", "SystemExit: 5")):
        processor.send(path=path, x_request_id=path)
        logged = processor.await_record("Traceback", request_id=path)["message"]
        assert expected in logged
        first = next(line for line in logged.splitlines() if line.startswith("  File "))
        assert first.endswith("in handler")
        assert "coroutines.py" not in logged
        assert "base_events" not in logged
    processor.send(path="/hang")
    logged = processor.await_record("its stack was:")["message"]
    assert "base_events" not in logged
    assert logged.splitlines()[1].endswith(("in handler", "in load"))


def test_a_message_of_several_lines_is_reported_in_one(serve: Any) -> None:
    text = serve(LOOPING).send(path="/").body.decode()
    assert "\n" not in text
    assert text.count("no weights at model.onnx") == 2


def test_stderr_of_a_crash_is_logged(serve: Any) -> None:
    processor = serve(DEADLY)
    processor.send(path="/segfault")
    processor.await_record("Segmentation fault", name="stderr")
    processor.send(path="/exit")
    processor.await_record("last words", name="stdout")


def test_other_workers_continue_while_one_ends(serve: Any) -> None:
    processor = serve(DEADLY, workers=2)
    slow = []
    thread = threading.Thread(target=lambda: slow.append(processor.send(path="/slow")))
    thread.start()
    for _ in range(3):
        assert processor.send(path="/exit").status == 500
    thread.join()
    assert slow[0].status == 200


def test_a_child_that_holds_the_socket_does_not_hide_the_end(serve: Any, soon: Any) -> None:
    processor = serve(DEADLY)
    answer = processor.send(path="/fork")
    assert "exit code 1" in json.loads(answer.body)["error"]
    processor.call()
    assert not [r for r in processor.records(name="handler") if "from a copy" in r["message"]]


def test_a_timeout_ends_the_whole_process_group(serve: Any, soon: Any) -> None:
    processor = serve(DEADLY, event_timeout=3.0, workers=2)
    answer = processor.send(path="/child")
    assert answer.status == 408
    child = int((processor.code / "child").read_text())
    soon(lambda: not alive(child))
    assert processor.call()["worker"] in "01"
    processor.await_workers("ready", "ready")
    assert {processor.call()["count"] for _ in range(2)} <= {1, 2, 3}


def test_an_idle_worker_that_is_killed_loses_no_event(serve: Any) -> None:
    processor = serve(DEADLY)
    for _ in range(10):
        pid = processor.call()["pid"]
        os.kill(pid, signal.SIGKILL)
        assert processor.call()["pid"] != pid


def test_workers_killed_under_load_lose_only_their_own_events(serve: Any) -> None:
    processor = serve(
        """
        import time
        def handler(context, event):
            time.sleep(0.002)
            return event.body
        """,
        workers=3,
    )
    random = Random(1)
    stop = threading.Event()
    outcomes: list[tuple[int, bytes, bytes]] = []

    def load(number: int) -> None:
        count = 0
        while not stop.is_set():
            count += 1
            body = b"%d-%d " % (number, count) * random.choice([1, 1000, 40000])
            answer = processor.send(body)
            outcomes.append((answer.status, body, answer.body))

    threads = [threading.Thread(target=load, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    kills = 0
    while kills < 20 or len(outcomes) <= 100:
        time.sleep(0.1)
        pids = [w["pid"] for w in processor.status()["workers"] if w["state"] in ("ready", "busy")]
        with contextlib.suppress(IndexError, ProcessLookupError):
            os.kill(random.choice(pids), signal.SIGKILL)
            kills += 1
    stop.set()
    for thread in threads:
        thread.join()
    failed = [reply for status, _, reply in outcomes if status != 200]
    assert len(failed) <= kills
    assert all(b"SIGKILL" in reply for reply in failed)
    assert all(reply == body for status, body, reply in outcomes if status == 200)
    processor.await_workers("ready", "ready", "ready")


def test_a_killed_processor_leaves_no_orphans(serve: Any, soon: Any) -> None:
    processor = serve(DEADLY, workers=2)
    pids = [worker["pid"] for worker in processor.status()["workers"]]
    busy = threading.Thread(target=lambda: _quietly(processor))
    busy.start()
    soon(lambda: "busy" in [w["state"] for w in processor.status()["workers"]])
    processor.process.kill()
    processor.process.wait()
    busy.join()
    soon(lambda: not any(alive(pid) for pid in pids))


def _quietly(processor: Any) -> None:
    with contextlib.suppress(OSError):
        processor.send(path="/slow")


def test_an_init_context_that_raises(serve: Any) -> None:
    processor = serve(
        """
        def load(path):
            raise FileNotFoundError("no weights at " + path)

        def init_context(context):
            load("model.onnx")

        def handler(context, event):
            return ""
        """,
        wait="unhealthy",
    )
    status = processor.status()
    assert status["message"].startswith("Traceback (most recent call last):")
    assert 'load("model.onnx")' in status["message"]
    assert status["message"].endswith("FileNotFoundError: no weights at model.onnx")
    assert "fnbuild" not in status["message"]
    assert processor.await_record("no weights at")["level"] == "error"
    answer = processor.send()
    assert answer.status == 503
    assert "FileNotFoundError: no weights at model.onnx" in json.loads(answer.body)["error"]
    assert processor.admin("/ready").status == 503
    assert processor.admin("/live").status == 200


def test_equal_failures_of_workers_are_reported_once(serve: Any) -> None:
    processor = serve("raise ValueError('no weights')\n", wait="unhealthy", workers=3)
    processor.await_record("failed in the same way: ValueError: no weights", worker="2")
    tracebacks = [r for r in processor.records(level="error") if "Traceback" in r["message"]]
    assert len(tracebacks) == 1


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import nosuchmodule\n", "No module named 'nosuchmodule'"),
        ("def handler(:\n", "SyntaxError"),
        ("def handlr(context, event): pass\n", "no function handler; did you mean handlr?"),
        ("handler = 3\n", "handler in main.py is a int, not a function"),
        ("import os\nos._exit(9)\n", "worker 0 ended itself with exit code 9"),
        ("raise SystemExit(3)\n", "SystemExit: 3"),
    ],
)
def test_a_handler_that_cannot_be_loaded(serve: Any, source: str, message: str) -> None:
    processor = serve(source, wait="unhealthy")
    assert message in processor.status()["message"]
    assert "fnbuild" not in processor.status()["message"]


def test_the_text_of_an_exit_is_the_whole_error(serve: Any) -> None:
    source = "import sys\ndef init_context(context): sys.exit('there is no licence')\n"
    processor = serve(source + "def handler(context, event): pass\n", wait="unhealthy")
    assert processor.status()["message"] == "there is no licence"
    messages = [record["message"] for record in processor.records(level="error")]
    assert not any("Traceback" in message for message in messages)


def test_a_missing_module_is_reported_with_a_suggestion(serve: Any) -> None:
    processor = serve("", handler="mian:handler", wait="unhealthy")
    message = processor.status()["message"]
    assert message.startswith('there is no module "mian" (mian.py)')
    assert message.endswith("did you mean main?")


def test_a_missing_interpreter(serve: Any) -> None:
    processor = serve("", interpreter="/nowhere/python", wait="unhealthy")
    assert "/nowhere/python cannot be started" in processor.status()["message"]


def test_a_missing_sdk(serve: Any, tmp_path: Path) -> None:
    python = _bare_python(tmp_path)
    processor = serve("", interpreter=python, sdk_path=str(tmp_path), wait="unhealthy")
    assert "nuclio_sdk cannot be imported by" in processor.status()["message"]


def _bare_python(folder: Path) -> str:
    import venv

    venv.create(folder / "bare", with_pip=False)
    return str(folder / "bare" / "bin" / "python")


def test_an_init_context_that_hangs(serve: Any) -> None:
    processor = serve(
        """
        import time

        def init_context(context):
            time.sleep(600)

        def handler(context, event):
            return ""
        """,
        readiness_timeout=4.0,
        wait=None,
    )
    # The request waits for a worker until the start has failed.
    answer = processor.send()
    assert answer.status == 503
    assert "init_context did not finish" in json.loads(answer.body)["error"]
    message = processor.await_state("unhealthy")["message"]
    assert "init_context did not finish within 4 s" in message
    assert 'main.py", line 5 in init_context' in message


def test_a_failed_start_is_repeated(serve: Any) -> None:
    processor = serve(
        """
        import os

        def init_context(context):
            if not os.path.exists("weights"):
                raise RuntimeError("no weights yet")

        def handler(context, event):
            return "served"
        """,
        wait="unhealthy",
    )
    (processor.code / "weights").touch()
    processor.await_state("ready")
    assert processor.send().body == b"served"
    assert processor.status()["message"] == ""


def test_no_restart_if_it_is_disabled(serve: Any) -> None:
    processor = serve(DEADLY, restart="no")
    assert processor.send(path="/exit").status == 500
    message = processor.await_state("unhealthy")["message"]
    assert "exit code 7" in message
    assert "exit code 7" in json.loads(processor.send().body)["error"]
    assert processor.status()["workers"][0]["pid"] == 0


def test_a_timeout_restarts_nevertheless(serve: Any) -> None:
    processor = serve(DEADLY, restart="no", event_timeout=0.5)
    assert processor.send(path="/slow").status == 408
    assert processor.call()["count"] == 1


def test_repeated_restarts_are_delayed() -> None:
    from fnbuild.runtime.processor.worker_failure import Backoff

    backoff = Backoff()
    assert [backoff.next() for _ in range(9)] == [0, 0.5, 1, 2, 4, 8, 16, 30, 30]
    backoff.reset()
    assert backoff.next() == 0


def test_a_worker_that_ends_in_service_is_replaced_at_once(serve: Any) -> None:
    processor = serve(DEADLY)
    began = time.monotonic()
    for _ in range(5):
        processor.call()
        processor.send(path="/exit")
    processor.call()
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_a_start_that_fails_temporarily_is_repeated(serve: Any, start: str) -> None:
    env = {"FNBUILD_START": "spawn"} if start == "spawn" else {}
    processor = serve(DEADLY, env=env)
    limits = resource.prlimit(processor.pid, resource.RLIMIT_NOFILE)
    worker = processor.call()["pid"]
    # Open descriptors stay open; the next worker gets none.
    resource.prlimit(processor.pid, resource.RLIMIT_NOFILE, (3, limits[1]))
    os.kill(worker, signal.SIGKILL)
    eventually(lambda: "Too many open files" in processor.log_path.read_text())
    resource.prlimit(processor.pid, resource.RLIMIT_NOFILE, limits)
    eventually(lambda: processor.status()["state"] == "ready")
    assert processor.call()["pid"] != worker
    assert "Traceback" not in processor.log_path.read_text()


# Python runs it at the start of the processor.
SIGNAL_DURING_CLOSE = """
import asyncio.selector_events
import os
import signal

loop = asyncio.selector_events.BaseSelectorEventLoop
close_pipe = loop._close_self_pipe


def close_and_signal(self):
    close_pipe(self)
    os.kill(os.getpid(), signal.SIGCHLD)


loop._close_self_pipe = close_and_signal
"""


def test_a_child_that_ends_while_the_processor_closes_causes_no_error(serve, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(SIGNAL_DURING_CLOSE)
    processor = serve(DEADLY, environ={"PYTHONPATH": str(tmp_path)})
    assert processor.end() == 0
    assert "Traceback" not in processor.log_path.read_text()
