"""What of a function is compared, and how it is handed over."""

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
    least = {"handler": "main:handler", "runtime": "python:3.11"}
    return with_defaults(
        function_from_dict({"metadata": metadata, "spec": {**least, **spec}}, "boxes")
    )


def stored(made: Function, artifact: Artifact = ARTIFACT, state: str = "ready") -> Raw:
    return {**deploy_config(made, artifact, 1), "status": {"state": state}}


class Far(DashboardClient):
    """A dashboard on another machine, which no test calls."""

    def __init__(self) -> None:
        super().__init__(DashboardAddress("http://nuclio.example:8070"))


def plan(made: Function, there: Raw | None, **options: Any) -> Plan:
    return make_plan(made, ARTIFACT, there, PlanOptions(**options), Far())


def verbs(made: Plan) -> dict[str, str]:
    return {step.target: step.verb for step in made.changes}


def test_what_nuclio_writes_in_its_own_way_is_no_difference() -> None:
    broker = {"kind": "kafka-cluster", "password": "swordfish", "attributes": {"topics": ["a"]}}
    made = function(
        resources={"limits": {"cpu": "1000m", "memory": "1Gi"}},
        triggers={"broker": broker},
        env=[{"name": "A", "value": "1"}],
    )
    there = stored(made)
    spec = there["spec"]
    spec["resources"] = {"limits": {"cpu": "1", "memory": "1024Mi"}, "requests": {"cpu": "25m"}}
    spec["triggers"]["broker"] |= {"password": "$ref:/spec/triggers/broker", "class": "async"}
    spec["env"].insert(0, {"name": "OF_THE_PLATFORM", "value": "1"})
    spec |= {"minReplicas": 1, "eventTimeout": "", "imageHash": "17", "version": -1}
    assert plan(made, there).effective_changes == ()


def test_secrets_count_and_are_not_shown() -> None:
    def of(password: str) -> Function:
        broker = {"kind": "kafka-cluster", "password": password, "attributes": {"topics": ["a"]}}
        return function(triggers={"broker": broker})

    changed = plan(of("swordfish"), stored(of("trout")))
    assert verbs(changed)["function boxes"] == "update"
    shown = json.dumps([[step.before, step.after] for step in changed.changes])
    shown += json.dumps(changed.manifests)
    assert "swordfish" not in shown
    assert "trout" not in shown
    assert deploy_config(of("swordfish"), ARTIFACT, 1)["spec"]["triggers"]["broker"]["password"]


def test_what_was_given_before_and_is_not_now_is_a_difference() -> None:
    there = stored(function(nodeSelector={"gpu": "true"}, eventTimeout="30s"))
    [step] = [change for change in plan(function(), there).changes if change.verb == "update"]
    assert step.before is not None
    assert step.before["spec"]["nodeSelector"] == {"gpu": "true"}
    assert step.after is not None
    assert "nodeSelector" not in step.after["spec"]


def test_of_what_others_deployed_everything_counts() -> None:
    made = function()
    there = stored(made)
    there["metadata"]["annotations"] = {}
    there["spec"]["priorityClassName"] = "high"
    [step] = [change for change in plan(made, there).changes if change.target == "function boxes"]
    assert (step.verb, (step.before or {})["spec"]["priorityClassName"]) == ("update", "high")


def test_what_others_wrote_may_be_odd() -> None:
    there = stored(function())
    there["spec"] |= {"env": "A=b", "build": "no", "triggers": ["http"], "resources": 3}
    assert verbs(plan(function(), there))["function boxes"] == "update"


def test_another_image_and_what_is_not_well_are_deployed() -> None:
    made = function()
    assert verbs(plan(made, None)) == {
        "function boxes": "create",
        "revision": "create",
        "rollout": "create",
    }
    older = Artifact("image", ARTIFACT.reference, "older", pinned=PINNED)
    changed = verbs(plan(made, stored(made, older)))
    assert changed == {"function boxes": "keep", "revision": "update", "rollout": "replace"}
    for state in ("error", "unhealthy", "imported"):
        again = verbs(plan(made, stored(made, state=state)))
        assert again == {"function boxes": "keep", "revision": "replace", "rollout": "replace"}
    assert verbs(plan(made, stored(made), force=True))["rollout"] == "replace"
    # An image that is yet to be built has no exact name.
    yet = Artifact("image", ARTIFACT.reference, "abc")
    assert make_plan(made, yet, stored(made), PlanOptions(), Far()).effective_changes == ()
    with pytest.raises(UsageError, match="listen"):
        plan(made, None, listen="docker")


