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
from tests.cluster import ask, kubeconfig_of, own_namespace
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


def left(author: Author) -> list[str]:
    """What is left of the function in the namespace, but for pods that end."""
    found = []
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
        listed = cluster.list(kind, author.namespace)
        names = [one["metadata"]["name"] for one in listed]
        found += [f"{kind.name} {name}" for name in names if name.startswith("nuclio-")]
    return found


def test_everything_goes_with_a_function(author: Author, image: str) -> None:
    author.run(image, **EVERYTHING)
    there = left(author)
    assert "Ingress nuclio-greeter" in there
    assert "HorizontalPodAutoscaler nuclio-greeter" in there
    assert any(one.startswith("CronJob nuclio-greeter") for one in there)
    with pytest.raises(UsageError, match="registry"):
        author.platform.delete(author.namespace, "greeter", image=True)
    assert left(author) == there
    assert author.platform.delete(author.namespace, "greeter") is True
    assert left(author) == []


def test_who_has_rights_on_plain_functions_alone_deploys_and_deletes_them(
    author: Author, image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verbs = ["get", "list", "create", "patch", "update", "delete"]
    rules: list[Raw] = [
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": verbs},
        {"apiGroups": [""], "resources": ["services", "configmaps", "pods"], "verbs": verbs},
    ]
    full = author.platform
    file = kubeconfig_of(full.cluster, author.namespace, "plain", rules, tmp_path / "config")
    with monkeypatch.context() as patch:
        patch.setenv("KUBECONFIG", str(file))
        author.platform = KubernetesPlatform()
        assert author.run(image).state == "ready"
        assert author.platform.delete(author.namespace, "greeter") is True
    author.platform = full
    assert left(author) == []


def test_who_may_not_delete_all_of_a_function_deletes_nothing(
    author: Author, image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    author.run(image, replicas=0, triggers=EVERYTHING["triggers"])
    there = left(author)
    rules: list[Raw] = [
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["*"]},
        {"apiGroups": [""], "resources": ["services", "configmaps", "pods"], "verbs": ["*"]},
        {"apiGroups": ["networking.k8s.io"], "resources": ["ingresses"], "verbs": ["get"]},
    ]
    full = author.platform
    file = kubeconfig_of(full.cluster, author.namespace, "reader", rules, tmp_path / "config")
    with monkeypatch.context() as patch:
        patch.setenv("KUBECONFIG", str(file))
        author.platform = KubernetesPlatform()
        with pytest.raises(ForbiddenError, match="may not delete ingresses"):
            author.platform.delete(author.namespace, "greeter")
    author.platform = full
    assert left(author) == there
    assert author.platform.revisions(author.namespace, "greeter")


def test_what_the_next_revision_does_not_have_goes(author: Author, image: str) -> None:
    author.run(image, **EVERYTHING)
    author.run(image)
    assert sorted(left(author)) == [
        "ConfigMap nuclio-greeter",
        "Deployment nuclio-greeter",
        "Service nuclio-greeter",
    ]
    assert any(line.startswith("removing cronjob") for line in author.progress)


def test_nothing_starts_anew_for_nothing(author: Author, image: str) -> None:
    author.run(image)
    before = author.live()["spec"]["template"]
    author.run(image)
    assert author.progress[-1] == "nothing has changed, and the function runs"
    assert author.shown().revision == 1
    assert author.run(image, options={"force": True}).revision == 2
    forced = author.live()["spec"]["template"]
    assert forced != before
    # What was started anew by hand is the same function: a deploy of it changes nothing.
    author.run(image)
    assert author.live()["spec"]["template"] == forced


def test_a_tag_that_may_mean_another_image_by_now(author: Author, image: str) -> None:
    function = function_of(author.namespace, "greeter", image, replicas=0)
    for _ in range(2):
        plan = author.platform.plan(function, Artifact("image", image, ""))
        author.platform.apply(plan, author.progress.append)
    assert author.progress[-1].startswith("nothing has changed, and the function runs; `--force`")


def test_history_goes_back_and_says_so(author: Author, image: str) -> None:
    author.run(image)
    author.run(image, env={"WORD": "two"})
    rolled_back = author.platform.rollback(
        author.namespace, "greeter", None, author.progress.append
    )
    assert rolled_back.revision == 3
    redeployed = author.platform.redeploy(author.namespace, "greeter", author.progress.append)
    assert ask(redeployed.external_urls[0]) == "hello"
    revisions = author.platform.revisions(author.namespace, "greeter")
    assert [(revision.number, revision.state) for revision in revisions] == [
        (4, "active"),
        (3, "superseded"),
        (2, "superseded"),
        (1, "superseded"),
    ]
    assert revisions[0].message == "redeploy of revision 3"
    assert revisions[1].message == "rollback to revision 1"


def test_a_function_that_is_elsewhere_or_has_another_name(
    author: Author, image: str, cluster: Cluster
) -> None:
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


def test_a_node_port_and_a_way_through_the_api_server(author: Author, image: str) -> None:
    def answer(url: str) -> bytes:
        with urllib.request.urlopen(url, timeout=60) as reply:
            body: bytes = reply.read()
            return body

    made = author.run(image)
    with author.platform.reachable_url(made) as url:
        assert url == f"http://{made.external_urls[0]}"
        assert answer(url) == b"hello"
    inside = author.run(image, serviceType="ClusterIP")
    assert (inside.http_port, inside.external_urls) == (0, ())
    with author.platform.reachable_url(inside) as url:
        assert url.startswith("http://127.0.0.1:")
        assert answer(url) == b"hello"
    stopped = author.run(image, replicas=0)
    until("the end of its pods", lambda: _reached(author, stopped.name) == "")


def _reached(author: Author, name: str) -> str:
    with author.platform.reachable_url(author.shown(name)) as url:
        return url


def test_a_cluster_that_is_out_of_reach(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    [notice] = KubernetesPlatform().problems()
    assert str(tmp_path / "none") in notice


def test_a_deployment_that_was_deleted_by_hand_is_made_again(author: Author, image: str) -> None:
    made = author.run(image)
    author.platform.cluster.delete(kinds.DEPLOYMENT, author.namespace, "nuclio-greeter")
    deployment = author.shown()
    assert deployment.state == "unhealthy"
    assert "fnbuild redeploy greeter" in deployment.message
    redeployed = author.platform.redeploy(author.namespace, "greeter", author.progress.append)
    assert (redeployed.state, redeployed.http_port) == ("ready", made.http_port)
    assert ask(redeployed.external_urls[0]) == "hello"


def test_what_was_applied_from_a_file_is_a_revision_too(author: Author, image: str) -> None:
    cluster = author.platform.cluster
    for manifest in author.planned(image).manifests:
        cluster.apply(manifest)
    until("the pods", lambda: author.shown().state == "ready")
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
    assert ask(rolled_back.external_urls[0]) == "hello"


def test_an_import_does_not_stand_in_for_what_runs(author: Author, image: str) -> None:
    function = function_of(author.namespace, "greeter", "")
    assert author.platform.store_imported(function).state == "imported"
    assert author.platform.store_imported(function).state == "imported"
    with pytest.raises(PreconditionError, match="no code of greeter is recorded"):
        author.platform.redeploy(author.namespace, "greeter", author.progress.append)
    author.run(image)
    with pytest.raises(ConflictError, match="already"):
        author.platform.store_imported(function)


def test_an_import_runs_from_the_image_that_it_names(author: Author) -> None:
    exact = f"127.0.0.1:5000/fnbuild-test-none@sha256:{'1a' * 32}"
    function = function_of(author.namespace, "greeter", "127.0.0.1:5000/none:1", replicas=0)
    raw = exports.export_configuration(function, state="ready", image=exact)
    assert raw["spec"]["image"] == exact
    exports.import_function(author.platform, raw, author.namespace, "greeter.yaml")
    deployment = author.platform.redeploy(author.namespace, "greeter", author.progress.append)
    assert (deployment.state, deployment.revision) == ("scaledToZero", 1)
    assert "skip-deploy" not in deployment.function.metadata.annotations
    [container] = author.live()["spec"]["template"]["spec"]["containers"]
    assert (container["image"], container["imagePullPolicy"]) == (exact, "IfNotPresent")
    local = "fnbuild-test-none:1a1a"
    assert (
        exports.export_configuration(function, image=local)["spec"]["image"]
        == "127.0.0.1:5000/none:1"
    )


def test_a_service_that_was_removed_comes_again(author: Author, image: str) -> None:
    cluster = author.platform.cluster

    def removed() -> int:
        cluster.delete(kinds.SERVICE, author.namespace, "nuclio-greeter")
        for one in (author.shown(), *author.platform.deployments(author.namespace)):
            assert "its service was removed; `fnbuild redeploy greeter`" in one.message
        deployment = author.platform.redeploy(author.namespace, "greeter", author.progress.append)
        assert deployment.message == ""
        return deployment.http_port

    port = author.run(image, replicas=0).http_port
    assert removed() == port
    cluster.delete(kinds.SERVICE, author.namespace, "nuclio-greeter")
    taken = {"port": 80, "nodePort": port, "protocol": "TCP"}
    about = {"name": "another", "namespace": author.namespace}
    spec = {"type": "NodePort", "ports": [taken]}
    cluster.create({"apiVersion": "v1", "kind": "Service", "metadata": about, "spec": spec})
    assert removed() not in (0, port)


def test_functions_of_others_are_shown_and_left_alone(author: Author, image: str) -> None:
    cluster = author.platform.cluster
    object_labels = {
        labels.CLASS: "function",
        labels.APP: "functionres",
        labels.FUNCTION: "foreign",
    }
    about = {"name": "nuclio-foreign", "namespace": author.namespace, "labels": object_labels}
    template = {
        "metadata": {"labels": object_labels},
        "spec": {"containers": [{"name": "nuclio", "image": image}]},
    }
    spec = {"replicas": 0, "selector": {"matchLabels": object_labels}, "template": template}
    cluster.create({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": about, "spec": spec})
    assert [deployment.name for deployment in author.platform.deployments(author.namespace)] == [
        "foreign"
    ]
    platform, namespace = author.platform, author.namespace
    for refused in (
        lambda: platform.delete(namespace, "foreign"),
        lambda: platform.redeploy(namespace, "foreign", print),
        lambda: platform.rollback(namespace, "foreign", None, print),
        lambda: platform.plan(
            function_of(namespace, "foreign", image), Artifact("image", image, "")
        ),
    ):
        with pytest.raises(ConflictError, match="not managed by fnbuild"):
            refused()


def test_a_project_and_a_function_of_nearly_the_same_record(author: Author, image: str) -> None:
    author.platform.create_project(Project("x", author.namespace))
    with pytest.raises(NotFoundError):
        author.platform.deployment(author.namespace, "project-x")
    assert author.run(image, "project-x", replicas=0).revision == 1
    assert [project.name for project in author.platform.projects(author.namespace)] == [
        "default",
        "x",
    ]
    assert author.platform.delete_project(author.namespace, "x", cascade=False) is True
    assert author.shown("project-x").revision == 1
