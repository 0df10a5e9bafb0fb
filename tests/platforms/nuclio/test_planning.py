"""Plans for functions of Nuclio, and the objects that are sent to it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fnbuild.errors import UsageError
from fnbuild.function.reader import function_from_dict
from fnbuild.function.rules import with_defaults
from fnbuild.function.types import Function
from fnbuild.platforms import Artifact, Plan, PlanOptions
from fnbuild.platforms.nuclio.client import DashboardClient
from fnbuild.platforms.nuclio.function_config import (
    deploy_config,
    import_config,
    with_prebuilt_image,
)
from fnbuild.platforms.nuclio.function_state import configuration_of
from fnbuild.platforms.nuclio.planning import make_plan
from fnbuild.platforms.nuclio.transport import DashboardAddress

Raw = dict[str, Any]

PINNED = "registry.example:5000/boxes@sha256:" + "0" * 64
ARTIFACT = Artifact("image", "registry.example:5000/boxes:1", "abc", pinned=PINNED)


def function(labels: Raw | None = None, **spec: Any) -> Function:
    metadata = {"name": "boxes", "namespace": "nuclio", "labels": labels or {}}
    minimal = {"handler": "main:handler", "runtime": "python:3.11"}
    return with_defaults(
        function_from_dict({"metadata": metadata, "spec": {**minimal, **spec}}, "boxes")
    )


def stored(function: Function, artifact: Artifact = ARTIFACT, state: str = "ready") -> Raw:
    return {**deploy_config(function, artifact, 1), "status": {"state": state}}


class RemoteDashboard(DashboardClient):
    """A dashboard on another machine, which is never called."""

    def __init__(self) -> None:
        super().__init__(DashboardAddress("http://nuclio.example:8070"))


def plan(planned: Function, live: Raw | None, **options: Any) -> Plan:
    return make_plan(planned, ARTIFACT, live, PlanOptions(**options), RemoteDashboard())


def verbs(changed: Plan) -> dict[str, str]:
    return {change.target: change.verb for change in changed.changes}


def test_equivalent_values_of_nuclio_are_not_a_difference() -> None:
    broker = {"kind": "kafka-cluster", "password": "swordfish", "attributes": {"topics": ["a"]}}
    planned = function(
        resources={"limits": {"cpu": "1000m", "memory": "1Gi"}},
        triggers={"broker": broker},
        env=[{"name": "A", "value": "1"}],
    )
    live = stored(planned)
    spec = live["spec"]
    spec["resources"] = {"limits": {"cpu": "1", "memory": "1024Mi"}, "requests": {"cpu": "25m"}}
    spec["triggers"]["broker"] |= {"password": "$ref:/spec/triggers/broker", "class": "async"}
    spec["env"].insert(0, {"name": "OF_THE_PLATFORM", "value": "1"})
    spec |= {"minReplicas": 1, "eventTimeout": "", "imageHash": "17", "version": -1}
    assert plan(planned, live).effective_changes == ()


def test_changed_secrets_are_a_difference_and_not_shown() -> None:
    def with_password(password: str) -> Function:
        broker = {"kind": "kafka-cluster", "password": password, "attributes": {"topics": ["a"]}}
        return function(triggers={"broker": broker})

    changed = plan(with_password("swordfish"), stored(with_password("trout")))
    assert verbs(changed)["function boxes"] == "update"
    text = json.dumps([[step.before, step.after] for step in changed.changes])
    text += json.dumps(changed.manifests)
    assert "swordfish" not in text
    assert "trout" not in text
    assert deploy_config(with_password("swordfish"), ARTIFACT, 1)["spec"]["triggers"]["broker"][
        "password"
    ]


def test_removed_values_are_a_difference() -> None:
    live = stored(function(nodeSelector={"gpu": "true"}, eventTimeout="30s"))
    [step] = [change for change in plan(function(), live).changes if change.verb == "update"]
    assert step.before is not None
    assert step.before["spec"]["nodeSelector"] == {"gpu": "true"}
    assert step.after is not None
    assert "nodeSelector" not in step.after["spec"]


def test_all_values_of_foreign_functions_are_compared() -> None:
    planned = function()
    live = stored(planned)
    live["metadata"]["annotations"] = {}
    live["spec"]["priorityClassName"] = "high"
    [step] = [change for change in plan(planned, live).changes if change.target == "function boxes"]
    assert (step.verb, (step.before or {})["spec"]["priorityClassName"]) == ("update", "high")


def test_malformed_foreign_functions_are_updated() -> None:
    live = stored(function())
    live["spec"] |= {"env": "A=b", "build": "no", "triggers": ["http"], "resources": 3}
    assert verbs(plan(function(), live))["function boxes"] == "update"


def test_changed_images_and_unhealthy_functions_are_deployed() -> None:
    planned = function()
    assert verbs(plan(planned, None)) == {
        "function boxes": "create",
        "revision": "create",
        "rollout": "create",
    }
    older = Artifact("image", ARTIFACT.reference, "older", pinned=PINNED)
    changed = verbs(plan(planned, stored(planned, older)))
    assert changed == {"function boxes": "keep", "revision": "update", "rollout": "replace"}
    for state in ("error", "unhealthy", "imported"):
        repeated = verbs(plan(planned, stored(planned, state=state)))
        assert repeated == {"function boxes": "keep", "revision": "replace", "rollout": "replace"}
    assert verbs(plan(planned, stored(planned), force=True))["rollout"] == "replace"
    # An image without a build has no digest yet.
    unbuilt = Artifact("image", ARTIFACT.reference, "abc")
    assert (
        make_plan(
            planned, unbuilt, stored(planned), PlanOptions(), RemoteDashboard()
        ).effective_changes
        == ()
    )
    with pytest.raises(UsageError, match="listen"):
        plan(planned, None, listen="docker")


def test_the_digest_of_the_deployed_image_is_its_artifact() -> None:
    planned = function()
    live = stored(planned)
    exactly = Artifact("image", configuration_of(live).spec.image, "")
    same = make_plan(planned, exactly, live, PlanOptions(), RemoteDashboard())
    assert same.effective_changes == ()
    assert same.artifact == ARTIFACT


def test_changed_labels_are_a_warning() -> None:
    live = stored(function({"team": "a"}))
    changed = plan(function({"team": "b"}), live)
    assert changed.effective_changes == ()
    assert "team=a stays" in changed.warnings[0]


def test_the_run_registry_follows_the_image() -> None:
    spec = deploy_config(function(), ARTIFACT, 1)["spec"]
    assert (spec["image"], spec["runRegistry"]) == (PINNED, "registry.example:5000")
    assert spec["imagePullPolicy"] == "IfNotPresent"
    inside = function(runRegistry="inside:5000/")
    spec = deploy_config(inside, Artifact("image", "registry.example:5000/boxes:1", ""), 1)["spec"]
    assert (spec["image"], spec["runRegistry"]) == ("inside:5000/boxes:1", "inside:5000")
    assert "imagePullPolicy" not in spec
    unpushed = Artifact("image", "boxes:1", "abc")
    assert "runRegistry" not in deploy_config(function(), unpushed, 1)["spec"]
    assert (
        "in no registry"
        in make_plan(function(), unpushed, None, PlanOptions(), RemoteDashboard()).warnings[0]
    )
    local = DashboardClient(DashboardAddress("http://[::1]:8070"))
    assert make_plan(function(), unpushed, None, PlanOptions(), local).warnings == ()


def test_a_deployed_configuration_is_read_back() -> None:
    planned = function(env=[{"name": "A", "value": "it's"}], description="Finds boxes")
    live = stored(planned)
    explicit = configuration_of(
        stored(function(imagePullPolicy="IfNotPresent", runRegistry="a.b"))
    ).spec
    assert (explicit.image_pull_policy, explicit.run_registry) == ("IfNotPresent", "a.b")
    live["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"] = "{}"
    restored = configuration_of(live)
    assert restored.spec.image == PINNED
    assert restored.spec.run_registry == restored.spec.image_pull_policy == ""
    assert [variable.name for variable in restored.spec.env] == ["A"]
    assert restored.metadata.annotations == {}
    [_, variable] = deploy_config(planned, ARTIFACT, 1)["spec"]["env"]
    assert "'" not in variable["value"]
    assert json.loads(variable["value"])["handler"] == "main:handler"


def test_builds_are_disabled() -> None:
    build = {"path": "/tmp/x", "image": "boxes", "functionSourceCode": "eA==", "baseImage": "a"}
    raw = deploy_config(function(build=build), ARTIFACT, 1)
    assert with_prebuilt_image(raw, exists=False)["spec"]["build"] == {
        "baseImage": "a",
        "codeEntryType": "image",
    }
    assert with_prebuilt_image(raw, exists=True)["spec"]["build"] == {**build, "mode": "neverBuild"}
    assert raw["spec"]["build"] == build


def test_manifests_for_git_are_stable() -> None:
    [manifest] = plan(function({"team": "a"}), None).manifests
    assert manifest["apiVersion"] == "nuclio.io/v1beta1"
    assert manifest["metadata"]["labels"] == {"team": "a"}
    assert manifest["metadata"]["annotations"] == {}
    assert manifest["status"] == {"state": "waitingForResourceConfiguration"}
    assert manifest == plan(function({"team": "a"}), None).manifests[0]


def test_manifests_for_git_reference_secrets() -> None:
    planned = function({}, env=[{"name": "API_TOKEN", "value": "hidden"}])
    result = plan(planned, None)
    assert "hidden" not in json.dumps(result.manifests)
    [requirement] = result.prerequisites
    assert "kubectl create secret generic nuclio-" in requirement
    assert "--from-literal=API_TOKEN=…" in requirement


def test_an_import_is_not_deployed() -> None:
    raw = import_config(function())
    assert raw["metadata"]["annotations"] == {"skip-build": "true", "skip-deploy": "true"}
    deployed = deploy_config(function_from_dict(raw, "boxes"), ARTIFACT, 1)
    assert "skip-deploy" not in deployed["metadata"]["annotations"]


def test_a_function_that_serves_grpc_has_a_warning() -> None:
    triggers = {"web": {"kind": "http", "attributes": {"protocols": ["v2", "grpc"]}}}
    (warning,) = plan(function(triggers=triggers), None).warnings
    assert warning.startswith("gRPC cannot be reached: Nuclio publishes one port")
    assert plan(function(), None).warnings == ()


def test_authentication_is_left_to_nuclio() -> None:
    basic = {"username": "cvat", "password": "correct-horse"}
    attributes = {"authenticationMode": "basicAuth", "authentication": {"basicAuth": basic}}
    closed = function(triggers={"web": {"kind": "http", "attributes": attributes}})
    (warning,) = plan(closed, None).warnings
    assert "before 1.17" in warning
    sent = deploy_config(closed, ARTIFACT, 1)["spec"]
    assert sent["triggers"]["web"]["attributes"] == attributes
    # The processor in the image asks for nothing itself.
    assert "basicAuth" not in str(sent["env"])
