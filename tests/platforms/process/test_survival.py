"""Processors and supervisors that end are replaced, and reported states are true."""

from __future__ import annotations

import contextlib
import itertools
import os
import resource
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import fnbuild
from fnbuild.datadir import function_lock
from fnbuild.deploy import pipeline
from fnbuild.errors import ConflictError, NotReadyError, UnavailableError
from fnbuild.platforms import FunctionKey
from fnbuild.platforms.process import ProcessPlatform, daemon, layout, supervisor_client
from fnbuild.platforms.process.layout import supervisor_lock
from fnbuild.platforms.process.platform import StartResult
from fnbuild.platforms.process.processor_client import ProcessorUnreachableError, read_status
from tests.platforms.process.author import (
    NAMESPACE,
    Author,
    alive,
    end_everything,
    invoke,
    processes,
    refuses,
    take_port,
    wait_for,
)

pytestmark = pytest.mark.system


def supervisor() -> int:
    """Return the process id of the running supervisor."""
    running = supervisor_client.running_supervisor()
    assert running is not None
    return running.pid


def end(pid: int) -> None:
    """Kill a process, and wait for its end."""
    os.kill(pid, signal.SIGKILL)
    assert wait_for(lambda: not alive(pid))


def test_functions_survive_their_supervisor_and_are_adopted(
    data: Path, platform: ProcessPlatform, author: Author
) -> None:
    deployment = author.deploy(author.write("one"))
    first = supervisor()
    end(first)
    assert invoke(deployment.http_port) == "one"
    assert platform.deployment(NAMESPACE, "greeter").state == "ready"

    platform.up()
    assert supervisor() != first
    adopted = platform.deployment(NAMESPACE, "greeter")
    assert adopted.details["pid"] == deployment.details["pid"]
    # The new supervisor has the sockets: it can switch, and start what dies.
    second = author.deploy(author.write("two"))
    assert second.http_port == deployment.http_port
    assert invoke(deployment.http_port) == "two"
    assert wait_for(lambda: not alive(deployment.details["pid"]))
    end(second.details["pid"])
    assert wait_for(lambda: platform.deployment(NAMESPACE, "greeter").state == "ready")
    assert invoke(deployment.http_port) == "two"


def test_a_killed_adopted_processor_is_restarted(platform: ProcessPlatform, author: Author) -> None:
    deployment = author.deploy(author.write("one"))
    end(supervisor())
    platform.up()
    end(deployment.details["pid"])
    assert wait_for(lambda: platform.deployment(NAMESPACE, "greeter").state == "ready")
    assert invoke(deployment.http_port) == "one"


def test_up_restarts_functions_after_a_crash(
    data: Path, platform: ProcessPlatform, author: Author
) -> None:
    first = author.deploy(author.write("one", name="first"))
    second = author.deploy(author.write("two", name="second"))
    end_everything(data)
    deployments = platform.deployments(NAMESPACE)
    assert [deployment.state for deployment in deployments] == ["stopped", "stopped"]
    assert "fnbuild up" in deployments[0].message
    assert (deployments[0].http_port, deployments[0].replicas) == (0, (0, 1))

    progress: list[str] = []
    assert platform.up(progress.append) == StartResult(2)
    assert sorted(progress) == [
        f"first: ready on http://127.0.0.1:{first.http_port}",
        f"second: ready on http://127.0.0.1:{second.http_port}",
    ]
    assert invoke(first.http_port) == "one"
    assert invoke(second.http_port) == "two"


def test_a_deploy_after_a_reboot_restarts_other_functions(
    data: Path, platform: ProcessPlatform, author: Author
) -> None:
    first = author.deploy(author.write("one", name="first"))
    end_everything(data)
    author.deploy(author.write("two", name="second"))
    assert wait_for(lambda: platform.deployment(NAMESPACE, "first").state == "ready")
    assert invoke(first.http_port) == "one"


def test_a_supervisor_has_ended_when_its_process_has(data: Path) -> None:
    # Like a supervisor that has closed its socket but whose process still exists.
    with subprocess.Popen(["sleep", "0.5"]) as process:
        supervisor_client.wait_until_ended(
            supervisor_client.SupervisorInfo(fnbuild.__version__, process.pid)
        )
        assert process.poll() == 0


