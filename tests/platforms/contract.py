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
from fnbuild.deploy import exports, pipeline
from fnbuild.errors import (
    BuildError,
    BusyError,
    NotFoundError,
    NotReadyError,
    PreconditionError,
    UsageError,
)
from fnbuild.function.types import Function, Spec
from fnbuild.platforms import Deployment, FunctionKey, LogOptions, Platform, Project
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
            request = urllib.request.Request(
                url, data=json.dumps(body).encode(), headers={"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=60) as reply:
                answer: dict[str, object] = json.load(reply)
        return answer


@pytest.fixture
def author(tmp_path: Path, platform: Platform, platform_name: str, namespace: str) -> Author:
    return Author(tmp_path / "greeter", platform, platform_name, namespace)


def test_a_deployed_function_answers_and_is_listed(platform: Platform, author: Author) -> None:
    deployment = author.deploy("hello")
    assert (deployment.state, deployment.revision, deployment.replicas) == ("ready", 1, (1, 1))
    assert author.invoke(deployment, {"a": 1}) == {"greeting": "hello", "got": {"a": 1}}

    [listed] = platform.deployments(author.namespace)
    assert listed.name == "greeter"
    assert listed.http_port == deployment.http_port
    assert listed.function.metadata.annotations["type"] == "detector"
    assert listed.function.metadata.labels[names.PROJECT_LABEL] == "cvat"
    assert listed.function.spec.description == "Repeats its input"
    assert platform.deployment(author.namespace, "greeter").state == "ready"
    assert platform.deployments(author.namespace, "another") == []
    assert "created project cvat" in author.progress


def test_a_plan_changes_nothing(platform: Platform, author: Author) -> None:
    author.write("hello")
    plan = pipeline.plan(author.request())
    assert plan.effective_changes
    assert ("create", "project cvat") in [
        (step.verb, step.target) for step in plan.effective_changes
    ]
    assert platform.deployments(author.namespace) == []
    assert "greeter" in pipeline.diff(author.request()).text


def test_diff_is_empty_without_changes(platform: Platform, author: Author) -> None:
    author.deploy("hello")
    assert pipeline.plan(author.request()).effective_changes == ()
    assert pipeline.diff(author.request()).text == ""
    author.write("goodbye")
    assert pipeline.diff(author.request()).text != ""


def test_a_second_deploy_is_refused_before_anything_is_built(
    platform: Platform, author: Author
) -> None:
    author.write("hello")
    function = pipeline.prepare(author.request()).function
    with platform.reserve(function, author.progress.append):
        author.progress.clear()
        with pytest.raises(BusyError, match="greeter is being deployed"):
            pipeline.deploy(author.request(), author.progress.append)
        assert author.progress == []
    assert platform.deployments(author.namespace) == []
    assert author.deploy("hello").revision == 1


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


def test_a_changed_configuration_creates_a_revision(platform: Platform, author: Author) -> None:
    author.deploy("hello")
    request = replace(author.request(), overrides=Function(spec=Spec(description="Repeats")))
    verbs = {step.target: step.verb for step in pipeline.plan(request).changes}
    assert verbs["function greeter"] == "update"
    assert verbs["revision"] != "keep"
    assert pipeline.deploy(request, author.progress.append).revision == 2


def test_a_redeploy_keeps_the_port(platform: Platform, author: Author) -> None:
    first = author.deploy("hello")
    second = author.deploy("goodbye")
    assert second.http_port == first.http_port
    assert second.revision == 2
    assert author.invoke(second)["greeting"] == "goodbye"


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


def test_rollback_runs_the_previous_revision(platform: Platform, author: Author) -> None:
    author.deploy("hello")
    author.deploy("goodbye")
    rolled = platform.rollback(author.namespace, "greeter", None, author.progress.append)
    assert author.invoke(rolled)["greeting"] == "hello"
    assert rolled.revision == 3
    assert "rollback to revision 1" in platform.revisions(author.namespace, "greeter")[0].message
    with pytest.raises(NotFoundError, match="99"):
        platform.rollback(author.namespace, "greeter", 99, author.progress.append)


def test_a_second_rollback_goes_further_back(platform: Platform, author: Author) -> None:
    for word in ("one", "two", "three"):
        author.deploy(word)

    def roll_back() -> object:
        deployment = platform.rollback(author.namespace, "greeter", None, author.progress.append)
        return author.invoke(deployment)["greeting"]

    assert roll_back() == "two"
    platform.redeploy(author.namespace, "greeter", author.progress.append)
    assert roll_back() == "one"
    with pytest.raises(NotFoundError, match="served before"):
        roll_back()
    # A new deploy is the starting point of the next rollback.
    author.deploy("four")
    assert roll_back() == "one"


def test_a_healthy_platform_reports_no_problems(platform: Platform, author: Author) -> None:
    assert platform.problems() == []
    author.deploy("hello")
    assert platform.problems() == []


def test_redeploy_starts_the_recorded_code_again(platform: Platform, author: Author) -> None:
    first = author.deploy("hello")
    author.write("never deployed")
    redeployed = platform.redeploy(author.namespace, "greeter", author.progress.append)
    assert redeployed.http_port == first.http_port
    assert author.invoke(redeployed)["greeting"] == "hello"


def test_a_deployment_describes_the_image_for_later_deploys(
    platform: Platform, author: Author
) -> None:
    deployed = author.deploy("hello")
    assert [deployment.image for deployment in platform.deployments(author.namespace)] == [
        deployed.image
    ]
    assert not deployed.foreground
    if platform.artifact_kind == "folder":
        assert deployed.image is None
        return
    assert deployed.image is not None
    assert deployed.function.spec.image in (deployed.image.reference, deployed.pinned_image)
    assert len(deployed.image.digest) == 64
    assert deployed.pinned_image if platform.pulls_images else deployed.image.id


def test_a_deployment_reports_its_workers(platform: Platform, author: Author) -> None:
    deployment = author.deploy("hello")
    reported = platform.statistics(deployment).values()
    assert (
        len(deployment.workers) or sum(sum(statistics.workers.values()) for statistics in reported)
    ) == 1


def test_the_recorded_code_is_kept(platform: Platform, author: Author) -> None:
    author.deploy("hello")
    folder = platform.code_folder(author.namespace, "greeter")
    assert folder is not None
    assert (folder / "function.yaml").read_text() == author.config
    assert "hello" in (folder / "main.py").read_text()


def test_restore_leaves_a_running_function_alone(platform: Platform, author: Author) -> None:
    deployment = author.deploy("hello")
    key = FunctionKey(author.namespace, "greeter")
    assert key not in platform.functions_to_restore()
    assert platform.restore(author.progress.append, key) in ((), ("greeter",))
    current = platform.deployment(author.namespace, "greeter")
    assert (current.revision, current.http_port) == (deployment.revision, deployment.http_port)
    assert author.invoke(deployment)["greeting"] == "hello"


def test_update_changes_the_configuration_only(platform: Platform, author: Author) -> None:
    author.deploy("hello")
    overrides = Function(spec=Spec(description="newer"))
    request = pipeline.DeployRequest(
        name="greeter", namespace=author.namespace, overrides=overrides
    )
    deployment = pipeline.update(platform, request, author.progress.append)
    assert deployment.function.spec.description == "newer"
    assert author.invoke(deployment)["greeting"] == "hello"


def test_logs_contain_the_messages_of_the_handler(platform: Platform, author: Author) -> None:
    author.deploy("hello")

    def is_logged() -> bool:
        records = platform.logs(author.namespace, "greeter")
        return "the model is loaded" in [record.message for record in records]

    until("the message in the log", is_logged)


def test_replicas_have_names(platform: Platform, author: Author) -> None:
    author.deploy("hello")
    [name] = platform.replica_names(author.namespace, "greeter")
    assert name


def test_processors_report_statistics(platform: Platform, author: Author) -> None:
    deployment = author.deploy("hello")
    [before] = platform.statistics(deployment).values()
    assert (before.requests, before.errors) == (0, 0)
    for _ in range(3):
        author.invoke(deployment)
    [after] = platform.statistics(deployment).values()
    assert (after.requests, after.errors, after.restarts) == (3, 0, 0)
    assert after.durations[-1] == (math.inf, 3)
    assert sum(after.workers.values()) == 1


def test_following_a_log_ends_on_request(platform: Platform, author: Author) -> None:
    author.deploy("hello")
    ended, seen = threading.Event(), threading.Event()

    def follow() -> None:
        records = platform.logs(author.namespace, "greeter", LogOptions(follow=True, stop=ended))
        for record in records:
            if record.message == "the model is loaded":
                seen.set()

    thread = threading.Thread(target=follow)
    thread.start()
    assert seen.wait(60)
    ended.set()
    thread.join(60)
    assert not thread.is_alive()


def test_delete_removes_the_function(platform: Platform, author: Author) -> None:
    author.deploy("hello")
    assert platform.delete(author.namespace, "greeter") is True
    assert platform.delete(author.namespace, "greeter") is False
    assert platform.deployments(author.namespace) == []
    for read in _readers(platform, author.namespace):
        with pytest.raises(NotFoundError, match="greeter"):
            read()


def _readers(platform: Platform, namespace: str) -> list[Callable[[], object]]:
    return [
        lambda: platform.deployment(namespace, "greeter"),
        lambda: platform.revisions(namespace, "greeter"),
        lambda: list(platform.logs(namespace, "greeter")),
        lambda: platform.replica_names(namespace, "greeter"),
        lambda: platform.redeploy(namespace, "greeter", print),
    ]


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


def test_an_imported_function_waits_for_its_first_deploy(
    platform: Platform, author: Author
) -> None:
    author.deploy("hello")
    exported = exports.export_configuration(
        platform.deployment(author.namespace, "greeter").function
    )
    assert exported["metadata"]["annotations"]["skip-deploy"] == "true"
    platform.delete(author.namespace, "greeter")
    imported = exports.import_function(platform, exported, author.namespace, "greeter.yaml")
    assert imported.state == "imported"
    assert platform.deployment(author.namespace, "greeter").state == "imported"
    assert author.deploy("hello").state == "ready"