def test_the_deployed_image_has_its_name_again() -> None:
    made = function()
    there = stored(made)
    exactly = Artifact("image", configuration_of(there).spec.image, "")
    same = make_plan(made, exactly, there, PlanOptions(), Far())
    assert same.effective_changes == ()
    assert same.artifact == ARTIFACT


def test_nuclio_keeps_the_labels_of_a_function() -> None:
    there = stored(function({"team": "a"}))
    changed = plan(function({"team": "b"}), there)
    assert changed.effective_changes == ()
    assert "team=a stays" in changed.warnings[0]


def test_the_image_and_its_registry() -> None:
    spec = deploy_config(function(), ARTIFACT, 1)["spec"]
    assert (spec["image"], spec["runRegistry"]) == (PINNED, "registry.example:5000")
    assert spec["imagePullPolicy"] == "IfNotPresent"
    inside = function(runRegistry="inside:5000/")
    spec = deploy_config(inside, Artifact("image", "registry.example:5000/boxes:1", ""), 1)["spec"]
    assert (spec["image"], spec["runRegistry"]) == ("inside:5000/boxes:1", "inside:5000")
    assert "imagePullPolicy" not in spec
    bare = Artifact("image", "boxes:1", "abc")
    assert "runRegistry" not in deploy_config(function(), bare, 1)["spec"]
    assert "in no registry" in make_plan(function(), bare, None, PlanOptions(), Far()).warnings[0]
    local = DashboardClient(DashboardAddress("http://[::1]:8070"))
    assert make_plan(function(), bare, None, PlanOptions(), local).warnings == ()


def test_what_was_handed_over_comes_back_as_it_was() -> None:
    made = function(env=[{"name": "A", "value": "it's"}], description="Finds boxes")
    there = stored(made)
    given = configuration_of(
        stored(function(imagePullPolicy="IfNotPresent", runRegistry="a.b"))
    ).spec
    assert (given.image_pull_policy, given.run_registry) == ("IfNotPresent", "a.b")
    there["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"] = "{}"
    shown = configuration_of(there)
    assert shown.spec.image == PINNED
    assert shown.spec.run_registry == shown.spec.image_pull_policy == ""
    assert [one.name for one in shown.spec.env] == ["A"]
    assert shown.metadata.annotations == {}
    [_, variable] = deploy_config(made, ARTIFACT, 1)["spec"]["env"]
    assert "'" not in variable["value"]
    assert json.loads(variable["value"])["handler"] == "main:handler"


def test_nothing_is_built() -> None:
    build = {"path": "/tmp/x", "image": "boxes", "functionSourceCode": "eA==", "baseImage": "a"}
    raw = deploy_config(function(build=build), ARTIFACT, 1)
    assert with_prebuilt_image(raw, exists=False)["spec"]["build"] == {
        "baseImage": "a",
        "codeEntryType": "image",
    }
    assert with_prebuilt_image(raw, exists=True)["spec"]["build"] == {**build, "mode": "neverBuild"}
    assert raw["spec"]["build"] == build


def test_a_manifest_for_git() -> None:
    [manifest] = plan(function({"team": "a"}), None).manifests
    assert manifest["apiVersion"] == "nuclio.io/v1beta1"
    assert manifest["metadata"]["labels"] == {"team": "a"}
    assert manifest["metadata"]["annotations"] == {}
    assert manifest["status"] == {"state": "waitingForResourceConfiguration"}
    assert manifest == plan(function({"team": "a"}), None).manifests[0]


def test_manifests_for_git_take_secrets_from_the_cluster() -> None:
    given = function({}, env=[{"name": "API_TOKEN", "value": "hidden"}])
    made = plan(given, None)
    assert "hidden" not in json.dumps(made.manifests)
    [said] = made.needs
    assert "kubectl create secret generic nuclio-" in said
    assert "--from-literal=API_TOKEN=…" in said


def test_an_import_waits() -> None:
    raw = import_config(function())
    assert raw["metadata"]["annotations"] == {"skip-build": "true", "skip-deploy": "true"}
    again = deploy_config(function_from_dict(raw, "boxes"), ARTIFACT, 1)
    assert "skip-deploy" not in again["metadata"]["annotations"]
