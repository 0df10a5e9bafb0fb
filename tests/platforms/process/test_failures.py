"""Failed deploys report the handler's error, and the previous revision keeps running."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from fnbuild.errors import BuildError, ConflictError, FnbuildError, NotReadyError, UsageError
from fnbuild.platforms.process import ProcessPlatform, listeners
from tests.platforms.process.author import (
    NAMESPACE,
    Author,
    alive,
    invoke,
    processes,
    refuses,
    wait_for,
)

pytestmark = pytest.mark.system

GPU = """
resources:
  limits:
    nvidia.com/gpu: 1
"""


def test_a_broken_revision_is_stopped_and_recorded(
    platform: ProcessPlatform, author: Author
) -> None:
    deployment = author.deploy(author.write("old"))
    broken = author.write_code(
        """
        def init_context(context):
            raise ValueError("the weights are missing")

        def handler(context, event):
            return ""
        """
    )
    with pytest.raises(NotReadyError, match="ValueError: the weights are missing") as failure:
        author.deploy(broken)
    assert "in init_context" in (failure.value.detail or "")
    assert invoke(deployment.http_port) == "old"
    newest = platform.revisions(NAMESPACE, "greeter")[0]
    assert newest.state == "failed"
    reason = newest.message.splitlines()[0]
    assert reason == "ValueError: the weights are missing (main.py:3, in init_context)"
    assert failure.value.hint == "revision 1 goes on serving"
    current = platform.deployment(NAMESPACE, "greeter")
    assert (current.state, current.revision, current.details["pid"]) == (
        "ready",
        1,
        deployment.details["pid"],
    )


def test_a_processor_killed_during_its_start_is_reported(author: Author) -> None:
    folder = author.write_code("import os\nos.kill(os.getppid(), 9)\n")
    with pytest.raises(NotReadyError, match="SIGKILL"):
        author.deploy(folder)


def test_a_hanging_init_context_is_reported(platform: ProcessPlatform, author: Author) -> None:
    deployment = author.deploy(author.write("old"))
    folder = author.write_code(
        """
        import time

        def init_context(context):
            time.sleep(600)

        def handler(context, event):
            return ""
        """,
        spec="readinessTimeoutSeconds: 5",
    )
    with pytest.raises(NotReadyError, match="init_context did not finish") as failure:
        author.deploy(folder)
    assert "line 5 in init_context" in (failure.value.detail or "")
    assert invoke(deployment.http_port) == "old"


CRASHING = """
import ctypes

def init_context(context):
    ctypes.string_at(0)

def handler(context, event):
    return ""
