"""Functions of a Nuclio, managed through its dashboard."""

from __future__ import annotations

import pytest

from fnbuild.datadir import function_lock
from fnbuild.deploy import exports, pipeline
from fnbuild.errors import ConflictError, NotFoundError, NotReadyError, PreconditionError
from fnbuild.function.types import Function, Spec
from fnbuild.platforms import Artifact, LogOptions, Project
from fnbuild.platforms.base import FunctionKey
from fnbuild.platforms.nuclio import NuclioPlatform
from fnbuild.platforms.nuclio.function_config import SETTLED_STATES, nuclio_state_of
from tests.engine import until
from tests.platforms.nuclio.fake_nuclio import Nuclio, docker
from tests.platforms.nuclio.scenario import Scenario

pytestmark = pytest.mark.system


def test_a_function_is_deployed_changed_and_deleted(scenario: Scenario) -> None:
    function = scenario.function(env=[{"name": "GREETING", "value": "hello"}])
    deployment = scenario.deploy("one", function)
    assert (deployment.state, deployment.revision, deployment.replicas) == ("ready", 1, (1, 1))
    assert scenario.invoke(deployment, {"a": 1}) == {
        "word": "one",
        "greeting": "hello",
        "got": {"a": 1},
    }
    assert "created project cvat" in scenario.progress

    # Defaults of Nuclio are not a difference.
    assert scenario.plan("one", function).effective_changes == ()
    assert scenario.deploy("one", function).revision == 1
    assert scenario.progress[-1] == "nothing has changed, and the function runs"

    second = scenario.deploy("two", function)
    assert (second.revision, second.http_port) == (2, deployment.http_port)
    assert scenario.invoke(second)["word"] == "two"
    messages = [record.message for record in scenario.platform.logs(scenario.namespace, "greeter")]
    assert "the model is loaded" in messages
    assert any("the configuration is read from FNBUILD_PROCESSOR" in text for text in messages)

    redeployed = scenario.platform.redeploy(scenario.namespace, "greeter", scenario.progress.append)
    assert (redeployed.state, redeployed.revision) == ("ready", 2)
    assert scenario.invoke(redeployed)["word"] == "two"

    assert scenario.platform.delete(scenario.namespace, "greeter") is True
    assert scenario.platform.delete(scenario.namespace, "greeter") is False
    with pytest.raises(NotFoundError, match="greeter"):
        scenario.deployment()


def test_a_failed_deploy_is_reported_and_rolled_back(scenario: Scenario) -> None:
    first = scenario.deploy("one")
    with pytest.raises(NotReadyError) as failure:
        scenario.deploy("broken")
    assert "ModuleNotFoundError" in failure.value.message
    assert "revision 1 goes on serving" in failure.value.message
    assert "import nowhere_to_be_found" in (failure.value.detail or "")
    assert "rolling back to revision 1" in scenario.progress
    current = scenario.deployment()
    assert (current.state, current.revision, current.http_port) == ("ready", 1, first.http_port)
    assert scenario.invoke(current)["word"] == "one"

    with pytest.raises(NotReadyError, match="ModuleNotFoundError"):
        scenario.deploy("broken", keep_failed=True)
    current = scenario.deployment()
    assert (current.state in ("error", "unhealthy"), current.revision) == (True, 2)
    assert "nowhere_to_be_found" in current.message
    [only] = scenario.platform.revisions(scenario.namespace, "greeter")
    assert (only.number, only.state) == (2, "failed")


def test_an_update_changes_only_the_configuration(scenario: Scenario) -> None:
    scenario.deploy("one", scenario.function(env=[{"name": "GREETING", "value": "hello"}]))
    request = pipeline.DeployRequest(
        name="greeter",
        namespace=scenario.namespace,
        overrides=Function(spec=Spec(description="newer")),
    )
    deployment = pipeline.update(scenario.platform, request, scenario.progress.append)
    assert (deployment.revision, deployment.function.spec.description) == (2, "newer")
    assert deployment.function.spec.image == scenario.images["one"]
    assert scenario.invoke(deployment)["greeting"] == "hello"
    # A removed value is a difference as well.
    plan = scenario.plan("one", scenario.function())
    [step] = [change for change in plan.changes if change.target == "function greeter"]
    assert step.verb == "update"
    assert step.before is not None
    assert step.before["spec"]["env"] == {"GREETING": "hello"}
    assert step.before["spec"]["description"] == "newer"

    deployment = scenario.deploy("one", scenario.function(disable=True))
    assert (deployment.state, deployment.replicas) == ("standby", (0, 0))


