"""Tests that every platform has to pass.

The test module of a platform imports these tests and provides three fixtures: `platform` (a
`Platform`), `namespace` (used by this test only, without functions) and `platform_name` (its name
for `DeployRequest`).
"""

from __future__ import annotations

import json
import math
import threading
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fnbuild import names
from fnbuild.deploy import exports, pipeline, tokens
from fnbuild.errors import (
    BuildError,
    BusyError,
    NotFoundError,
    NotReadyError,
    PreconditionError,
    UsageError,
)
from fnbuild.function.types import Function, Spec, to_dict
from fnbuild.platforms import Deployment, FunctionKey, LogOptions, Platform, Project
from fnbuild.runtime.http import client
from tests.engine import until

CONFIG = """\
metadata:
  name: greeter
  annotations:
    name: Greeter
    type: detector
    spec: |
      [{"id": 1, "name": "face", "type": "rectangle"}]
spec:
  description: Repeats its input
  handler: main:handler
  runtime: python:3.11
  build:
    image: NAMESPACE
    noBaseImagesPull: true
  eventTimeout: 30s
  triggers:
    myHttpTrigger:
      kind: http
      numWorkers: 1
"""

CODE = """\
def init_context(context):
    context.logger.info("the model is loaded")

def handler(context, event):
    return {"greeting": "WORD", "got": event.body}
"""


class Author:
    """A user who writes and deploys one function."""

    def __init__(self, folder: Path, platform: Platform, platform_name: str, namespace: str):
        self.folder = folder
        self.platform = platform
        self.platform_name = platform_name
        self.namespace = namespace
        self.config = CONFIG.replace("NAMESPACE", namespace)
        self.progress: list[str] = []
        folder.mkdir()
        (folder / "function.yaml").write_text(self.config)

    def write(self, word: str) -> None:
        (self.folder / "main.py").write_text(CODE.replace("WORD", word))

    def request(self) -> pipeline.DeployRequest:
        return pipeline.DeployRequest(
            path=self.folder, project="cvat", platform=self.platform_name, namespace=self.namespace
        )

    def deploy(self, word: str) -> Deployment:
        self.write(word)
        return pipeline.deploy(self.request(), self.progress.append)

    def invoke(self, deployment: Deployment, body: object = None) -> dict[str, object]:
        """Return the answer of the function to a JSON body."""
        with self.platform.reachable_url(deployment) as url:
            needed = self.platform.request_headers(deployment)
            request = urllib.request.Request(
                url,
                data=json.dumps(body).encode(),
                headers={"Content-Type": "application/json", **needed},
            )
            with urllib.request.urlopen(request, timeout=60) as reply:
                answer: dict[str, object] = json.load(reply)
        return answer


@pytest.fixture
def author(tmp_path: Path, platform: Platform, platform_name: str, namespace: str) -> Author:
    return Author(tmp_path / "greeter", platform, platform_name, namespace)


