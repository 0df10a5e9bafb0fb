"""Rollouts, and rollbacks after failures."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fnbuild.errors import ConflictError, NotFoundError, NotReadyError, PreconditionError
from fnbuild.function.types import Raw
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubernetes import KubernetesPlatform
from fnbuild.platforms.kubernetes.labels import REVISION
from tests.cluster import (
    RESOURCE_QUOTA,
    SERVICE_ACCOUNT,
    create,
    invoke,
    kubeconfig_of,
    merge_patch,
)
from tests.engine import until
from tests.platforms.kubernetes.author import Author

pytestmark = pytest.mark.system

# Failures are reported within seconds, but the test machine may be busy.
SOON = 60.0


def address(author: Author) -> str:
    return author.deployment().external_urls[0]


def states(author: Author) -> list[str]:
    return [revision.state for revision in author.platform.revisions(author.namespace, "greeter")]


class Listener(list[str]):
    """A progress list that runs a callback once, for the first line with the prefix."""

    def __init__(self, prefix: str, callback: Callable[[], None]):
        super().__init__()
        self.prefix = prefix
        self.callback = callback
        self.done = False

    def append(self, sentence: str) -> None:
        super().append(sentence)
        if sentence.startswith(self.prefix) and not self.done:
            self.done = True
            self.callback()


def test_a_rollout_reports_each_message_once_and_what_init_context_prints(
    author: Author, image: str
) -> None:
    author.run(image, env={"WORD": "one"})
    assert author.progress.count("| loading one") == 1
    author.progress.clear()
    author.run(image, env={"WORD": "two"})
    assert [text for text in author.progress if text.startswith("|")] == ["| loading two"]
    assert author.progress[0] == "making revision 2"
    assert len(author.progress) > 2
    assert len(author.progress) == len(set(author.progress)), author.progress
    assert invoke(address(author)) == "two"


def test_the_old_revision_serves_after_failures(author: Author, image: str) -> None:
    author.run(image)
    started = time.monotonic()
    with pytest.raises(NotReadyError, match="revision 2 of greeter did not become") as failure:
        author.run(image, env={"FAULT": "raise"})
    assert time.monotonic() - started < SOON
    assert "the weights are missing" in failure.value.message
    assert "ValueError: the weights are missing" in (failure.value.detail or "")
    assert (failure.value.hint or "").startswith("revision 1 goes on serving")
    assert states(author) == ["failed", "active"]
    # Only the error has the reason.
    assert not [line for line in author.progress if "the weights are missing" in line]

    with pytest.raises(NotReadyError, match="fnbuild-test-nowhere"):
        author.run("127.0.0.1:5000/fnbuild-test-nowhere:1")
    assert invoke(address(author)) == "hello"

    quota(author, pods=1)
    with pytest.raises(NotReadyError, match="the quota few-pods of namespace"):
        author.run(image, env={"WORD": "two"})
    # The pod of the first revision was never replaced.
    [pod] = [pod for pod in author.deployment().details["pods"] if pod["current"]]
    assert (pod["state"], pod["restarts"]) == ("Ready", 0)
    assert invoke(address(author)) == "hello"


def quota(author: Author, pods: int) -> None:
    """Limit the number of pods in the namespace."""
    cluster = author.platform.cluster
    metadata = {"name": "few-pods", "namespace": author.namespace}
    spec = {"hard": {"pods": str(pods)}}
    create(cluster, RESOURCE_QUOTA, metadata, spec=spec)

    def is_counted() -> bool:
        live_object = cluster.get(RESOURCE_QUOTA, author.namespace, "few-pods") or {}
        return "used" in (live_object.get("status") or {})

    until("the count of pods", is_counted)


def test_an_unmatched_node_selector_is_explained(author: Author, image: str) -> None:
    with pytest.raises(NotReadyError, match="no node has the label fnbuild-test=none") as failure:
        author.run(image, nodeSelector={"fnbuild-test": "none"})
    assert "kubectl label node" in (failure.value.hint or "")


def test_a_missing_volume_source_is_explained(author: Author, image: str) -> None:
    """The failure is reported within seconds, even if the event of the kubelet is late."""
    volume = {"name": "v", "projected": {"sources": [{"configMap": {"name": "absent"}}]}}
    mount = {"name": "v", "mountPath": "/v"}
    started = time.monotonic()
    with pytest.raises(NotReadyError, match="volume v: the ConfigMap absent does not") as failure:
        author.run(image, volumes=[{"volume": volume, "volumeMount": mount}])
    assert time.monotonic() - started < SOON / 2
    assert "kubectl create configmap absent" in (failure.value.hint or "")


def test_a_missing_node_is_explained(author: Author, image: str) -> None:
    started = time.monotonic()
    with pytest.raises(NotReadyError, match="there is no node nonode") as failure:
        author.run(image, nodeName="nonode")
    assert time.monotonic() - started < SOON
    assert "spec.nodeName has to be one of: " in (failure.value.hint or "")


def test_a_redeploy_succeeds_when_missing_objects_exist(author: Author, image: str) -> None:
    """Events of the older ReplicaSet are ignored."""
    with pytest.raises(NotReadyError, match="the service account robot does not exist"):
        author.run(image, serviceAccount="robot")
    metadata = {"name": "robot", "namespace": author.namespace}
    create(author.platform.cluster, SERVICE_ACCOUNT, metadata)
    deployment = author.platform.redeploy(author.namespace, "greeter", author.progress.append)
    assert (deployment.state, deployment.revision) == ("ready", 2)
    check_that_a_concurrent_deploy_from_elsewhere_takes_precedence(author, image)


def test_a_failed_revision_is_kept_on_request(author: Author, image: str) -> None:
    author.run(image)
    with pytest.raises(NotReadyError) as failure:
        author.run(image, env={"FAULT": "raise"}, options={"keep_failed": True})
    assert (failure.value.hint or "").startswith("revision 2 stays in the cluster")
    assert author.live_deployment()["metadata"]["annotations"][REVISION] == "2"
    assert states(author) == ["failed", "active"]
    assert invoke(address(author)) == "hello"
    rolled_back = author.platform.rollback(author.namespace, "greeter", 1, author.progress.append)
    assert (rolled_back.state, rolled_back.revision) == ("ready", 3)


def test_a_failed_first_revision_is_kept(author: Author, image: str) -> None:
    with pytest.raises(NotReadyError) as failure:
        author.run(image, env={"FAULT": "raise"})
    assert "serving" not in (failure.value.hint or "")
    deployment = author.deployment()
    assert (deployment.state, deployment.revision) == ("error", 1)
    assert "the weights are missing" in deployment.message
    assert author.run(image).revision == 2
    assert states(author) == ["active", "failed"]
    check_that_an_interrupted_deploy_keeps_the_old_revision(author, image)


def test_a_model_above_the_memory_limit_is_reported(author: Author, image: str) -> None:
    limits = {"limits": {"memory": "96Mi"}}
    with pytest.raises(NotReadyError, match="out of memory") as failure:
        author.run(image, env={"FAULT": "memory"}, resources=limits)
    assert "96Mi" in failure.value.message
    assert "spec.resources.limits.memory" in f"{failure.value.message}{failure.value.hint}"


def test_a_program_that_exits_repeatedly_is_reported(author: Author) -> None:
    with pytest.raises(NotReadyError, match="ended with exit status 0, 2 times"):
        author.run("python:3.11")


def test_a_deploy_waits_for_the_timeout_on_request(author: Author, image: str) -> None:
    with pytest.raises(NotReadyError, match="still starting after 8 seconds"):
        author.run(
            image,
            env={"FAULT": "raise"},
            readinessTimeoutSeconds=8,
            waitReadinessTimeoutBeforeFailure=True,
        )
    assert any("the weights are missing" in line for line in author.progress), author.progress


def test_a_failed_revision_changes_no_other_objects(author: Author, image: str) -> None:
    author.run(image)
    port = author.deployment().http_port
    triggers = {
        "web": {
            "kind": "http",
            "attributes": {
                "serviceType": "ClusterIP",
                "ingresses": {"0": {"host": "greeter.test", "paths": ["/"]}},
            },
        }
    }
    with pytest.raises(NotReadyError):
        author.run(image, triggers=triggers, env={"FAULT": "raise"})
    assert author.deployment().http_port == port
    assert author.platform.cluster.get(kinds.INGRESS, author.namespace, "nuclio-greeter") is None
    deployment = author.run(image, triggers=triggers)
    assert (deployment.http_port, deployment.details["service"]) == (0, "ClusterIP")
    assert "greeter.test" in deployment.external_urls
    author.run(image)
    assert author.platform.cluster.get(kinds.INGRESS, author.namespace, "nuclio-greeter") is None


def test_a_recreated_function_starts_again_after_a_failure(author: Author, image: str) -> None:
    recreate = {"type": "Recreate"}
    author.run(image, deploymentStrategy=recreate)
    with pytest.raises(NotReadyError) as failure:
        author.run(image, deploymentStrategy=recreate, env={"FAULT": "raise"})
    assert (failure.value.hint or "").startswith("revision 1 starts again")
    assert author.deployment().state == "ready"


def check_that_an_interrupted_deploy_keeps_the_old_revision(author: Author, image: str) -> None:
    """Check it with a function whose second revision serves."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    author.progress = Listener("init_context is running", interrupt)
    with pytest.raises(KeyboardInterrupt):
        author.run(image, env={"FAULT": "hang"})
    assert invoke(address(author)) == "hello"
    assert author.live_deployment()["metadata"]["annotations"][REVISION] == "2"
    assert states(author) == ["failed", "active", "failed"]
    assert author.run(image, env={"WORD": "two"}).state == "ready"


