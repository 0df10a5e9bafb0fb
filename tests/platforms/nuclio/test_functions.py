"""Functions of a Nuclio, managed through its dashboard."""

from __future__ import annotations

import pytest

from fnbuild.datadir import function_lock
from fnbuild.deploy import exports, pipeline
from fnbuild.errors import ConflictError, NotFoundError, NotReadyError, PreconditionError
from fnbuild.function.types import Function, Spec
from fnbuild.platforms import Artifact, Project
from fnbuild.platforms.base import FunctionKey
from fnbuild.platforms.nuclio import NuclioPlatform
from fnbuild.platforms.nuclio.function_config import SETTLED_STATES, state_of
from tests.engine import until
from tests.platforms.nuclio.fake_nuclio import Nuclio, docker
from tests.platforms.nuclio.scenario import World

pytestmark = pytest.mark.system


def test_a_function_is_deployed_changed_and_deleted(world: World) -> None:
    function = world.function(env=[{"name": "GREETING", "value": "hello"}])
    deployment = world.deploy("one", function)
    assert (deployment.state, deployment.revision, deployment.replicas) == ("ready", 1, (1, 1))
    assert world.invoke(deployment, {"a": 1}) == {
        "word": "one",
        "greeting": "hello",
        "got": {"a": 1},
    }
    assert "created project cvat" in world.progress

    # Defaults of Nuclio are not a difference.
    assert world.plan("one", function).effective_changes == ()
    assert world.deploy("one", function).revision == 1
    assert world.progress[-1] == "nothing has changed, and the function runs"

    second = world.deploy("two", function)
    assert (second.revision, second.http_port) == (2, deployment.http_port)
    assert world.invoke(second)["word"] == "two"
    messages = [record.message for record in world.platform.logs(world.namespace, "greeter")]
    assert "the model is loaded" in messages
    assert any("the configuration is read from FNBUILD_PROCESSOR" in text for text in messages)

    redeployed = world.platform.redeploy(world.namespace, "greeter", world.progress.append)
    assert (redeployed.state, redeployed.revision) == ("ready", 2)
    assert world.invoke(redeployed)["word"] == "two"

    assert world.platform.delete(world.namespace, "greeter") is True
    assert world.platform.delete(world.namespace, "greeter") is False
    with pytest.raises(NotFoundError, match="greeter"):
        world.deployment()


def test_a_failed_deploy_is_reported_and_rolled_back(world: World) -> None:
    first = world.deploy("one")
    with pytest.raises(NotReadyError) as failure:
        world.deploy("broken")
    assert "ModuleNotFoundError" in failure.value.message
    assert "revision 1 goes on serving" in failure.value.message
    assert "import nowhere_to_be_found" in (failure.value.detail or "")
    assert "rolling back to revision 1" in world.progress
    current = world.deployment()
    assert (current.state, current.revision, current.http_port) == ("ready", 1, first.http_port)
    assert world.invoke(current)["word"] == "one"

    with pytest.raises(NotReadyError, match="ModuleNotFoundError"):
        world.deploy("broken", keep_failed=True)
    current = world.deployment()
    assert (current.state in ("error", "unhealthy"), current.revision) == (True, 2)
    assert "nowhere_to_be_found" in current.message
    [only] = world.platform.revisions(world.namespace, "greeter")
    assert (only.number, only.state) == (2, "failed")


def test_an_update_changes_only_the_configuration(world: World) -> None:
    world.deploy("one", world.function(env=[{"name": "GREETING", "value": "hello"}]))
    request = pipeline.DeployRequest(
        name="greeter",
        namespace=world.namespace,
        overrides=Function(spec=Spec(description="newer")),
    )
    deployment = pipeline.update(world.platform, request, world.progress.append)
    assert (deployment.revision, deployment.function.spec.description) == (2, "newer")
    assert deployment.function.spec.image == world.images["one"]
    assert world.invoke(deployment)["greeting"] == "hello"
    # A removed value is a difference as well.
    plan = world.plan("one", world.function())
    [step] = [change for change in plan.changes if change.target == "function greeter"]
    assert step.verb == "update"
    assert step.before is not None
    assert step.before["spec"]["env"] == {"GREETING": "hello"}
    assert step.before["spec"]["description"] == "newer"

    deployment = world.deploy("one", world.function(disable=True))
    assert (deployment.state, deployment.replicas) == ("standby", (0, 0))