class RunningFunction:
    """Checks of a function that one deploy made ready; it is ready after each of them.

    A platform with another behaviour overrides the check.
    """

    def __init__(self, platform: Platform, author: Author, deployment: Deployment) -> None:
        self.platform = platform
        self.author = author
        self.namespace = author.namespace
        self.deployment = deployment

    def check(self) -> None:
        # The number of requests comes first.
        self.check_statistics()
        self.check_answer()
        self.check_list()
        self.check_differences()
        self.check_image()
        self.check_workers()
        self.check_recorded_code()
        self.check_restoration()
        self.check_logs()
        self.check_followed_log()
        self.check_sleep()
        [name] = self.platform.replica_names(self.namespace, "greeter")
        assert name
        assert self.platform.problems() == []
        assert len(self.platform.revisions(self.namespace, "greeter")) == 1

    def check_statistics(self) -> None:
        [before] = self.platform.statistics(self.deployment).values()
        assert (before.requests, before.errors) == (0, 0)
        for _ in range(3):
            self.author.invoke(self.deployment)
        [after] = self.platform.statistics(self.deployment).values()
        assert (after.requests, after.errors, after.restarts) == (3, 0, 0)
        assert after.durations[-1] == (math.inf, 3)
        assert sum(after.workers.values()) == 1

    def check_answer(self) -> None:
        answer = self.author.invoke(self.deployment, {"a": 1})
        assert answer == {"greeting": "hello", "got": {"a": 1}}

    def check_list(self) -> None:
        [listed] = self.platform.deployments(self.namespace)
        assert listed.name == "greeter"
        assert listed.http_port == self.deployment.http_port
        assert listed.function.metadata.annotations["type"] == "detector"
        assert listed.function.metadata.labels[names.PROJECT_LABEL] == "cvat"
        assert listed.function.spec.description == "Repeats its input"
        assert self.platform.deployment(self.namespace, "greeter").state == "ready"
        assert self.platform.deployments(self.namespace, "another") == []

    def check_differences(self) -> None:
        assert pipeline.plan(self.author.request()).effective_changes == ()
        assert pipeline.diff(self.author.request()).text == ""
        self.author.write("goodbye")
        assert pipeline.diff(self.author.request()).text != ""

    def check_image(self) -> None:
        """The image is described for later deploys."""
        deployed = self.deployment
        [listed] = self.platform.deployments(self.namespace)
        assert listed.image == deployed.image
        assert not deployed.foreground
        if self.platform.artifact_kind == "folder":
            assert deployed.image is None
            return
        assert deployed.image is not None
        assert deployed.function.spec.image in (deployed.image.reference, deployed.pinned_image)
        assert len(deployed.image.digest) == 64
        assert deployed.pinned_image if self.platform.pulls_images else deployed.image.id

    def check_workers(self) -> None:
        reported = self.platform.statistics(self.deployment).values()
        assert (
            len(self.deployment.workers)
            or sum(sum(statistics.workers.values()) for statistics in reported)
        ) == 1

    def check_recorded_code(self) -> None:
        folder = self.platform.code_folder(self.namespace, "greeter")
        assert folder is not None
        assert (folder / "function.yaml").read_text() == self.author.config
        assert "hello" in (folder / "main.py").read_text()

    def check_restoration(self) -> None:
        """A restoration leaves a running function alone."""
        key = FunctionKey(self.namespace, "greeter")
        assert key not in self.platform.functions_to_restore()
        assert self.platform.restore(self.author.progress.append, key) in ((), ("greeter",))
        current = self.platform.deployment(self.namespace, "greeter")
        before = (self.deployment.revision, self.deployment.http_port)
        assert (current.revision, current.http_port) == before
        assert self.author.invoke(self.deployment)["greeting"] == "hello"

    def check_logs(self) -> None:
        def is_logged() -> bool:
            records = self.platform.logs(self.namespace, "greeter")
            return "the model is loaded" in [record.message for record in records]

        until("the message in the log", is_logged)

    def check_sleep(self) -> None:
        """The function sleeps and wakes on request, and wakes for a request."""
        key = FunctionKey(self.namespace, "greeter")
        if self.deployment.sleep is None:
            with pytest.raises(UsageError, match="do not sleep"):
                self.platform.change_sleep(*key, "sleep")
            return
        self.platform.change_sleep(*key, "sleep")
        sleeping = self.platform.deployment(*key)
        assert (sleeping.state, sleeping.replicas) == ("ready", (1, 1))
        assert sleeping.sleep is not None
        assert sleeping.sleep.state == "asleep"
        assert "asleep, wakes in about" in sleeping.message
        assert self.author.invoke(sleeping)["greeting"] == "hello"
        self.platform.change_sleep(*key, "sleep")
        self.platform.change_sleep(*key, "wake")
        woken = self.platform.deployment(*key)
        assert woken.sleep is not None
        assert (woken.sleep.state, woken.message) == ("awake", "")

    def check_followed_log(self) -> None:
        """Reading a log that goes on ends on request."""
        ended, seen = threading.Event(), threading.Event()

        def follow() -> None:
            options = LogOptions(follow=True, stop=ended)
            for record in self.platform.logs(self.namespace, "greeter", options):
                if record.message == "the model is loaded":
                    seen.set()

        thread = threading.Thread(target=follow)
        thread.start()
        assert seen.wait(60)
        ended.set()
        thread.join(60)
        assert not thread.is_alive()


class RunningInCluster(RunningFunction):
    def check_recorded_code(self) -> None:
        """Only the image has the code, because the cluster may be remote."""
        assert self.platform.code_folder(self.namespace, "greeter") is None


@pytest.fixture
def running_function() -> type[RunningFunction]:
    """The checks of a running function on the platform."""
    return RunningFunction