def test_down_stops_and_up_starts(data: Path, platform: ProcessPlatform, author: Author) -> None:
    deployment = author.deploy(author.write("one", name="first"))
    assert platform.down() == 1
    assert wait_for(lambda: not processes(data))
    assert platform.deployment(NAMESPACE, "first").state == "stopped"
    assert platform.down() == 0
    # A deploy of another function does not start a stopped one.
    author.deploy(author.write("two", name="second"))
    assert platform.deployment(NAMESPACE, "first").state == "stopped"
    platform.up()
    assert platform.deployment(NAMESPACE, "first").state == "ready"
    assert invoke(deployment.http_port) == "one"


def test_a_taken_port_is_reported_and_tried_again(
    data: Path, platform: ProcessPlatform, author: Author
) -> None:
    deployment = author.deploy(author.write("one"))
    end_everything(data)
    with socket.socket() as listener:
        take_port(listener, deployment.http_port)
        progress: list[str] = []
        assert platform.up(progress.append) == StartResult(1, ("greeter",))
        assert f"port {deployment.http_port}" in progress[0]
        assert "taken by" in progress[0]
        current = platform.deployment(NAMESPACE, "greeter")
        assert current.state == "error"
        assert f"port {deployment.http_port}" in current.message
        assert "tried again until the port is free" in current.message
        assert current.http_port == deployment.http_port
    # The supervisor tries again without a request.
    assert wait_for(lambda: platform.deployment(NAMESPACE, "greeter").state == "ready")
    assert invoke(deployment.http_port) == "one"


def policy(name: str, count: int = 0) -> str:
    lines = f"      name: {name}\n      maximumRetryCount: {count}"
    return f"platform:\n  attributes:\n    restartPolicy:\n{lines}"


def test_a_killed_processor_is_restarted(platform: ProcessPlatform, author: Author) -> None:
    deployment = author.deploy(author.write("one"))
    end(deployment.details["pid"])
    assert wait_for(lambda: platform.deployment(NAMESPACE, "greeter").state == "ready")
    assert invoke(deployment.http_port) == "one"
    messages = [record.message for record in platform.logs(NAMESPACE, "greeter")]
    assert "the processor was ended by SIGKILL" in messages


@pytest.mark.parametrize("spec", [policy('"no"'), policy("no")])
def test_restart_policy_no_leaves_a_killed_processor_stopped(
    platform: ProcessPlatform, author: Author, spec: str
) -> None:
    deployment = author.deploy(author.write("one", spec=spec))
    end(deployment.details["pid"])
    assert wait_for(lambda: "restart policy" in platform.deployment(NAMESPACE, "greeter").message)
    current = platform.deployment(NAMESPACE, "greeter")
    assert current.state == "unhealthy"
    assert "SIGKILL" in current.message
    assert current.http_port == deployment.http_port
    assert wait_for(lambda: refuses(deployment.http_port))
    platform.up()
    assert invoke(deployment.http_port) == "one"


def test_restart_policy_on_failure_limits_restarts(
    platform: ProcessPlatform, author: Author
) -> None:
    deployment = author.deploy(author.write("one", spec=policy("on-failure", 1)))
    end(deployment.details["pid"])
    assert wait_for(lambda: platform.deployment(NAMESPACE, "greeter").state == "ready")
    end(platform.deployment(NAMESPACE, "greeter").details["pid"])
    assert wait_for(lambda: "restart policy" in platform.deployment(NAMESPACE, "greeter").message)