def test_a_function_of_nuctl_is_listed_exported_and_updated(scenario: Scenario) -> None:
    code = "ZGVmIGhhbmRsZXIoYywgZSk6CiAgICByZXR1cm4gMQo="
    build = {"functionSourceCode": code, "codeEntryType": "sourceCode", "baseImage": "python:3.9"}
    scenario.add_foreign(
        "eyes", image=scenario.images["one"], build=build, description="Finds eyes"
    )
    scenario.add_foreign("malformed", resources="lots of them")
    scenario.deploy("one")
    deployments = scenario.platform.deployments(scenario.namespace)
    assert [deployment.name for deployment in deployments] == ["eyes", "greeter", "malformed"]
    eyes, _, malformed = deployments
    assert (eyes.state, eyes.revision, eyes.http_port) == ("ready", 0, 31999)
    assert eyes.details["deployed_by"] == "another client of Nuclio"
    assert eyes.function.metadata.annotations["framework"] == "opencv"
    assert (malformed.state, "resources" in malformed.message) == ("error", True)
    members = scenario.platform.deployments(scenario.namespace, "cvat")
    assert [deployment.name for deployment in members] == ["eyes", "greeter", "malformed"]
    assert scenario.platform.deployments(scenario.namespace, "another") == []

    exported = exports.export_configuration(eyes.function)
    assert exported["spec"]["image"] == scenario.images["one"]
    assert exported["spec"]["build"]["functionSourceCode"] == code
    assert "imageHash" not in exported["spec"]
    scenario.platform.delete(scenario.namespace, "eyes")
    imported = exports.import_function(scenario.platform, exported, scenario.namespace, "eyes.yaml")
    assert imported.state == "imported"
    assert imported.function.spec.build.function_source_code == code
    with pytest.raises(ConflictError, match="already"):
        exports.import_function(scenario.platform, exported, scenario.namespace, "eyes.yaml")

    # An update runs its image without a build, and its code is kept.
    deployment = pipeline.update(
        scenario.platform,
        pipeline.DeployRequest(name="eyes", namespace=scenario.namespace),
        scenario.progress.append,
    )
    assert (deployment.state, deployment.revision) == ("ready", 1)
    assert scenario.invoke(deployment)["word"] == "one"
    assert scenario.deployment("eyes").function.spec.build.function_source_code == code


def test_an_imported_function_runs_from_its_image(scenario: Scenario) -> None:
    scenario.platform.create_project(Project("cvat", scenario.namespace))
    spec = {"image": scenario.images["one"], "imagePullPolicy": "IfNotPresent"}
    scenario.platform.store_imported(scenario.function(**spec))
    with pytest.raises(PreconditionError, match="one revision"):
        scenario.platform.rollback(scenario.namespace, "greeter", None, print)
    deployment = scenario.platform.redeploy(scenario.namespace, "greeter", scenario.progress.append)
    assert deployment.state == "ready"
    scenario.platform.delete(scenario.namespace, "greeter")
    scenario.platform.store_imported(scenario.function())
    with pytest.raises(PreconditionError, match="no image"):
        scenario.platform.redeploy(scenario.namespace, "greeter", scenario.progress.append)


def test_a_deploy_of_another_client_is_a_conflict(scenario: Scenario) -> None:
    scenario.add_foreign("greeter", state="building", image=scenario.images["one"])
    assert scenario.deployment().state == "building"
    with pytest.raises(ConflictError, match="building") as failure:
        scenario.deploy("one")
    assert "fnbuild delete function greeter" in (failure.value.hint or "")
    with pytest.raises(ConflictError, match="building"):
        scenario.platform.redeploy(scenario.namespace, "greeter", print)
    assert scenario.platform.delete(scenario.namespace, "greeter") is True


def test_a_stale_state_after_a_deploy_is_ignored(scenario: Scenario) -> None:
    scenario.deploy("one")
    scenario.nuclio.stale_seconds = 4.0
    assert (scenario.deploy("two").revision, scenario.stored()["spec"]["image"]) == (
        2,
        scenario.images["two"],
    )