def test_a_function_is_deployed_described_deleted_and_imported(
    platform: Platform, author: Author, running_function: type[RunningFunction]
) -> None:
    assert platform.problems() == []
    _check_that_a_second_deploy_is_refused(platform, author)
    deployment = author.deploy("hello")
    assert (deployment.state, deployment.revision, deployment.replicas) == ("ready", 1, (1, 1))
    assert "created project cvat" in author.progress
    running_function(platform, author, deployment).check()

    exported = exports.export_configuration(
        platform.deployment(author.namespace, "greeter").function
    )
    assert exported["metadata"]["annotations"]["skip-deploy"] == "true"
    assert platform.delete(author.namespace, "greeter") is True
    assert platform.delete(author.namespace, "greeter") is False
    assert platform.deployments(author.namespace) == []
    for read in _readers(platform, author.namespace):
        with pytest.raises(NotFoundError, match="greeter"):
            read()

    # An imported function waits for its first deploy.
    imported = exports.import_function(platform, exported, author.namespace, "greeter.yaml")
    assert imported.state == "imported"
    assert platform.deployment(author.namespace, "greeter").state == "imported"
    assert author.deploy("hello").state == "ready"


def _check_that_a_second_deploy_is_refused(platform: Platform, author: Author) -> None:
    """A deploy is refused before anything is built while another one has the reservation."""
    author.write("hello")
    function = pipeline.prepare(author.request()).function
    with platform.reserve(function, author.progress.append):
        author.progress.clear()
        with pytest.raises(BusyError, match="greeter is being deployed"):
            pipeline.deploy(author.request(), author.progress.append)
        assert author.progress == []
    assert platform.deployments(author.namespace) == []


def _readers(platform: Platform, namespace: str) -> list[Callable[[], object]]:
    return [
        lambda: platform.deployment(namespace, "greeter"),
        lambda: platform.revisions(namespace, "greeter"),
        lambda: list(platform.logs(namespace, "greeter")),
        lambda: platform.replica_names(namespace, "greeter"),
        lambda: platform.redeploy(namespace, "greeter", print),
    ]


def test_a_closed_function_asks_for_credentials(platform: Platform, author: Author) -> None:
    if platform.authentication != "served" or "numWorkers" not in author.config:
        pytest.skip(f"the platform {platform.name} asks for no credentials itself")
    settings = """\
      attributes:
        authenticationMode: basicAuth
        authentication: {basicAuth: {username: cvat, password: correct-horse}}
"""
    author.config += settings
    (author.folder / "function.yaml").write_text(author.config)
    deployment = author.deploy("hello")
    assert author.invoke(deployment)["greeting"] == "hello"
    host = {"Host": deployment.host} if deployment.host else {}
    right = {"Authorization": "Basic Y3ZhdDpjb3JyZWN0LWhvcnNl"}
    with platform.reachable_url(deployment) as url:
        for more, status in (({}, 401), (right, 200)):
            headers = {"Content-Type": "application/json", **host, **more}
            reply = client.request("POST", url, body=b"{}", headers=headers)
            assert reply.status == status, reply
    stored = json.dumps(to_dict(platform.deployment(author.namespace, "greeter").function))
    assert "correct-horse" not in stored
    again = author.deploy("hello")
    assert again.revision == deployment.revision

    created = tokens.create_token(platform, again, "", None, author.progress.append)
    with platform.reachable_url(created.deployment) as url:
        headers = {"Content-Type": "application/json", **host}
        headers["Authorization"] = f"Bearer {created.token}"
        assert client.request("POST", url, body=b"{}", headers=headers).status == 200
    assert author.invoke(created.deployment)["greeting"] == "hello"


def test_a_plan_changes_nothing(platform: Platform, author: Author) -> None:
    author.write("hello")
    plan = pipeline.plan(author.request())
    assert plan.effective_changes
    assert ("create", "project cvat") in [
        (step.verb, step.target) for step in plan.effective_changes
    ]
    assert platform.deployments(author.namespace) == []
    assert "greeter" in pipeline.diff(author.request()).text


def test_a_changed_configuration_creates_a_revision(platform: Platform, author: Author) -> None:
    author.deploy("hello")
    request = replace(author.request(), overrides=Function(spec=Spec(description="Repeats")))
    verbs = {step.target: step.verb for step in pipeline.plan(request).changes}
    assert verbs["function greeter"] == "update"
    assert verbs["revision"] != "keep"
    assert pipeline.deploy(request, author.progress.append).revision == 2

    # An update changes the configuration only.
    overrides = Function(spec=Spec(description="newer"))
    update = pipeline.DeployRequest(name="greeter", namespace=author.namespace, overrides=overrides)
    deployment = pipeline.update(platform, update, author.progress.append)
    assert deployment.function.spec.description == "newer"
    assert author.invoke(deployment)["greeting"] == "hello"


