"""Switches between containers: interruptions for callers, and failures of the new container."""

from __future__ import annotations

import http.client
import threading
import time
from pathlib import Path

import pytest

from fnbuild.datadir import function_lock
from fnbuild.deploy import pipeline
from fnbuild.errors import ConflictError, NotReadyError, PreconditionError
from fnbuild.function.types import Function, Spec
from fnbuild.platforms.docker import DockerPlatform, records
from tests.engine import until
from tests.platforms.docker.author import Author, invoke

pytestmark = pytest.mark.system

# The test machine may be busy; the benchmark measures the real gap.
LONGEST_GAP = 20.0

SLOW = """\
import os
import time

def handler(context, event):
    if event.path == "/3" and os.path.isdir("/shared"):
        open("/shared/asked", "w").close()
    time.sleep(float(event.path.strip("/") or 0))
    return "old"
"""

FAILS_THE_SECOND_TIME = """\
import os

def init_context(context):
    if os.path.exists("/shared/seen"):
        raise RuntimeError("there is room for one model only")
    open("/shared/seen", "w").close()

def handler(context, event):
    return "new"
"""


class Caller(threading.Thread):
    """A client that sends requests until `done`; `gap` is the longest time between two answers."""

    def __init__(self, port: int):
        super().__init__(daemon=True)
        self.port = port
        self.gap = 0.0
        self.bodies: set[str] = set()
        self.wrong_statuses: set[int] = set()
        self.done = threading.Event()

    def run(self) -> None:
        last = time.monotonic()
        while not self.done.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
            try:
                connection.request("GET", "/")
                reply = connection.getresponse()
                self.bodies.add(reply.read().decode())
                if reply.status != 200:
                    self.wrong_statuses.add(reply.status)
                self.gap = max(self.gap, time.monotonic() - last)
                last = time.monotonic()
            except (OSError, http.client.HTTPException):
                time.sleep(0.01)
            finally:
                connection.close()
            time.sleep(0.02)


def test_a_redeploy_serves_callers_with_a_short_gap(author: Author) -> None:
    spec = "triggers: {web: {kind: http, numWorkers: 2}}"
    first = author.deploy(author.write_code(SLOW, spec=spec))
    caller = Caller(first.http_port)
    caller.start()
    answers: list[str] = []

    def hold() -> None:
        # Requests in progress are served to the end when the old container stops.
        while not answers:
            if any("finishes its requests" in line for line in author.progress):
                return
            answer = invoke(first.http_port, "/1.5")
            if any("starting the container" in line for line in author.progress):
                answers.append(answer)

    holder = threading.Thread(target=hold, daemon=True)
    author.progress.clear()
    holder.start()
    second = author.deploy(author.write("new", spec=spec))
    assert invoke(second.http_port) == "new"
    holder.join(120)
    caller.done.set()
    caller.join(120)

    assert second.http_port == first.http_port
    assert caller.bodies == {"old", "new"}
    assert caller.wrong_statuses == set()
    assert caller.gap < LONGEST_GAP
    assert any(line.startswith("the port was closed for ") for line in author.progress)