def test_concurrent_deploys_are_refused(scenario: Scenario) -> None:
    with (
        function_lock(f"nuclio@{scenario.namespace}", "greeter", "deployed"),
        pytest.raises(ConflictError, match="being deployed"),
    ):
        scenario.deploy("one")


def test_a_function_deleted_during_its_deploy_is_an_error(scenario: Scenario) -> None:
    scenario.platform.create_project(Project("cvat", scenario.namespace))

    def progress(text: str) -> None:
        if text.startswith("Nuclio "):
            scenario.platform.dashboard.delete(FunctionKey(scenario.namespace, "greeter"))

    with pytest.raises(ConflictError, match="another client deleted greeter"):
        scenario.platform.apply(scenario.plan("one"), progress)


def test_a_stale_version_is_not_replaced(scenario: Scenario) -> None:
    scenario.add_foreign("greeter", image=scenario.images["one"])
    stored = scenario.stored()
    old = {**stored, "metadata": {**stored["metadata"], "resourceVersion": "1"}}
    changed = {**stored, "spec": {**stored["spec"], "description": "newer"}}
    scenario.platform.dashboard.replace(stored, changed)
    until("the rollout", lambda: nuclio_state_of(scenario.stored()) in SETTLED_STATES)
    with pytest.raises(ConflictError):
        scenario.platform.dashboard.replace(old, stored)


def test_names_of_nuclio_components_are_refused(scenario: Scenario) -> None:
    with pytest.raises(PreconditionError, match="part of Nuclio"):
        scenario.plan("one", scenario.function("dashboard"))


def test_projects_are_changed_and_deleted(scenario: Scenario) -> None:
    def names() -> list[str]:
        return [project.name for project in scenario.platform.projects(scenario.namespace)]

    assert names() == ["default"]
    scenario.add_foreign("eyes", image=scenario.images["one"])
    assert names() == ["cvat", "default"]
    updated = Project("cvat", scenario.namespace, "all", "mia", {"team": "x"}, {"why": "ä b"})
    assert scenario.platform.update_project(updated) is True
    assert updated in scenario.platform.projects(scenario.namespace)
    with pytest.raises(PreconditionError, match="eyes"):
        scenario.platform.delete_project(scenario.namespace, "cvat", cascade=False)
    assert scenario.platform.delete_project(scenario.namespace, "cvat", cascade=True) is True
    assert scenario.platform.delete_project(scenario.namespace, "cvat", cascade=False) is False
    assert (names(), scenario.platform.deployments(scenario.namespace)) == (["default"], [])


def test_following_a_log_continues_in_the_next_container(scenario: Scenario) -> None:
    deployment = scenario.deploy("one")
    records = scenario.platform.logs(scenario.namespace, "greeter", LogOptions(follow=True))
    assert next(records)
    scenario.invoke(deployment)
    logged = next(record for record in records if record.message == "asked")
    assert logged.fields["pod"].startswith("nuclio-")
    # The next container is followed as well.
    redeployed = scenario.deploy("two")
    scenario.invoke(redeployed, "to the second")
    assert next(record for record in records if record.message == "asked")
    scenario.platform.delete(scenario.namespace, "greeter")
    assert all(record.message != "asked" for record in records)


def test_a_missing_image_is_an_error(scenario: Scenario) -> None:
    missing = Artifact("image", "127.0.0.1:1/nowhere:1", "", pinned="127.0.0.1:1/nowhere:1")
    function = scenario.function(readinessTimeoutSeconds=3)
    scenario.platform.create_project(Project("cvat", scenario.namespace))
    with pytest.raises(NotReadyError) as failure:
        scenario.platform.apply(scenario.platform.plan(function, missing), scenario.progress.append)
    assert "127.0.0.1:1" in failure.value.message


def test_the_registry_of_the_dashboard_prefixes_images(
    nuclio: Nuclio, platform: NuclioPlatform, namespace: str, images: dict[str, str]
) -> None:
    nuclio.run_registry = "registry.invalid"
    tagged = f"localhost/{images['one']}"
    docker("tag", images["one"], tagged)
    scenario = Scenario(platform, namespace, {"one": tagged}, nuclio)
    deployment = scenario.deploy("one")
    assert (deployment.state, deployment.function.spec.image) == ("ready", tagged)
