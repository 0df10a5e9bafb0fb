"""From one container to the next: what callers notice, and what happens when the new one fails."""

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
from tests.platforms.docker.author import Author, ask

pytestmark = pytest.mark.system

# The machine that tests run on may have much else to do; the bench has the real number.
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
    """Asks again and again; `gap` is the longest time between two answers."""

    def __init__(self, port: int):
        super().__init__(daemon=True)
        self.port = port
        self.gap = 0.0
        self.words: set[str] = set()
        self.report_wrong_type: set[int] = set()
        self.done = threading.Event()

    def run(self) -> None:
        last = time.monotonic()
        while not self.done.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
            try:
                connection.request("GET", "/")
                reply = connection.getresponse()
                self.words.add(reply.read().decode())
                if reply.status != 200:
                    self.report_wrong_type.add(reply.status)
                self.gap = max(self.gap, time.monotonic() - last)
                last = time.monotonic()
            except (OSError, http.client.HTTPException):
                time.sleep(0.01)
            finally:
                connection.close()
            time.sleep(0.02)


def test_what_callers_notice_of_a_redeploy(author: Author) -> None:
    spec = "triggers: {web: {kind: http, numWorkers: 2}}"
    first = author.deploy(author.write_code(SLOW, spec=spec))
    caller = Caller(first.http_port)
    caller.start()
    answers: list[str] = []

    def hold() -> None:
        # Whoever is being served when the old container has to go is served to the end.
        while not answers:
            if any("finishes its requests" in line for line in author.progress):
                return
            got = ask(first.http_port, "/1.5")
            if any("starting the container" in line for line in author.progress):
                answers.append(got)

    holder = threading.Thread(target=hold, daemon=True)
    author.progress.clear()
    holder.start()
    second = author.deploy(author.write("new", spec=spec))
    assert ask(second.http_port) == "new"
    holder.join(120)
    caller.done.set()
    caller.join(120)

    assert second.http_port == first.http_port
    assert caller.words == {"old", "new"}
    assert caller.report_wrong_type == set()
    assert caller.gap < LONGEST_GAP
    assert any(line.startswith("the port was closed for ") for line in author.progress)


def test_a_request_in_hand_is_served_by_the_container_that_goes(
    author: Author, tmp_path: Path
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    spec = f"""
    volumes:
    - volume: {{name: v, hostPath: {{path: {shared}}}}}
      volumeMount: {{name: v, mountPath: /shared}}
    """
    first = author.deploy(author.write_code(SLOW, spec=spec))
    answers: list[str] = []
    asking = threading.Thread(
        target=lambda: answers.append(ask(first.http_port, "/3", timeout=60)), daemon=True
    )

    def progress(sentence: str) -> None:
        if sentence == "the old container finishes its requests":
            asking.start()
            # It has to be there before the signal.
            until("the request in the container", (shared / "asked").exists)

    author.progress = Listener(progress)
    author.deploy(author.write("new"))
    asking.join(120)
    assert answers == ["old"]


class Listener(list[str]):
    """Progress that somebody acts on."""

    def __init__(self, heard: object):
        super().__init__()
        self.heard = heard

    def append(self, sentence: str) -> None:
        super().append(sentence)
        assert callable(self.heard)
        self.heard(sentence)


def test_the_old_container_is_back_when_the_switch_itself_fails(
    author: Author, tmp_path: Path
) -> None:
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
    assert ask(first.http_port) == "old"
    deployment = author.shown()
    assert (deployment.state, deployment.revision, deployment.http_port) == (
        "ready",
        1,
        first.http_port,
    )
    assert author.docker("ps", "-aq", "--filter", f"name={author.namespace}").count("\n") == 1


def test_a_revision_that_fails_says_which_one_serves(author: Author) -> None:
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
    assert ask(first.http_port) == "old"
    author.docker("stop", author.container())
    with pytest.raises(NotReadyError) as failure:
        author.deploy(author.write_code(broken))
    assert failure.value.hint is None


def test_a_gpu_that_the_engine_cannot_give(author: Author) -> None:
    first = author.deploy(author.write("old"))
    if "nvidia" in author.docker("info", "--format", "{{json .Runtimes}}"):
        pytest.skip("this engine has a GPU to give")
    limits = 'resources: {limits: {"nvidia.com/gpu": 1}}'
    with pytest.raises(PreconditionError, match="GPU") as failure:
        author.deploy(author.write("new", spec=limits))
    assert "Container Toolkit" in (failure.value.hint or "")
    assert (failure.value.hint or "").startswith("revision 1 ")
    assert "starting a trial container beside the one that serves" not in author.progress
    assert ask(first.http_port) == "old"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("def handler(context, event)\n", "SyntaxError"),
        ("import nowhere_to_be_found\n", "No module named 'nowhere_to_be_found'"),
    ],
)
def test_code_that_cannot_be_imported_ends_no_container_with_a_gpu(
    author: Author, code: str, reason: str
) -> None:
    first = author.deploy(author.write("old"))
    before = author.inspected()["State"]["StartedAt"]
    limits = 'resources: {limits: {"nvidia.com/gpu": 1}}'
    with pytest.raises(NotReadyError, match="revision 2 of greeter did not") as failure:
        author.deploy(author.write_code(code, spec=limits))
    assert reason in failure.value.message
    assert "main.py" in (failure.value.detail or "")
    assert (failure.value.hint or "").startswith("revision 1 goes on serving")
    assert author.inspected()["State"]["StartedAt"] == before
    assert ask(first.http_port) == "old"