def test_the_old_container_finishes_its_requests(author: Author, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    spec = f"""
    volumes:
    - volume: {{name: v, hostPath: {{path: {shared}}}}}
      volumeMount: {{name: v, mountPath: /shared}}
    """
    first = author.deploy(author.write_code(SLOW, spec=spec))
    answers: list[str] = []
    client = threading.Thread(
        target=lambda: answers.append(invoke(first.http_port, "/3", timeout=60)), daemon=True
    )

    def progress(sentence: str) -> None:
        if sentence == "the old container finishes its requests":
            client.start()
            # The request has to arrive before the signal.
            until("the request in the container", (shared / "asked").exists)

    author.progress = Listener(progress)
    author.deploy(author.write("new"))
    client.join(120)
    assert answers == ["old"]


class Listener(list[str]):
    """A progress list with a callback for each line."""

    def __init__(self, callback: object):
        super().__init__()
        self.callback = callback

    def append(self, sentence: str) -> None:
        super().append(sentence)
        assert callable(self.callback)
        self.callback(sentence)


def test_the_old_container_restarts_after_a_failed_switch(author: Author, tmp_path: Path) -> None:
    first = author.deploy(author.write("old"))
    shared = tmp_path / "shared"
    shared.mkdir()
    spec = f"""
    volumes:
    - volume: {{name: v, hostPath: {{path: {shared}}}}}
      volumeMount: {{name: v, mountPath: /shared}}
    """
    with pytest.raises(NotReadyError) as failure:
        author.deploy(author.write_code(FAILS_THE_SECOND_TIME, spec=spec))
    assert "room for one model only" in (failure.value.detail or "")
    assert failure.value.hint == "revision 1 starts again"
    assert invoke(first.http_port) == "old"
    deployment = author.deployment()
    assert (deployment.state, deployment.revision, deployment.http_port) == (
        "ready",
        1,
        first.http_port,
    )
    assert author.docker("ps", "-aq", "--filter", f"name={author.namespace}").count("\n") == 1


def test_a_failed_deploy_names_the_serving_revision(author: Author) -> None:
    first = author.deploy(author.write("old"))
    broken = """
    def init_context(context):
        raise ValueError("the weights are missing")

    def handler(context, event):
        return "new"
    """
    with pytest.raises(NotReadyError, match="revision 2 of greeter did not") as failure:
        author.deploy(author.write_code(broken))
    assert failure.value.hint == "revision 1 goes on serving"
    assert invoke(first.http_port) == "old"
    author.docker("stop", author.container())
    with pytest.raises(NotReadyError) as failure:
        author.deploy(author.write_code(broken))
    assert failure.value.hint is None


def test_a_deploy_with_a_gpu_limit_that_fails_leaves_the_container_running(author: Author) -> None:
    first = author.deploy(author.write("old"))
    before = author.inspect_container()["State"]["StartedAt"]
    limits = 'resources: {limits: {"nvidia.com/gpu": 1}}'
    for number, code, reason in (
        (2, "def handler(context, event)\n", "SyntaxError"),
        (3, "import nowhere_to_be_found\n", "No module named 'nowhere_to_be_found'"),
    ):
        with pytest.raises(NotReadyError, match=f"revision {number} of greeter did not") as failure:
            author.deploy(author.write_code(code, spec=limits))
        assert reason in failure.value.message
        assert "main.py" in (failure.value.detail or "")
        assert (failure.value.hint or "").startswith("revision 1 goes on serving")
        assert author.inspect_container()["State"]["StartedAt"] == before
        assert invoke(first.http_port) == "old"

    if "nvidia" in author.docker("info", "--format", "{{json .Runtimes}}"):
        return  # the engine has a GPU to give
    with pytest.raises(PreconditionError, match="GPU") as refusal:
        author.deploy(author.write("new", spec=limits))
    assert "Container Toolkit" in (refusal.value.hint or "")
    assert (refusal.value.hint or "").startswith("revision 1 ")
    assert "starting a trial container beside the one that serves" not in author.progress
    assert invoke(first.http_port) == "old"


def test_concurrent_deploys_are_refused(author: Author) -> None:
    folder = author.write("hello")
    with (
        function_lock(author.namespace, "greeter", "deployed"),
        pytest.raises(ConflictError, match="being deployed"),
    ):
        author.deploy(folder)


def test_the_built_image_runs_although_its_name_moves(author: Author) -> None:
    author.deploy(author.write("old"))
    check_that_a_killed_deploy_is_cleaned_up(author)
    old = author.inspect_container()["Image"]
    folder = author.write("new")

    def progress(text: str) -> None:
        if text.startswith("starting a trial container"):
            author.docker("tag", old, author.resources.name("greeter"))

    request = pipeline.DeployRequest(path=folder, platform="local", namespace=author.namespace)
    deployment = pipeline.deploy(request, progress)
    assert invoke(deployment.http_port) == "new"
    assert author.inspect_container()["Image"] != old


def check_that_a_killed_deploy_is_cleaned_up(author: Author) -> None:
    """Create the state after a deploy was killed right after the start of the new container."""
    name = author.container()
    author.docker("rename", name, f"{name}.fnbuild-next")
    assert author.deployment().state == "ready"
    redeployed = author.platform.redeploy(author.namespace, "greeter", author.progress.append)
    assert redeployed.details["container"] == name


def test_an_update_after_a_rollback_keeps_the_code_and_old_revisions_are_removed(
    author: Author, platform: DockerPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    author.deploy(author.write("one"))
    author.deploy(author.write("two"))
    platform.rollback(author.namespace, "greeter", None, author.progress.append)
    request = pipeline.DeployRequest(
        name="greeter",
        namespace=author.namespace,
        overrides=Function(spec=Spec(description="newer")),
    )
    monkeypatch.setattr(records, "MAX_REVISIONS", 1)
    deployment = pipeline.update(platform, request, author.progress.append)
    assert (deployment.function.spec.description, invoke(deployment.http_port)) == ("newer", "one")
    numbers = [revision.number for revision in platform.revisions(author.namespace, "greeter")]
    assert numbers == [4]
    tags = author.docker("images", "--format", "{{.Tag}}", "fnbuild-revisions")
    assert f"{author.namespace}.greeter.4" in tags
    for number in (1, 2, 3):
        assert f"{author.namespace}.greeter.{number}" not in tags