def test_a_function_of_nuctl_is_listed_exported_and_updated(world: World) -> None:
    code = "ZGVmIGhhbmRsZXIoYywgZSk6CiAgICByZXR1cm4gMQo="
    build = {"functionSourceCode": code, "codeEntryType": "sourceCode", "baseImage": "python:3.9"}
    world.add_foreign("eyes", image=world.images["one"], build=build, description="Finds eyes")
    world.add_foreign("malformed", resources="lots of them")
    world.deploy("one")
    deployments = world.platform.deployments(world.namespace)
    assert [deployment.name for deployment in deployments] == ["eyes", "greeter", "malformed"]
    eyes, _, malformed = deployments
    assert (eyes.state, eyes.revision, eyes.http_port) == ("ready", 0, 31999)
    assert eyes.details["deployed_by"] == "another client of Nuclio"
    assert eyes.function.metadata.annotations["framework"] == "opencv"
    assert (malformed.state, "resources" in malformed.message) == ("error", True)
    members = world.platform.deployments(world.namespace, "cvat")
    assert [deployment.name for deployment in members] == ["eyes", "greeter", "malformed"]
    assert world.platform.deployments(world.namespace, "another") == []

    exported = exports.export_configuration(eyes.function)
    assert exported["spec"]["image"] == world.images["one"]
    assert exported["spec"]["build"]["functionSourceCode"] == code
    assert "imageHash" not in exported["spec"]
    world.platform.delete(world.namespace, "eyes")
    imported = exports.import_function(world.platform, exported, world.namespace, "eyes.yaml")
    assert imported.state == "imported"
    assert imported.function.spec.build.function_source_code == code
    with pytest.raises(ConflictError, match="already"):
        exports.import_function(world.platform, exported, world.namespace, "eyes.yaml")

    # An update runs its image without a build, and its code is kept.
    deployment = pipeline.update(
        world.platform,
        pipeline.DeployRequest(name="eyes", namespace=world.namespace),
        world.progress.append,
    )
    assert (deployment.state, deployment.revision) == ("ready", 1)
    assert world.invoke(deployment)["word"] == "one"
    assert world.deployment("eyes").function.spec.build.function_source_code == code


def test_an_imported_function_runs_from_its_image(world: World) -> None:
    world.platform.create_project(Project("cvat", world.namespace))
    spec = {"image": world.images["one"], "imagePullPolicy": "IfNotPresent"}
    world.platform.store_imported(world.function(**spec))
    with pytest.raises(PreconditionError, match="one revision"):
        world.platform.rollback(world.namespace, "greeter", None, print)
    deployment = world.platform.redeploy(world.namespace, "greeter", world.progress.append)
    assert deployment.state == "ready"
    world.platform.delete(world.namespace, "greeter")
    world.platform.store_imported(world.function())
    with pytest.raises(PreconditionError, match="no image"):
        world.platform.redeploy(world.namespace, "greeter", world.progress.append)


def test_a_deploy_of_another_client_is_a_conflict(world: World) -> None:
    world.add_foreign("greeter", state="building", image=world.images["one"])
    assert world.deployment().state == "building"
    with pytest.raises(ConflictError, match="building") as failure:
        world.deploy("one")
    assert "fnbuild delete function greeter" in (failure.value.hint or "")
    with pytest.raises(ConflictError, match="building"):
        world.platform.redeploy(world.namespace, "greeter", print)
    assert world.platform.delete(world.namespace, "greeter") is True


def test_a_stale_state_after_a_deploy_is_ignored(world: World) -> None:
    world.deploy("one")
    world.nuclio.stale_seconds = 4.0
    assert (world.deploy("two").revision, world.stored()["spec"]["image"]) == (
        2,
        world.images["two"],
    )