"""


@pytest.mark.parametrize(
    ("code", "reason", "location"),
    [
        (CRASHING, "worker 0 crashed in init_context (SIGSEGV), a", "line 5 in init_context"),
        ("def handler(:\n", "SyntaxError: invalid syntax (main.py, line 1)", "def handler(:"),
        ("def handler(): pass\n", "main.py:1: handler() cannot be called as", None),
    ],
)
def test_the_failure_reason_is_one_line(
    platform: ProcessPlatform, author: Author, code: str, reason: str, location: str | None
) -> None:
    with pytest.raises(NotReadyError) as failure:
        author.deploy(author.write_code(code))
    opening = "revision 1 of greeter did not become ready: "
    assert failure.value.message.startswith(opening + reason)
    detail = failure.value.detail or ""
    assert "\n" not in failure.value.message
    assert location is None or location in detail
    assert "fnbuild" not in detail
    assert platform.deployment(NAMESPACE, "greeter").message.startswith(reason)
    assert platform.revisions(NAMESPACE, "greeter")[0].message.startswith(reason)


def test_a_lost_worker_is_reported(
    tmp_path: Path, platform: ProcessPlatform, author: Author
) -> None:
    gate = tmp_path / "gate"
    folder = author.write_code(
        f"""
        import os

        def init_context(context):
            if os.path.exists({str(gate)!r}):
                raise ValueError("the model is gone")

        def handler(context, event):
            return ""
        """,
        spec="triggers:\n  web:\n    kind: http\n    numWorkers: 2",
    )
    deployment = author.deploy(folder)
    assert (deployment.state, deployment.message) == ("ready", "")
    gate.touch()
    os.kill(deployment.details["workers"][1]["pid"], signal.SIGKILL)
    message = "1 of 2 workers is down: ValueError: the model is gone"
    assert wait_for(lambda: message in platform.deployment(NAMESPACE, "greeter").message)
    assert platform.deployment(NAMESPACE, "greeter").state == "ready"
    gate.unlink()
    assert wait_for(lambda: platform.deployment(NAMESPACE, "greeter").message == "")
    messages = [record.message for record in platform.logs(NAMESPACE, "greeter")]
    assert "worker 1 is ready again" in messages


def test_a_failed_first_deploy_leaves_no_process_and_its_reason(
    data: Path, platform: ProcessPlatform, author: Author
) -> None:
    with pytest.raises(NotReadyError):
        author.deploy(author.write_code("import nowhere_to_be_found\n"))
    current = platform.deployment(NAMESPACE, "greeter")
    assert current.state == "error"
    assert "nowhere_to_be_found" in current.message
    assert (current.http_port, current.replicas) == (0, (0, 1))
    assert wait_for(lambda: len(processes(data)) == 1)  # the supervisor
    platform.up()
    assert platform.deployment(NAMESPACE, "greeter").state == "error"


def test_the_old_revision_of_a_gpu_function_stops_before_the_new_one_starts(
    platform: ProcessPlatform, author: Author
) -> None:
    deployment = author.deploy(author.write("old", spec=GPU))
    pid = deployment.details["pid"]
    # The new processor checks during its start if the old one still runs.
    seen = f"import os\nprint('old processor:', os.path.exists('/proc/{pid}'))\n"
    code = "def handler(context, event):\n    return 'new'\n"
    redeployed = author.deploy(author.write_code(seen + code, spec=GPU))
    assert invoke(redeployed.http_port) == "new"
    assert "stopping revision 1, which holds the GPU" in author.progress
    assert "old processor: False" in [r.message for r in platform.logs(NAMESPACE, "greeter")]

    code = "def init_context(context):\n    raise ValueError('no weights')\n" + code
    with pytest.raises(NotReadyError) as failure:
        author.deploy(author.write_code(code, spec=GPU))
    assert failure.value.hint == "revision 2 starts again"
    assert invoke(redeployed.http_port) == "new"
    assert wait_for(lambda: platform.deployment(NAMESPACE, "greeter").state == "ready")
    assert platform.deployment(NAMESPACE, "greeter").revision == 2


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import nowhere_to_be_found\n", "No module named 'nowhere_to_be_found'"),
        ("def handler(context, event)\n", "SyntaxError"),
    ],
)
def test_code_that_cannot_be_imported_leaves_a_gpu_function_running(
    platform: ProcessPlatform, author: Author, code: str, reason: str
) -> None:
    deployment = author.deploy(author.write("old", spec=GPU))
    with pytest.raises(NotReadyError, match="revision 2 of greeter did not become") as failure:
        author.deploy(author.write_code(code, spec=GPU))
    assert reason in failure.value.message
    assert "main.py" in (failure.value.detail or "")
    assert (failure.value.hint or "").startswith("revision 1 goes on serving")
    assert not [line for line in author.progress if line.startswith("stopping")]
    current = platform.deployment(NAMESPACE, "greeter")
    assert (current.state, current.details["pid"]) == ("ready", deployment.details["pid"])
    states = [revision.state for revision in platform.revisions(NAMESPACE, "greeter")]
    assert states == ["failed", "active"]


def test_overlap_keeps_the_old_one_until_the_new_one_is_ready(
    platform: ProcessPlatform, author: Author
) -> None:
    deployment = author.deploy(author.write("old", spec=GPU))
    pid = deployment.details["pid"]
    seen = f"import os\nprint('old processor:', os.path.exists('/proc/{pid}'))\n"
    code = "def handler(context, event):\n    return 'new'\n"
    author.deploy(author.write_code(seen + code, spec=GPU), overlap=True)
    assert "old processor: True" in [r.message for r in platform.logs(NAMESPACE, "greeter")]
    assert wait_for(lambda: not alive(pid))


def test_previous_logs_are_not_available(platform: ProcessPlatform) -> None:
    with pytest.raises(UsageError, match="there is no previous log") as failure:
        platform.previous_logs(NAMESPACE, "greeter")
    assert "`fnbuild logs greeter`" in (failure.value.hint or "")
    assert platform.restarts(NAMESPACE) == {}


def with_port(port: int) -> str:
    return f"triggers:\n  web:\n    kind: http\n    attributes:\n      port: {port}"


def test_a_taken_port_is_reported_with_its_owner(platform: ProcessPlatform, author: Author) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConflictError, match=rf"port {port} .* taken by .*pid \d+"):
            author.deploy(author.write(spec=with_port(port)))
    current = platform.deployment(NAMESPACE, "greeter")
    assert current.state == "error"
    assert str(port) in current.message
    assert author.deploy(author.write(spec=with_port(port))).http_port == port


def test_the_port_of_another_function_is_refused(author: Author) -> None:
    first = author.deploy(author.write(name="first"))
    with pytest.raises(ConflictError, match="belongs to function first"):
        author.deploy(author.write(name="second", spec=with_port(first.http_port)))


def test_a_changed_port_is_kept_by_later_deploys(platform: ProcessPlatform, author: Author) -> None:
    first = author.deploy(author.write("one"))
    listener = listeners.open_listeners(["127.0.0.1"], 0, 0)
    port = listener.port
    listener.close()
    second = author.deploy(author.write("two", spec=with_port(port)))
    assert second.http_port == port != first.http_port
    assert invoke(port) == "two"
    third = author.deploy(author.write("three"))
    assert third.http_port == port
    assert wait_for(lambda: refuses(first.http_port))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (with_port(99999), "99999"),
        ("platform:\n  attributes:\n    restartPolicy:\n      name: sometimes", "sometimes"),
        ("platform:\n  attributes:\n    listen: everywhere", "is not an address to listen on"),
    ],
)
def test_invalid_values_are_refused(author: Author, spec: str, message: str) -> None:
    with pytest.raises(FnbuildError, match=message):
        author.deploy(author.write(spec=spec))


def test_a_missing_requirement_keeps_the_old_revision(
    platform: ProcessPlatform, author: Author
) -> None:
    deployment = author.deploy(author.write("old"))
    folder = author.write("new")
    (folder / "requirements.txt").write_text("--no-index\nno-such-package-anywhere==1\n")
    with pytest.raises(BuildError):
        author.deploy(folder)
    assert invoke(deployment.http_port) == "old"
    revisions = platform.revisions(NAMESPACE, "greeter")
    assert [(revision.number, revision.state) for revision in revisions] == [
        (2, "failed"),
        (1, "active"),
    ]
    assert "no-such-package-anywhere" in revisions[0].message
    source = platform.code_folder(NAMESPACE, "greeter")
    assert source is not None
    assert source.parent.name == "1"