def test_a_supervisor_of_another_version_is_replaced(
    data: Path, platform: ProcessPlatform, author: Author, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment = author.deploy(author.write("one"))
    old = supervisor()
    # This process reports a newer version, and starts a supervisor that reports the real one.
    monkeypatch.setattr(fnbuild, "__version__", "99.0.0")
    with pytest.raises(UnavailableError, match=r"99\.0\.0") as failure:
        platform.up()
    assert "fnbuild down && fnbuild up" in (failure.value.hint or "")
    monkeypatch.undo()
    monkeypatch.setenv("FNBUILD_DATA_DIR", str(data))
    assert supervisor() != old
    assert invoke(deployment.http_port) == "one"
    assert platform.deployment(NAMESPACE, "greeter").details["pid"] == deployment.details["pid"]


def test_a_disabled_function_is_in_standby(platform: ProcessPlatform, author: Author) -> None:
    deployment = author.deploy(author.write("one"))
    stopped = author.deploy(author.write("one", spec="disable: true"))
    assert (stopped.state, stopped.http_port, stopped.replicas) == ("standby", 0, (0, 0))
    assert wait_for(lambda: not alive(deployment.details["pid"]))
    platform.up()
    assert platform.deployment(NAMESPACE, "greeter").state == "standby"
    enabled = author.deploy(author.write("one"))
    assert (enabled.state, enabled.http_port) == ("ready", deployment.http_port)


def test_a_disabled_function_is_enabled_without_its_folder(
    platform: ProcessPlatform, author: Author
) -> None:
    author.deploy(author.write("one", spec="disable: true"))
    assert platform.redeploy(NAMESPACE, "greeter", author.progress.append).state == "standby"
    request = pipeline.DeployRequest(name="greeter", namespace=NAMESPACE, enabled=True)
    deployment = pipeline.update(platform, request, author.progress.append)
    assert deployment.state == "ready"
    assert invoke(deployment.http_port) == "one"


def test_a_lost_supervisor_is_reported(
    data: Path, platform: ProcessPlatform, author: Author
) -> None:
    deployment = author.deploy(author.write("one"))
    assert platform.problems() == []
    end(supervisor())
    [notice] = platform.problems()
    assert "the supervisor does not run" in notice
    assert "fnbuild up" in notice
    assert platform.deployment(NAMESPACE, "greeter").state == "ready"
    end(deployment.details["pid"])
    current = platform.deployment(NAMESPACE, "greeter")
    assert current.state == "stopped"
    assert "its processor and the supervisor do not run" in current.message

    platform.up()
    platform.down()
    # The user stopped everything with `down`.
    assert platform.problems() == []
    assert "it was stopped" in platform.deployment(NAMESPACE, "greeter").message


def test_all_processes_end_with_the_data_directory(data: Path, author: Author) -> None:
    author.deploy(author.write("one"))
    assert len(processes(data)) >= 3, "supervisor, processor, worker"
    shutil.rmtree(data)
    assert wait_for(lambda: not processes(data))


def test_a_hanging_processor_is_unhealthy(platform: ProcessPlatform, author: Author) -> None:
    deployment = author.deploy(author.write("one"))
    os.kill(deployment.details["pid"], signal.SIGSTOP)
    try:
        current = platform.deployment(NAMESPACE, "greeter")
        assert (current.state, current.message) == ("unhealthy", "the processor does not answer")
    finally:
        os.kill(deployment.details["pid"], signal.SIGCONT)
    assert wait_for(lambda: platform.deployment(NAMESPACE, "greeter").state == "ready")


def test_a_data_directory_may_have_a_long_path(
    tmp_path: Path, author: Author, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ("x" * 100) / ("y" * 100)
    monkeypatch.setenv("FNBUILD_DATA_DIR", str(folder))
    platform = ProcessPlatform()
    try:
        deployment = author.deploy(author.write("one"))
        assert invoke(deployment.http_port) == "one"
        end(supervisor())
        platform.up()
        assert platform.deployment(NAMESPACE, "greeter").details["pid"] == deployment.details["pid"]
    finally:
        platform.down()
        assert wait_for(lambda: not processes(folder))
        monkeypatch.setenv("FNBUILD_DATA_DIR", str(tmp_path / "data"))


def test_restore_starts_functions_that_were_lost(
    data: Path, platform: ProcessPlatform, author: Author
) -> None:
    first = author.deploy(author.write("one", name="first"))
    author.deploy(author.write("two", name="second"))
    assert platform.functions_to_restore() == []
    end_everything(data)
    assert platform.functions_to_restore() == [(NAMESPACE, "first"), (NAMESPACE, "second")]

    progress: list[str] = []
    assert platform.restore(progress.append, FunctionKey(NAMESPACE, "first")) == ("first",)
    assert progress == [f"first: ready on http://127.0.0.1:{first.http_port}"]
    # The supervisor that this starts also restarts the other function.
    assert platform.functions_to_restore() == []
    assert wait_for(lambda: platform.deployment(NAMESPACE, "second").state == "ready")
    end_everything(data)
    assert platform.restore(progress.append) == ("first", "second")


def test_restore_leaves_stopped_functions_alone(
    data: Path, platform: ProcessPlatform, author: Author
) -> None:
    author.deploy(author.write("one", name="first"))
    platform.down()
    assert wait_for(lambda: not processes(data))
    assert platform.functions_to_restore() == []
    assert platform.restore(print, FunctionKey(NAMESPACE, "first")) == ()
    assert platform.restore(print) == ()
    assert platform.deployment(NAMESPACE, "first").state == "stopped"


def test_restore_does_nothing_while_a_supervisor_ends(
    data: Path, platform: ProcessPlatform, author: Author
) -> None:
    author.deploy(author.write("one"))
    end_everything(data)
    # Like a supervisor that has closed its socket and stops its functions.
    with daemon.single_instance(supervisor_lock(), lambda: False) as first:
        assert first
        assert platform.functions_to_restore() == []
        assert platform.restore(print) == ()
        assert platform.restore(print, FunctionKey(NAMESPACE, "greeter")) == ()
    assert platform.functions_to_restore() == [(NAMESPACE, "greeter")]


def test_a_function_that_is_being_changed_is_not_restored(
    data: Path, platform: ProcessPlatform, author: Author
) -> None:
    author.deploy(author.write("one"))
    end_everything(data)
    with (
        function_lock(NAMESPACE, "greeter", "deployed"),
        pytest.raises(ConflictError, match="being deploy"),
    ):
        platform.restore(print, FunctionKey(NAMESPACE, "greeter"))
    assert processes(data) == []


def test_a_restored_function_that_fails_is_an_error(
    data: Path, platform: ProcessPlatform, author: Author
) -> None:
    deployment = author.deploy(author.write("one"))
    end_everything(data)
    code = Path(deployment.details["code"]) / "main.py"
    code.chmod(0o600)
    code.write_text("raise RuntimeError('the weights are gone')\n")
    with pytest.raises(NotReadyError, match="greeter was started") as failure:
        platform.restore(print, FunctionKey(NAMESPACE, "greeter"))
    assert "the weights are gone" in (failure.value.detail or "")


def test_a_failed_start_is_repeated(data: Path, platform: ProcessPlatform, author: Author) -> None:
    author.deploy(author.write("one"))
    config = data / "functions" / NAMESPACE / "greeter" / "revisions" / "1" / "processor.json"
    renamed = config.rename(config.with_suffix(".away"))
    end_everything(data)
    with pytest.raises(NotReadyError):
        platform.restore(print, FunctionKey(NAMESPACE, "greeter"))
    assert "it is tried again" in platform.deployment(NAMESPACE, "greeter").message
    renamed.rename(config)
    assert wait_for(lambda: platform.deployment(NAMESPACE, "greeter").state == "ready")


def lasting_descriptors(pid: int) -> set[int]:
    """Return the descriptors of a process without those that are open only for a moment."""
    used = descriptors(pid)
    for _ in range(50):
        time.sleep(0.01)
        used &= descriptors(pid)
    return used


def descriptors(pid: int) -> set[int]:
    return {int(name) for name in os.listdir(f"/proc/{pid}/fd")}


@contextlib.contextmanager
def few_descriptors(pid: int, spare: int) -> Iterator[None]:
    """Let the process open only `spare` more descriptors."""
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    used = lasting_descriptors(pid)
    free = (number for number in itertools.count() if number not in used)
    limit = next(itertools.islice(free, spare, None)) if spare else 0
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, limits[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)


def test_a_failed_restart_is_repeated(platform: ProcessPlatform, author: Author) -> None:
    deployment = author.deploy(author.write("one"))
    # Enough to answer commands, not enough to start a process.
    with few_descriptors(supervisor(), 2):
        end(deployment.details["pid"])
        assert wait_for(lambda: "tried again" in platform.deployment(NAMESPACE, "greeter").message)
        current = platform.deployment(NAMESPACE, "greeter")
        assert current.state == "unhealthy"
        assert "ended by SIGKILL; cannot start revision 1 of greeter" in current.message
        assert "Too many open files" in current.message
    assert wait_for(lambda: platform.deployment(NAMESPACE, "greeter").state == "ready")
    assert invoke(deployment.http_port) == "one"


def test_a_supervisor_without_free_descriptors_keeps_processors(
    platform: ProcessPlatform, author: Author
) -> None:
    deployment = author.deploy(author.write("one"))
    key = FunctionKey(NAMESPACE, "greeter")
    with few_descriptors(os.getpid(), 0), pytest.raises(ProcessorUnreachableError) as refusal:
        read_status(layout.control_socket(FunctionKey(*key), 1))
    assert refusal.value.exhausted
    assert not refusal.value.gone
    assert invoke(deployment.http_port) == "one"


def test_a_restart_is_repeated_when_files_cannot_be_removed(
    data: Path, platform: ProcessPlatform, author: Author
) -> None:
    deployment = author.deploy(author.write("one"))
    launch = layout.launch_path(FunctionKey(NAMESPACE, "greeter"), 1)
    launch.unlink()
    # A folder in the place of the file: unlink fails with an OSError.
    launch.mkdir()
    end(deployment.details["pid"])
    assert wait_for(lambda: "tried again" in platform.deployment(NAMESPACE, "greeter").message)
    launch.rmdir()
    assert wait_for(lambda: platform.deployment(NAMESPACE, "greeter").state == "ready")
    assert invoke(deployment.http_port) == "one"
