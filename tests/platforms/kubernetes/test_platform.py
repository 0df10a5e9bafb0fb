"""The platform on a cluster, beyond the contract of all platforms."""

from __future__ import annotations

import urllib.request
from pathlib import Path

import pytest

from fnbuild.deploy import exports
from fnbuild.errors import (
    ConflictError,
    ForbiddenError,
    NotFoundError,
    PreconditionError,
    UsageError,
)
from fnbuild.function.types import Raw
from fnbuild.platforms import Artifact, Project
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubernetes import KubernetesPlatform, labels
from tests.cluster import invoke, kubeconfig_of, own_namespace
from tests.engine import until
from tests.platforms.kubernetes.author import Author, function_of

pytestmark = pytest.mark.system

EVERYTHING = {
    "minReplicas": 1,
    "maxReplicas": 2,
    "resources": {"requests": {"cpu": "25m"}},
    "platform": {"attributes": {"cronTriggerCreationMode": "kube"}},
    "triggers": {
        "web": {
            "kind": "http",
            "attributes": {"ingresses": {"0": {"host": "greeter.test", "paths": ["/"]}}},
        },
        "nightly": {"kind": "cron", "attributes": {"schedule": "0 3 * * *"}},
    },
}


def remaining_objects(author: Author) -> list[str]:
    """Return the objects of the function in the namespace except pods."""
    objects = []
    cluster = author.platform.cluster
    cron_job = kinds.CRON_JOB if cluster.serves(kinds.CRON_JOB) else kinds.CRON_JOB_V1BETA1
    for kind in (
        kinds.DEPLOYMENT,
        kinds.SERVICE,
        kinds.INGRESS,
        kinds.HPA_V1,
        kinds.CONFIG_MAP,
        cron_job,
    ):
        items = cluster.list(kind, author.namespace)
        names = [item["metadata"]["name"] for item in items]
        objects += [f"{kind.name} {name}" for name in names if name.startswith("nuclio-")]
    return objects


def test_delete_removes_all_objects_of_a_function(author: Author, image: str) -> None:
    author.run(image, **EVERYTHING)
    before = remaining_objects(author)
    assert "Ingress nuclio-greeter" in before
    assert "HorizontalPodAutoscaler nuclio-greeter" in before
    assert any(item.startswith("CronJob nuclio-greeter") for item in before)
    with pytest.raises(UsageError, match="registry"):
        author.platform.delete(author.namespace, "greeter", image=True)
    assert remaining_objects(author) == before
    assert author.platform.delete(author.namespace, "greeter") is True
    assert remaining_objects(author) == []