def check_that_a_concurrent_deploy_from_elsewhere_takes_precedence(
    author: Author, image: str
) -> None:
    """Check it with a function whose second revision serves."""
    cluster = author.platform.cluster

    def overtake() -> None:
        body = {"metadata": {"annotations": {REVISION: "9"}}}
        merge_patch(cluster, kinds.DEPLOYMENT, author.namespace, "nuclio-greeter", body)

    author.progress = Listener("init_context is running", overtake)
    with pytest.raises(ConflictError, match="revision 9 has replaced revision 3"):
        author.run(image, env={"FAULT": "hang"})
    # The Deployment is left unchanged because it belongs to the other client.
    env = author.live_deployment()["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {"name": "FAULT", "value": "hang"} in env


def test_a_function_deleted_during_its_deploy_is_an_error(author: Author, image: str) -> None:
    cluster = author.platform.cluster

    def delete() -> None:
        cluster.delete(kinds.DEPLOYMENT, author.namespace, "nuclio-greeter")

    author.progress = Listener("init_context is running", delete)
    with pytest.raises(NotFoundError, match="was deleted while revision 1"):
        author.run(image, env={"FAULT": "hang"})


def test_a_disabled_function_is_in_standby_until_enabled_and_replicas_are_scaled(
    author: Author, image: str
) -> None:
    author.run(image)
    disabled = author.run(image, disable=True)
    assert (disabled.state, disabled.replicas) == ("standby", (0, 0))
    author.run(image, disable=True)
    assert author.progress[-1] == "nothing has changed, and the function is still disabled"
    enabled = author.run(image)
    assert (enabled.state, enabled.replicas) == ("ready", (1, 1))
    assert author.run(image, replicas=2).replicas == (2, 2)
    assert author.run(image, replicas=0).state == "scaledToZero"


def rules(*without: str) -> list[Raw]:
    """Return the RBAC rules that deploys need, without some verbs or resources."""
    groups = {
        "": ["services", "configmaps", "pods", "pods/log", "events", "pods/proxy"],
        "apps": ["deployments"],
        "autoscaling": ["horizontalpodautoscalers"],
        "networking.k8s.io": ["ingresses"],
        "batch": ["cronjobs"],
    }
    verbs = ["get", "list", "watch", "create", "update", "patch", "delete"]
    allowed = [verb for verb in verbs if verb not in without]
    return [
        {
            "apiGroups": [group],
            "resources": [name for name in names if name not in without],
            "verbs": allowed,
        }
        for group, names in groups.items()
    ]


def test_a_deploy_works_without_watches_and_processor_statuses(
    author: Author, image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Polling replaces the watch, and the log replaces the status of the processor."""
    file = kubeconfig_of(
        author.platform.cluster,
        author.namespace,
        "modest",
        rules("watch", "pods/proxy"),
        tmp_path / "kubeconfig",
    )
    monkeypatch.setenv("KUBECONFIG", str(file))
    author.platform = KubernetesPlatform()
    assert author.run(image).state == "ready"
    with pytest.raises(NotReadyError, match="the weights are missing"):
        author.run(image, env={"FAULT": "raise"})
    assert author.deployment().state == "ready"


def test_a_terminating_namespace_is_an_error(author: Author, image: str) -> None:
    author.platform.cluster.delete(kinds.NAMESPACE, "", author.namespace)

    def is_terminating() -> bool:
        live_object = author.platform.cluster.get(kinds.NAMESPACE, "", author.namespace)
        return live_object is None or live_object["status"]["phase"] == "Terminating"

    until("the end of the namespace", is_terminating)
    with pytest.raises((PreconditionError, NotFoundError), match="namespace"):
        author.run(image)