def test_two_deploys_at_once(author: Author) -> None:
    folder = author.write("hello")
    with (
        function_lock(author.namespace, "greeter", "deployed"),
        pytest.raises(ConflictError, match="being deployed"),
    ):
        author.deploy(folder)


def test_a_name_that_means_another_image_meanwhile(author: Author) -> None:
    author.deploy(author.write("old"))
    old = author.inspected()["Image"]
    folder = author.write("new")

    def progress(text: str) -> None:
        if text.startswith("starting a trial container"):
            author.docker("tag", old, author.resources.name("greeter"))

    request = pipeline.DeployRequest(path=folder, platform="local", namespace=author.namespace)
    deployment = pipeline.deploy(request, progress)
    assert ask(deployment.http_port) == "new"
    assert author.inspected()["Image"] != old


def test_a_deploy_that_was_killed_is_cleared_up_after(author: Author) -> None:
    author.deploy(author.write("hello"))
    # As a deploy leaves it that was killed behind the start of the new container.
    name = author.container()
    author.docker("rename", name, f"{name}.fnbuild-next")
    assert author.shown().state == "ready"
    redeployed = author.platform.redeploy(author.namespace, "greeter", author.progress.append)
    assert redeployed.details["container"] == name


def test_an_update_behind_a_rollback_keeps_the_code(
    author: Author, platform: DockerPlatform
) -> None:
    author.deploy(author.write("one"))
    author.deploy(author.write("two"))
    platform.rollback(author.namespace, "greeter", None, author.progress.append)
    request = pipeline.DeployRequest(
        name="greeter",
        namespace=author.namespace,
        overrides=Function(spec=Spec(description="newer")),
    )
    deployment = pipeline.update(platform, request, author.progress.append)
    assert (deployment.function.spec.description, ask(deployment.http_port)) == ("newer", "one")


def test_only_the_newest_revisions_are_kept(
    author: Author, platform: DockerPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "MAX_REVISIONS", 1)
    author.deploy(author.write("one"))
    author.deploy(author.write("two"))
    numbers = [revision.number for revision in platform.revisions(author.namespace, "greeter")]
    assert numbers == [2]
    kept = author.docker("images", "--format", "{{.Tag}}", "fnbuild-revisions")
    assert f"{author.namespace}.greeter.2" in kept
    assert f"{author.namespace}.greeter.1" not in kept
