"""Plans of deploys, based on the cluster's dry runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fnbuild.errors import ConflictError, ForbiddenError, InputError, NotFoundError, UsageError
from fnbuild.function.types import Raw
from fnbuild.platforms import Artifact, Deployment, Plan
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.errors import FieldConflictError
from fnbuild.platforms.kubeclient.transport import ApiRequest
from fnbuild.platforms.kubernetes import KubernetesPlatform
from fnbuild.platforms.kubernetes.rollout.planning import without_server_fields
from tests.cluster import MERGE, invoke, kubeconfig_of, node_address
from tests.platforms.kubernetes.author import Author, function_of

pytestmark = pytest.mark.system

READ = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list", "watch"]}


def verbs(plan: Plan) -> dict[str, str]:
    return {step.target: step.verb for step in plan.changes}


def test_a_first_deploy_creates_all_objects(author: Author, image: str) -> None:
    plan = author.plan(image)
    assert verbs(plan) == {
        "function greeter": "create",
        "revision": "create",
        "service nuclio-greeter": "create",
        "deployment nuclio-greeter": "create",
    }
    [deployment] = [
        change for change in plan.changes if change.target == "deployment nuclio-greeter"
    ]
    assert deployment.after is not None
    assert "status" not in deployment.after
    assert not {"uid", "managedFields", "generation"} & deployment.after["metadata"].keys()
    assert author.platform.deployments(author.namespace) == []
    live_object = author.platform.cluster.get(kinds.CONFIG_MAP, author.namespace, "nuclio-greeter")
    assert live_object is None


def test_a_plan_keeps_updates_and_deletes_objects(author: Author, image: str) -> None:
    scaled: Raw = {"minReplicas": 1, "maxReplicas": 2}
    author.run(image, **scaled)
    assert set(verbs(author.plan(image, **scaled)).values()) == {"keep"}

    # An existing autoscaler sets the number of replicas, so the plan does not change it.
    plan = author.plan(image, **{**scaled, "maxReplicas": 3})
    changed = {step.target: step.verb for step in plan.effective_changes}
    assert changed == {
        "function greeter": "update",
        "revision": "replace",
        "horizontalpodautoscaler nuclio-greeter": "update",
    }
    without_autoscaler = verbs(author.plan(image))
    assert without_autoscaler["horizontalpodautoscaler nuclio-greeter"] == "delete"

    author.run(image)
    cluster = author.platform.cluster
    assert cluster.get(kinds.HPA_V1, author.namespace, "nuclio-greeter") is None
    assert verbs(author.plan(image, options={"force": True}))["revision"] == "replace"


def test_pods_know_the_revision_that_started_them(author: Author, image: str) -> None:
    protocols = {"web": {"kind": "http", "attributes": {"protocols": ["v2"]}}}

    def versions(deployment: Deployment) -> list[str]:
        address = f"{node_address(author.platform.cluster)}:{deployment.http_port}"
        return list(json.loads(invoke(address, "/v2/models/greeter"))["versions"])

    first = author.run(image, triggers=protocols)
    assert versions(first) == ["1"]
    assert set(verbs(author.plan(image, triggers=protocols)).values()) == {"keep"}
    # A revision that leaves the pods running leaves them their number.
    [pod] = author.platform.replica_names(author.namespace, "greeter")
    scaled = author.run(image, triggers=protocols, replicas=2)
    assert (scaled.revision, versions(scaled)) == (2, ["1"])
    assert pod in author.platform.replica_names(author.namespace, "greeter")
    third = author.run(image, triggers=protocols, env={"WORD": "two"})
    assert (third.revision, versions(third)) == (3, ["3"])


# The default requests of autoscaled functions would fill a small node that other tests use, too.
SMALL = {"requests": {"cpu": "25m"}}


def test_a_new_autoscaler_keeps_the_replicas(author: Author, image: str) -> None:
    author.run(image, replicas=2, resources=SMALL)
    first = author.run(image, minReplicas=2, maxReplicas=3, resources=SMALL)
    assert first.replicas == (2, 2)
    # The number still belongs to fnbuild, so omitting it would set it to 1.
    second = author.run(image, minReplicas=2, maxReplicas=3, resources=SMALL, env={"WORD": "two"})
    assert second.replicas == (2, 2)


def test_a_removed_autoscaler_restores_the_replicas_of_the_function(
    author: Author, image: str
) -> None:
    author.run(image, minReplicas=1, maxReplicas=3, resources=SMALL)
    # Scale it like the autoscaler.
    author.edit({"spec": {"replicas": 2}}, manager="kube-controller-manager")
    assert (
        author.run(
            image, minReplicas=1, maxReplicas=3, resources=SMALL, env={"WORD": "two"}
        ).replicas[1]
        == 2
    )
    author.run(image, replicas=1, resources=SMALL)
    assert author.live_deployment()["spec"]["replicas"] == 1


def test_manifests_for_git_are_stable(author: Author, image: str) -> None:
    first = author.plan(image)
    author.run(image)
    author.platform.redeploy(author.namespace, "greeter", author.progress.append)
    assert author.plan(image).manifests == first.manifests
    assert "nodePort" not in str(first.manifests)
    assert [manifest["kind"] for manifest in first.manifests] == ["Service", "Deployment"]


def test_an_unbuilt_image_is_compared_by_its_code(author: Author, image: str) -> None:
    platform, function = author.platform, function_of(author.namespace, "greeter", image)
    built = Artifact("image", image, "c0de", pinned=image)
    platform.apply(platform.plan(function, built), author.progress.append)
    assert platform.plan(function, Artifact("image", image, "c0de")).effective_changes == ()
    changed = platform.plan(function, Artifact("image", image, "0ther"))
    [deployment] = [
        change for change in changed.effective_changes if change.target.startswith("deployment")
    ]
    assert "imagePullPolicy': 'IfNotPresent'" in str(deployment.after)
    # Manifests for git always pull an image with a mutable name.
    assert "imagePullPolicy': 'Always'" in str(changed.manifests)


def test_an_image_without_a_registry_is_a_warning(author: Author, image: str) -> None:
    function = function_of(author.namespace, "greeter", image)
    plan = author.platform.plan(function, Artifact("image", image, "c0de"))
    assert any("`-r REGISTRY`" in warning for warning in plan.warnings)
    pushed = Artifact("image", f"127.0.0.1:5000/{image}", "c0de")
    assert author.platform.plan(function, pushed).warnings == ()


def test_values_of_secret_variables_are_not_in_manifests_for_git(
    author: Author, image: str
) -> None:
    plan = author.plan(image, env={"API_TOKEN": "hidden"})
    assert "hidden" not in str(plan.manifests)
    assert "--from-literal=API_TOKEN=…" in plan.prerequisites[0]
    assert plan.warnings == ()
    [live] = [
        change.after for change in plan.changes if change.target == "deployment nuclio-greeter"
    ]
    assert "hidden" not in str(live)
    assert "nuclio-greeter.env" in str(live)


def test_unsupported_options_are_refused(author: Author, image: str) -> None:
    with pytest.raises(UsageError, match="listen") as failure:
        author.plan(image, options={"listen": "docker"})
    assert "service-type" in (failure.value.hint or "")


def test_invalid_names_are_refused(author: Author, image: str) -> None:
    with pytest.raises(InputError, match="YOLO_v8"):
        author.plan(image, "YOLO_v8")
    with pytest.raises(InputError, match="may have 56"):
        author.plan(image, "x" * 57)


def test_a_missing_namespace_is_an_error(author: Author, image: str) -> None:
    function = function_of("fnbuild-test-none", "greeter", image)
    with pytest.raises(NotFoundError, match="fnbuild-test-none") as failure:
        author.platform.plan(function, Artifact("image", image, ""))
    assert "kubectl create namespace fnbuild-test-none" in (failure.value.hint or "")


def test_a_plan_reports_refusals_of_the_cluster(author: Author, image: str) -> None:
    volume = {"volume": {"name": "a"}, "volumeMount": {"name": "b", "mountPath": "/b"}}
    with pytest.raises(InputError, match="volumeMounts"):
        author.plan(image, volumes=[volume])


def test_fields_of_another_manager_are_a_conflict(author: Author, image: str) -> None:
    author.run(image)
    body = {"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 9}}}}
    author.edit(body, manager="kubectl-edit")
    with pytest.raises(FieldConflictError, match="kubectl-edit") as failure:
        author.run(image, env={"WORD": "two"})
    field = ".spec.template.spec.terminationGracePeriodSeconds"
    assert failure.value.message.endswith(f" manages: {field}")
    assert "--force-conflicts" in (failure.value.hint or "")
    [revision] = author.platform.revisions(author.namespace, "greeter")
    assert revision.number == 1
    forced = author.run(image, env={"WORD": "two"}, options={"force_conflicts": True})
    assert forced.revision == 2
    assert (
        author.live_deployment()["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] != 9
    )


def test_an_image_of_another_manager_is_a_conflict(author: Author, image: str) -> None:
    author.run(image, replicas=0)
    [container] = author.live_deployment()["spec"]["template"]["spec"]["containers"]
    other = {**container, "image": "127.0.0.1:5000/fnbuild-test-other:1"}
    author.edit({"spec": {"template": {"spec": {"containers": [other]}}}}, manager="kubectl-set")
    message = author.deployment().message
    assert f"the container runs {other['image']} instead of the image of revision 1" in message
    assert "`fnbuild redeploy greeter --force-conflicts`" in message
    assert author.deployment().details["pinned"] == image

    plan = author.plan(image, options={"show_conflicts": True}, replicas=0)
    assert set(verbs(plan).values()) == {"keep", "update", "replace"}
    [step] = [
        change for change in plan.effective_changes if change.target == "deployment nuclio-greeter"
    ]
    assert (other["image"] in str(step.before), other["image"] in str(step.after)) == (True, False)
    assert any(
        "kubectl-set" in warning and "--force-conflicts" in warning for warning in plan.warnings
    )

    for change_function in (
        lambda: author.run(image, replicas=0),
        lambda: author.run(image, replicas=0, env={"WORD": "two"}),
        lambda: author.platform.redeploy(author.namespace, "greeter", print),
    ):
        with pytest.raises(FieldConflictError, match="kubectl-set"):
            change_function()
    deployment = author.platform.redeploy(author.namespace, "greeter", print, force_conflicts=True)
    assert (deployment.message, deployment.revision) == ("", 2)
    assert author.live_deployment()["spec"]["template"]["spec"]["containers"][0]["image"] == image


def test_a_manual_scale_is_a_warning(author: Author, image: str) -> None:
    author.run(image, replicas=0)
    path = f"{kinds.DEPLOYMENT.path(author.namespace, 'nuclio-greeter')}/scale"
    request = ApiRequest("PATCH", path, {}, {"spec": {"replicas": 1}}, MERGE)
    assert author.platform.cluster.transport.request(request)[0] == 200
    plan = author.plan(image, replicas=0, env={"WORD": "two"})
    assert "it was scaled to 1; this deploy sets it to 0: `--replicas 1` keeps them" in (
        plan.warnings
    )
    assert author.plan(image, replicas=1).warnings == ()
    deployment = author.platform.redeploy(author.namespace, "greeter", print)
    assert any(
        "fnbuild update function greeter --replicas 1" in warning for warning in deployment.warnings
    )
    assert author.plan(image, replicas=0).warnings == ()


def test_foreign_objects_are_a_conflict(author: Author, image: str) -> None:
    metadata = {"name": "nuclio-greeter", "namespace": author.namespace}
    spec = {"ports": [{"port": 80, "protocol": "TCP"}]}
    author.platform.cluster.create(
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}
    )
    with pytest.raises(ConflictError, match="Service nuclio-greeter") as failure:
        author.plan(image)
    assert "--platform nuclio" in (failure.value.hint or "")


def test_missing_permissions_are_reported_before_changes(
    author: Author, image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = author.platform.cluster
    names = ["services", "deployments", "configmaps", "ingresses", "horizontalpodautoscalers"]
    without_pods: Raw = {"apiGroups": ["*"], "resources": names, "verbs": ["*"]}
    for account, rule, missing in (
        ("reader", READ, r"may not patch (services|deployments\.apps)"),
        ("podless", without_pods, "may not list pods"),
    ):
        file = kubeconfig_of(cluster, author.namespace, account, [rule], tmp_path / account)
        monkeypatch.setenv("KUBECONFIG", str(file))
        author.platform = KubernetesPlatform()
        with pytest.raises(ForbiddenError, match=missing) as failure:
            author.run(image)
        assert "kubectl create role" in (failure.value.hint or "")
    assert cluster.list(kinds.DEPLOYMENT, author.namespace) == []
    assert cluster.list(kinds.SERVICE, author.namespace) == []


def test_server_fields_are_removed() -> None:
    live: Raw = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "nuclio-a",
            "uid": "1",
            "annotations": {"fnbuild.io/revision": "7", "mine": "yes"},
        },
        "status": {"replicas": 1},
    }
    assert without_server_fields(live) == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "nuclio-a", "annotations": {"mine": "yes"}},
    }
