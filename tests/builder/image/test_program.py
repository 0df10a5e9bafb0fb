"""The processor as the first process of a container: signals, orphans, limits, missing files."""

from __future__ import annotations

import json
import signal

import pytest

from tests.builder.image.bases import docker
from tests.builder.image.conftest import Container, Make, Start
from tests.runtime.conftest import eventually

pytestmark = pytest.mark.system

HANDLER = """
import os, time

def handler(context, event):
    if event.body == "slow":
        time.sleep(6)
        return "late"
    if event.body == "orphan":
        return leave_an_orphan()
    return os.environ["OMP_NUM_THREADS"]

# A process whose parent and process group have ended, and which then ends.
def leave_an_orphan():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(0.1)
        os._exit(0)
    return os.wait()[1]
"""
SOURCES = {"main.py": HANDLER}
PROCESSES = """
import json, os
found = {}
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        text = open("/proc/%s/stat" % pid).read()
    except OSError:
        continue
    found[pid] = text[text.rindex(")") + 2]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def ready(make_image: Make) -> str:
    return make_image("debian", SOURCES)


def exit_of(container: Container) -> tuple[int, list[str]]:
    """Return the exit status and the lines of the log, once it has ended."""
    state = eventually(lambda: (s := container.state())["Status"] == "exited" and s)
    return int(state["ExitCode"]), container.log().splitlines()


@pytest.mark.parametrize("base", ["debian", "pypy3.9"])
def test_orphans_are_reaped(base: str, make_image: Make, start: Start) -> None:
    container = start(make_image(base, SOURCES), base)
    container.await_ready()
    for _ in range(3):
        assert container.call("orphan") == 0
    eventually(lambda: "Z" not in container.ask(PROCESSES).values())


def test_a_pending_request_is_answered_before_the_end(ready: str, start: Start) -> None:
    container = start(ready, "debian")
    container.await_ready()
    client = container.begin_post(b'"slow"')
    eventually(lambda: json.loads(container.run("processor", "--status").stdout)["in_flight"] == 1)
    docker("kill", "--signal", "TERM", container.name)
    out, _err = client.communicate(timeout=60)
    assert out == b"200 late"
    assert exit_of(container)[0] == 0


def test_a_container_can_be_stopped_before_it_serves(ready: str, start: Start) -> None:
    """The kernel drops signals that the first process of a container does not handle."""
    # It waits for the rest of its configuration, and so remains in this state.
    waiting = ("processor", "--config", "/dev/stdin")
    container = start(ready, "debian", "--interactive", command=waiting)
    caught = "print(int(open('/proc/1/status').read().split('SigCgt:')[1].split()[0], 16))"
    eventually(lambda: container.ask(caught) & 1 << signal.SIGTERM - 1)
    docker("stop", "--time", "20", container.name)
    assert exit_of(container) == (143, [])


def test_a_missing_interpreter_is_reported(ready: str, start: Start) -> None:
    container = start(ready, "debian", "--env", "NUCLIO_PYTHON_EXE_PATH=/opt/conda/bin/python")
    status, lines = exit_of(container)
    assert status == 2
    (line,) = lines
    message = json.loads(line)["message"]
    assert message == "NUCLIO_PYTHON_EXE_PATH=/opt/conda/bin/python is not a program in this image"


def test_a_missing_configuration_is_reported(ready: str, start: Start) -> None:
    container = start(ready, "debian", command=("processor", "--config", "/srv/other.json"))
    status, lines = exit_of(container)
    assert (status, len(lines)) == (2, 1)
    assert "/srv/other.json cannot be read: No such file or directory" in lines[0]


def test_the_number_of_threads_follows_the_cpu_limit(ready: str, start: Start) -> None:
    container = start(ready, "debian", "--cpus", "0.5")
    container.await_ready()
    assert container.post(b"") == (200, b"1")


def test_the_health_check_of_the_engine_passes(ready: str, start: Start) -> None:
    check = ("--health-cmd", "processor --health", "--health-interval", "100ms")
    container = start(ready, "debian", *check)
    eventually(lambda: container.state()["Health"]["Status"] == "healthy")


def test_all_commands_report_a_failed_handler(make_image: Make, start: Start) -> None:
    container = start(make_image("debian", {"main.py": "import weights\n"}), "debian")
    status = container.wait()
    assert status["state"] == "unhealthy"
    assert "No module named 'weights'" in status["message"]
    health = container.run("processor", "--health")
    assert health.returncode == 1
    assert b"No module named 'weights'" in health.stdout