def test_plain_functions_need_few_permissions(
    author: Author, image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verbs = ["get", "list", "create", "patch", "update", "delete"]
    rules: list[Raw] = [
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": verbs},
        {"apiGroups": [""], "resources": ["services", "configmaps", "pods"], "verbs": verbs},
    ]
    unrestricted = author.platform
    file = kubeconfig_of(
        unrestricted.cluster, author.namespace, "plain", rules, tmp_path / "config"
    )
    with monkeypatch.context() as patch:
        patch.setenv("KUBECONFIG", str(file))
        author.platform = KubernetesPlatform()
        assert author.run(image).state == "ready"
        assert author.platform.delete(author.namespace, "greeter") is True
    author.platform = unrestricted
    assert remaining_objects(author) == []


def test_delete_without_all_permissions_deletes_nothing(
    author: Author, image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    author.run(image, replicas=0, triggers=EVERYTHING["triggers"])
    before = remaining_objects(author)
    rules: list[Raw] = [
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["*"]},
        {"apiGroups": [""], "resources": ["services", "configmaps", "pods"], "verbs": ["*"]},
        {"apiGroups": ["networking.k8s.io"], "resources": ["ingresses"], "verbs": ["get"]},
    ]
    unrestricted = author.platform
    file = kubeconfig_of(
        unrestricted.cluster, author.namespace, "reader", rules, tmp_path / "config"
    )
    with monkeypatch.context() as patch:
        patch.setenv("KUBECONFIG", str(file))
        author.platform = KubernetesPlatform()
        with pytest.raises(ForbiddenError, match="may not delete ingresses"):
            author.platform.delete(author.namespace, "greeter")
    author.platform = unrestricted
    assert remaining_objects(author) == before
    assert author.platform.revisions(author.namespace, "greeter")


def test_a_deploy_removes_objects_that_are_no_longer_needed(author: Author, image: str) -> None:
    author.run(image, **EVERYTHING)
    author.run(image)
    assert sorted(remaining_objects(author)) == [
        "ConfigMap nuclio-greeter",
        "Deployment nuclio-greeter",
        "Service nuclio-greeter",
    ]
    assert any(line.startswith("removing cronjob") for line in author.progress)


def test_an_unchanged_deploy_restarts_nothing(author: Author, image: str) -> None:
    author.run(image)
    before = author.live_deployment()["spec"]["template"]
    author.run(image)
    assert author.progress[-1] == "nothing has changed, and the function runs"
    assert author.deployment().revision == 1
    assert author.run(image, options={"force": True}).revision == 2
    forced = author.live_deployment()["spec"]["template"]
    assert forced != before
    # After a forced restart a deploy of the same function changes nothing.
    author.run(image)
    assert author.live_deployment()["spec"]["template"] == forced


def test_a_mutable_tag_is_not_deployed_again(author: Author, image: str) -> None:
    function = function_of(author.namespace, "greeter", image, replicas=0)
    for _ in range(2):
        plan = author.platform.plan(function, Artifact("image", image, ""))
        author.platform.apply(plan, author.progress.append)
    assert author.progress[-1].startswith("nothing has changed, and the function runs; `--force`")


def test_history_describes_rollbacks_and_redeploys(author: Author, image: str) -> None:
    author.run(image)
    author.run(image, env={"WORD": "two"})
    rolled_back = author.platform.rollback(
        author.namespace, "greeter", None, author.progress.append
    )
    assert rolled_back.revision == 3
    redeployed = author.platform.redeploy(author.namespace, "greeter", author.progress.append)
    assert invoke(redeployed.external_urls[0]) == "hello"
    revisions = author.platform.revisions(author.namespace, "greeter")
    assert [(revision.number, revision.state) for revision in revisions] == [
        (4, "active"),
        (3, "superseded"),
        (2, "superseded"),
        (1, "superseded"),
    ]
    assert revisions[0].message == "redeploy of revision 3"
    assert revisions[1].message == "rollback to revision 1"


def test_missing_functions_have_suggestions(author: Author, image: str, cluster: Cluster) -> None:
    author.run(image, replicas=0)
    with pytest.raises(NotFoundError) as failure:
        author.platform.deployment(author.namespace, "greter")
    assert failure.value.hint == 'did you mean "greeter"?'
    with pytest.raises(NotFoundError, match="no namespace") as failure:
        author.platform.deployments("fnbuild-test-none")
    assert "kubectl create namespace fnbuild-test-none" in (failure.value.hint or "")
    with own_namespace(cluster) as other:
        assert author.platform.deployments(other) == []
        with pytest.raises(NotFoundError) as failure:
            author.platform.deployment(other, "greeter")
        assert author.namespace in (failure.value.hint or "")
        with pytest.raises(NotFoundError) as failure:
            author.platform.deployment(other, "unheard-of")
        assert "lists them" in (failure.value.hint or "")


def test_functions_are_reached_by_node_port_or_api_server(author: Author, image: str) -> None:
    def answer(url: str) -> bytes:
        with urllib.request.urlopen(url, timeout=60) as reply:
            body: bytes = reply.read()
            return body

    deployment = author.run(image)
    with author.platform.reachable_url(deployment) as url:
        assert url == f"http://{deployment.external_urls[0]}"
        assert answer(url) == b"hello"
    internal = author.run(image, serviceType="ClusterIP")
    assert (internal.http_port, internal.external_urls) == (0, ())
    with author.platform.reachable_url(internal) as url:
        assert url.startswith("http://127.0.0.1:")
        assert answer(url) == b"hello"
    stopped = author.run(image, replicas=0)
    until("the end of the pods", lambda: _reached(author, stopped.name) == "")


def _reached(author: Author, name: str) -> str:
    with author.platform.reachable_url(author.deployment(name)) as url:
        return url


def test_an_unreachable_cluster_is_a_problem(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    [notice] = KubernetesPlatform().problems()
    assert str(tmp_path / "none") in notice


def test_redeploy_creates_a_deleted_deployment_again(author: Author, image: str) -> None:
    first = author.run(image)
    author.platform.cluster.delete(kinds.DEPLOYMENT, author.namespace, "nuclio-greeter")
    deployment = author.deployment()
    assert deployment.state == "unhealthy"
    assert "fnbuild redeploy greeter" in deployment.message
    redeployed = author.platform.redeploy(author.namespace, "greeter", author.progress.append)
    assert (redeployed.state, redeployed.http_port) == ("ready", first.http_port)
    assert invoke(redeployed.external_urls[0]) == "hello"


def test_applied_manifests_are_a_revision(author: Author, image: str) -> None:
    cluster = author.platform.cluster
    for manifest in author.plan(image).manifests:
        cluster.apply(manifest)
    until("the pods", lambda: author.deployment().state == "ready")
    (only,) = author.platform.revisions(author.namespace, "greeter")
    assert (only.number, only.state, only.message) == (1, "active", "applied from a file")
    assert only.created
    with pytest.raises(NotFoundError, match="served before revision 1"):
        author.platform.rollback(author.namespace, "greeter", None, author.progress.append)
    author.run(image, env={"WORD": "two"})
    revisions = author.platform.revisions(author.namespace, "greeter")
    assert [(revision.number, revision.state, revision.message) for revision in revisions] == [
        (2, "active", ""),
        (1, "superseded", "applied from a file"),
    ]
    rolled_back = author.platform.rollback(
        author.namespace, "greeter", None, author.progress.append
    )
    assert invoke(rolled_back.external_urls[0]) == "hello"


def test_an_import_of_a_running_function_is_a_conflict(author: Author, image: str) -> None:
    function = function_of(author.namespace, "greeter", "")
    assert author.platform.store_imported(function).state == "imported"
    assert author.platform.store_imported(function).state == "imported"
    with pytest.raises(PreconditionError, match="no code of greeter is recorded"):
        author.platform.redeploy(author.namespace, "greeter", author.progress.append)
    author.run(image)
    with pytest.raises(ConflictError, match="already"):
        author.platform.store_imported(function)


def test_an_imported_function_runs_from_its_image(author: Author) -> None:
    exact = f"127.0.0.1:5000/fnbuild-test-none@sha256:{'1a' * 32}"
    function = function_of(author.namespace, "greeter", "127.0.0.1:5000/none:1", replicas=0)
    raw = exports.export_configuration(function, state="ready", image=exact)
    assert raw["spec"]["image"] == exact
    exports.import_function(author.platform, raw, author.namespace, "greeter.yaml")
    deployment = author.platform.redeploy(author.namespace, "greeter", author.progress.append)
    assert (deployment.state, deployment.revision) == ("scaledToZero", 1)
    assert "skip-deploy" not in deployment.function.metadata.annotations
    [container] = author.live_deployment()["spec"]["template"]["spec"]["containers"]
    assert (container["image"], container["imagePullPolicy"]) == (exact, "IfNotPresent")
    local = "fnbuild-test-none:1a1a"
    assert (
        exports.export_configuration(function, image=local)["spec"]["image"]
        == "127.0.0.1:5000/none:1"
    )


def test_redeploy_creates_a_removed_service_again(author: Author, image: str) -> None:
    cluster = author.platform.cluster

    def redeploy_without_service() -> int:
        cluster.delete(kinds.SERVICE, author.namespace, "nuclio-greeter")
        for shown in (author.deployment(), *author.platform.deployments(author.namespace)):
            assert "its service was removed; `fnbuild redeploy greeter`" in shown.message
        deployment = author.platform.redeploy(author.namespace, "greeter", author.progress.append)
        assert deployment.message == ""
        return deployment.http_port

    port = author.run(image, replicas=0).http_port
    assert redeploy_without_service() == port
    cluster.delete(kinds.SERVICE, author.namespace, "nuclio-greeter")
    taken = {"port": 80, "nodePort": port, "protocol": "TCP"}
    metadata = {"name": "another", "namespace": author.namespace}
    spec = {"type": "NodePort", "ports": [taken]}
    cluster.create({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})
    assert redeploy_without_service() not in (0, port)


def test_foreign_functions_are_listed_and_protected(author: Author, image: str) -> None:
    cluster = author.platform.cluster
    object_labels = {
        labels.CLASS: "function",
        labels.APP: "functionres",
        labels.FUNCTION: "foreign",
    }
    metadata = {"name": "nuclio-foreign", "namespace": author.namespace, "labels": object_labels}
    template = {
        "metadata": {"labels": object_labels},
        "spec": {"containers": [{"name": "nuclio", "image": image}]},
    }
    spec = {"replicas": 0, "selector": {"matchLabels": object_labels}, "template": template}
    cluster.create(
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}
    )
    assert [deployment.name for deployment in author.platform.deployments(author.namespace)] == [
        "foreign"
    ]
    platform, namespace = author.platform, author.namespace
    for change_function in (
        lambda: platform.delete(namespace, "foreign"),
        lambda: platform.redeploy(namespace, "foreign", print),
        lambda: platform.rollback(namespace, "foreign", None, print),
        lambda: platform.plan(
            function_of(namespace, "foreign", image), Artifact("image", image, "")
        ),
    ):
        with pytest.raises(ConflictError, match="not managed by fnbuild"):
            change_function()


def test_records_of_projects_and_functions_do_not_collide(author: Author, image: str) -> None:
    author.platform.create_project(Project("x", author.namespace))
    with pytest.raises(NotFoundError):
        author.platform.deployment(author.namespace, "project-x")
    assert author.run(image, "project-x", replicas=0).revision == 1
    assert [project.name for project in author.platform.projects(author.namespace)] == [
        "default",
        "x",
    ]
    assert author.platform.delete_project(author.namespace, "x", cascade=False) is True
    assert author.deployment("project-x").revision == 1
