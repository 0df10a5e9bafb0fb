"""Start of workers: forked from a template that has imported the handler, or spawned."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from fnbuild.runtime.worker import fork_template
from tests.runtime import interpreters

pytestmark = pytest.mark.system

HANDLER = """
import os
import random
import sys
import time

STARTED = time.monotonic()
PID = os.getpid()
print("imported by one process")


def handler(context, event):
    what = event.path.strip("/")
    if what == "exit":
        os._exit(3)
    return {
        "worker": context.worker_id,
        "pid": os.getpid(),
        "importer": PID,
        "parent": os.getppid(),
        "session": os.getsid(0),
        "random": random.random(),
        "uptime": time.monotonic() - STARTED,
    }
"""

# Each leaves a resource through which forks would interfere with each other.
UNSAFE = {
    "threads": "import threading, time; threading.Thread(target=time.sleep, args=(600,)).start()",
    "open: socket": "import socket; CONNECTION = socket.socketpair()",
    "open: /": "LOG = open(__file__)",
    "another process": "import subprocess; CHILD = subprocess.Popen(['sleep', '600'])",
    "CUDA": "import torch",
}
FAKE_TORCH = "class cuda:\n    is_initialized = staticmethod(lambda: True)\n"


def reply_of_each_worker(processor: Any, count: int) -> list[dict[str, Any]]:
    """Return the reply of each worker."""
    replies: dict[str, Any] = {}
    deadline = time.monotonic() + 120
    while len(replies) < count:
        assert time.monotonic() < deadline
        answer = processor.call()
        replies[answer["worker"]] = answer
    return [replies[name] for name in sorted(replies)]


@pytest.mark.parametrize("version", interpreters.every())
def test_workers_are_forks_of_one_process(serve: Any, version: str) -> None:
    processor = serve(HANDLER, version=version, workers=3)
    start = processor.status()["start"]
    assert start["by"] == "fork"
    replies = reply_of_each_worker(processor, 3)
    assert {answer["importer"] for answer in replies} == {start["template"]}
    assert [answer["pid"] for answer in replies] == [
        w["pid"] for w in processor.status()["workers"]
    ]
    assert len({answer["pid"] for answer in replies}) == 3
    assert all(answer["parent"] == processor.pid for answer in replies)
    assert all(answer["session"] == answer["pid"] for answer in replies)
    assert len({answer["random"] for answer in replies}) == 3
    assert len(processor.records(message="imported by one process")) == 1


def test_a_restart_imports_nothing(serve: Any) -> None:
    processor = serve(HANDLER)
    before = processor.call()
    assert processor.send(path="/exit").status == 500
    after = processor.call()
    assert after["pid"] != before["pid"]
    assert after["importer"] == before["importer"]
    assert len(processor.records(message="imported by one process")) == 1


@pytest.mark.parametrize("reason", UNSAFE)
def test_workers_that_cannot_be_forked_are_spawned(serve: Any, reason: str) -> None:
    source = UNSAFE[reason] + "\n" + HANDLER
    processor = serve(source, workers=2, files={"torch.py": FAKE_TORCH})
    start = processor.status()["start"]
    assert start["by"] == "spawn"
    assert reason in start["reason"]
    replies = reply_of_each_worker(processor, 2)
    assert all(answer["importer"] == answer["pid"] for answer in replies)
    # The process that detected this is one of them, so its import is used.
    assert len(processor.records(message="imported by one process")) == 2
    processor.send(path="/exit")
    processor.await_workers("ready", "ready")
    processor.await_record(reason, level="info")


def test_libraries_that_change_pythons_modules_do_not_prevent_forks(serve: Any) -> None:
    """As some event loops do, which have no replacement for `poll`."""
    processor = serve("import select\ndel select.poll, select.epoll\n" + HANDLER)
    assert processor.status()["start"]["by"] == "fork"
    assert processor.call()["pid"]


def test_libraries_that_end_their_threads_at_a_fork_do_not_prevent_forks(serve: Any) -> None:
    processor = serve(
        """
        import numpy

        numpy.ones((300, 300)) @ numpy.ones((300, 300))

        def handler(context, event):
            return float((numpy.ones((300, 300)) @ numpy.ones((300, 300))).sum())
        """,
        env={"OPENBLAS_NUM_THREADS": "2"},
    )
    assert processor.status()["start"]["by"] == "fork"
    assert processor.call() == 300.0**3


def test_forks_can_be_disabled(serve: Any) -> None:
    processor = serve(HANDLER, workers=2, env={"FNBUILD_START": "spawn"})
    assert processor.status()["start"]["by"] == "spawn"
    assert all(answer["importer"] == answer["pid"] for answer in reply_of_each_worker(processor, 2))


def test_new_code_is_never_forked_from_old_code(serve: Any) -> None:
    processor = serve(HANDLER)
    processor.write(HANDLER.replace("context.worker_id", "'new'"))
    processor.send(path="/exit")
    assert processor.call()["worker"] == "new"
    processor.write(HANDLER.replace("context.worker_id", "'newer'"))
    assert json.loads(processor.tell("/reload").body)["ok"]
    assert processor.call()["worker"] == "newer"
    processor.send(path="/exit")
    assert processor.call()["worker"] == "newer"


def test_workers_outlive_their_template(serve: Any, soon: Any) -> None:
    processor = serve(HANDLER)
    before = processor.call()
    os.kill(processor.status()["start"]["template"], signal.SIGKILL)
    soon(lambda: processor.status()["start"]["template"] == 0)
    assert processor.call()["pid"] == before["pid"]
    processor.send(path="/exit")
    assert processor.call()["importer"] not in (before["importer"], before["pid"])


def test_a_killed_processor_leaves_no_processes(serve: Any, soon: Any) -> None:
    processor = serve(HANDLER, workers=2)
    pids = [answer["pid"] for answer in reply_of_each_worker(processor, 2)]
    pids.append(processor.status()["start"]["template"])
    processor.process.kill()
    soon(lambda: not any(Path(f"/proc/{pid}/cmdline").exists() for pid in pids))


def test_orphans_of_a_handler_are_reaped(serve: Any, soon: Any) -> None:
    processor = serve(
        """
        import os

        def handler(context, event):
            if os.fork() == 0:
                if os.fork() == 0:
                    os.setsid()
                os._exit(0)
            os.wait()
            return ""
        """
    )
    for _ in range(5):
        processor.send()
    own = {processor.status()["start"]["template"], processor.status()["workers"][0]["pid"]}
    children = Path(f"/proc/{processor.pid}/task/{processor.pid}/children")
    soon(lambda: set(map(int, children.read_text().split())) == own)


def test_an_import_that_hangs(serve: Any) -> None:
    processor = serve(
        "import time\ntime.sleep(600)\n", readiness_timeout=4.0, wait="unhealthy", workers=2
    )
    message = processor.status()["message"]
    assert "the import of the handler did not finish within 4 s" in message
    assert 'main.py", line 2' in message


def test_an_open_gpu_is_detected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fork_template, "_DEVICE", str(tmp_path))
    before = fork_template.open_descriptors()
    with (tmp_path / "nvidia0").open("wb"):
        assert fork_template.fork_obstacle(before) == "the handler's imports opened a GPU"