def test_concurrent_deploys_are_refused(world: World) -> None:
    with (
        function_lock(f"nuclio@{world.namespace}", "greeter", "deployed"),
        pytest.raises(ConflictError, match="being deployed"),
    ):
        world.deploy("one")


def test_a_function_deleted_during_its_deploy_is_an_error(world: World) -> None:
    world.platform.create_project(Project("cvat", world.namespace))

    def progress(text: str) -> None:
        if text.startswith("Nuclio "):
            world.platform.dashboard.delete(FunctionKey(world.namespace, "greeter"))

    with pytest.raises(ConflictError, match="another client deleted greeter"):
        world.platform.apply(world.plan("one"), progress)


def test_a_stale_version_is_not_replaced(world: World) -> None:
    world.add_foreign("greeter", image=world.images["one"])
    stored = world.stored()
    old = {**stored, "metadata": {**stored["metadata"], "resourceVersion": "1"}}
    changed = {**stored, "spec": {**stored["spec"], "description": "newer"}}
    world.platform.dashboard.replace(stored, changed)
    until("the rollout", lambda: state_of(world.stored()) in SETTLED_STATES)
    with pytest.raises(ConflictError):
        world.platform.dashboard.replace(old, stored)


def test_names_of_nuclio_components_are_refused(world: World) -> None:
    with pytest.raises(PreconditionError, match="part of Nuclio"):
        world.plan("one", world.function("dashboard"))


def test_projects_are_changed_and_deleted(world: World) -> None:
    def names() -> list[str]:
        return [project.name for project in world.platform.projects(world.namespace)]

    assert names() == ["default"]
    world.add_foreign("eyes", image=world.images["one"])
    assert names() == ["cvat", "default"]
    updated = Project("cvat", world.namespace, "all", "mia", {"team": "x"}, {"why": "ä b"})
    assert world.platform.update_project(updated) is True
    assert updated in world.platform.projects(world.namespace)
    with pytest.raises(PreconditionError, match="eyes"):
        world.platform.delete_project(world.namespace, "cvat", cascade=False)
    assert world.platform.delete_project(world.namespace, "cvat", cascade=True) is True
    assert world.platform.delete_project(world.namespace, "cvat", cascade=False) is False
    assert (names(), world.platform.deployments(world.namespace)) == (["default"], [])


def test_following_a_log_continues_in_the_next_container(world: World) -> None:
    deployment = world.deploy("one")
    records = world.platform.logs(world.namespace, "greeter", follow=True)
    assert next(records)
    world.invoke(deployment)
    logged = next(record for record in records if record.message == "asked")
    assert logged.fields["pod"].startswith("nuclio-")
    # The next container is followed as well.
    redeployed = world.deploy("two")
    world.invoke(redeployed, "to the second")
    assert next(record for record in records if record.message == "asked")
    world.platform.delete(world.namespace, "greeter")
    assert all(record.message != "asked" for record in records)


def test_a_missing_image_is_an_error(world: World) -> None:
    missing = Artifact("image", "127.0.0.1:1/nowhere:1", "", pinned="127.0.0.1:1/nowhere:1")
    function = world.function(readinessTimeoutSeconds=3)
    world.platform.create_project(Project("cvat", world.namespace))
    with pytest.raises(NotReadyError) as failure:
        world.platform.apply(world.platform.plan(function, missing), world.progress.append)
    assert "127.0.0.1:1" in failure.value.message


def test_the_registry_of_the_dashboard_prefixes_images(
    nuclio: Nuclio, platform: NuclioPlatform, namespace: str, images: dict[str, str]
) -> None:
    nuclio.run_registry = "registry.invalid"
    tagged = f"localhost/{images['one']}"
    docker("tag", images["one"], tagged)
    world = World(platform, namespace, {"one": tagged}, nuclio)
    deployment = world.deploy("one")
    assert (deployment.state, deployment.function.spec.image) == ("ready", tagged)