def test_redeploys_and_rollbacks(platform: Platform, author: Author) -> None:
    first = author.deploy("one")
    second = author.deploy("two")
    assert second.http_port == first.http_port
    assert second.revision == 2
    assert author.invoke(second)["greeting"] == "two"
    author.deploy("three")

    rolled = platform.rollback(author.namespace, "greeter", None, author.progress.append)
    assert author.invoke(rolled)["greeting"] == "two"
    assert rolled.revision == 4
    assert "rollback to revision 2" in platform.revisions(author.namespace, "greeter")[0].message
    with pytest.raises(NotFoundError, match="99"):
        platform.rollback(author.namespace, "greeter", 99, author.progress.append)

    # A redeploy starts the recorded code again.
    author.write("never deployed")
    redeployed = platform.redeploy(author.namespace, "greeter", author.progress.append)
    assert redeployed.http_port == first.http_port
    assert author.invoke(redeployed)["greeting"] == "two"

    # A second rollback goes further back.
    rolled = platform.rollback(author.namespace, "greeter", None, author.progress.append)
    assert author.invoke(rolled)["greeting"] == "one"
    with pytest.raises(NotFoundError, match="served before"):
        platform.rollback(author.namespace, "greeter", None, author.progress.append)


def test_a_failed_build_releases_the_reservation(platform: Platform, author: Author) -> None:
    def fail(text: str) -> None:
        if text.startswith("staging"):
            raise BuildError("no space left")

    author.write("hello")
    with pytest.raises(BuildError, match="no space left"):
        pipeline.deploy(author.request(), fail)
    assert platform.deployments(author.namespace) == []
    assert not platform.delete(author.namespace, "greeter")
    with platform.reserve(pipeline.prepare(author.request()).function, author.progress.append):
        pass


def test_a_failed_revision_leaves_the_old_one_serving(platform: Platform, author: Author) -> None:
    first = author.deploy("hello")
    (author.folder / "main.py").write_text("import nowhere_to_be_found\n")
    with pytest.raises(NotReadyError) as failure:
        pipeline.deploy(author.request(), author.progress.append)
    assert "nowhere_to_be_found" in (failure.value.detail or "")
    assert author.invoke(first)["greeting"] == "hello"
    assert platform.deployment(author.namespace, "greeter").state == "ready"
    states = [revision.state for revision in platform.revisions(author.namespace, "greeter")]
    assert states == ["failed", "active"]


def test_a_failed_first_deploy_is_listed_with_its_reason(
    platform: Platform, author: Author
) -> None:
    (author.folder / "main.py").write_text("import nowhere_to_be_found\n")
    with pytest.raises(NotReadyError):
        pipeline.deploy(author.request(), author.progress.append)
    listed = platform.deployment(author.namespace, "greeter")
    assert listed.state == "error"
    assert "nowhere_to_be_found" in listed.message
    assert author.deploy("hello").state == "ready"


def test_projects_are_created_updated_and_deleted(platform: Platform, author: Author) -> None:
    assert [project.name for project in platform.projects(author.namespace)] == ["default"]
    assert platform.create_project(Project("cvat", author.namespace, "for annotators")) is True
    assert platform.create_project(Project("cvat", author.namespace)) is False
    with pytest.raises(UsageError, match="Street Cameras"):
        platform.create_project(Project("Street Cameras", author.namespace))
    assert [project.name for project in platform.projects(author.namespace)] == ["cvat", "default"]
    updated = Project(
        "cvat", author.namespace, "for all of us", "mia", {"team": "x"}, {"why": "ä b"}
    )
    assert platform.update_project(updated) is True
    assert updated in platform.projects(author.namespace)
    labelled = Project("born", author.namespace, labels={"team": "y"}, annotations={"why": "{}"})
    assert platform.create_project(labelled) is True
    assert platform.projects(author.namespace)[0] == labelled
    plain = Project("born", author.namespace)
    assert platform.update_project(plain) is True
    assert platform.projects(author.namespace)[0] == plain
    assert platform.delete_project(author.namespace, "born", cascade=False) is True
    assert platform.update_project(Project("nobodys", author.namespace)) is False
    author.deploy("hello")
    with pytest.raises(PreconditionError, match="cvat"):
        platform.delete_project(author.namespace, "cvat", cascade=False)
    assert platform.delete_project(author.namespace, "cvat", cascade=True) is True
    assert platform.deployments(author.namespace) == []
    assert platform.delete_project(author.namespace, "cvat", cascade=False) is False
    with pytest.raises(PreconditionError, match="default"):
        platform.delete_project(author.namespace, "default", cascade=False)
