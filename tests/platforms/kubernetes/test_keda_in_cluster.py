"""Functions that KEDA scales to zero, in a cluster with its resources.

KEDA itself does not run: the tests scale the Deployment as it does, and a function stands in for
its interceptor.
"""

from __future__ import annotations

import urllib.request

import pytest

from fnbuild.errors import NotReadyError
from fnbuild.function.types import Raw
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubeclient.transport import ApiRequest
from tests.cluster import MERGE
from tests.engine import until
from tests.platforms.crds import KEDA_KINDS, install_definitions
from tests.platforms.kubernetes.author import Author

pytestmark = pytest.mark.system

ZERO = {"minReplicas": 0, "maxReplicas": 1, "serviceType": "ClusterIP"}
PAUSED = "autoscaling.keda.sh/paused"


@pytest.fixture
def keda(cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    install_definitions(cluster, KEDA_KINDS)
    monkeypatch.setenv("FNBUILD_KEDA_NAMESPACE", namespace)


def scale(author: Author, replicas: int) -> None:
    """Set the number of pods as KEDA does, and wait for it."""
    path = kinds.DEPLOYMENT.path(author.namespace, "nuclio-greeter", "scale")
    body = {"spec": {"replicas": replicas}}
    request = ApiRequest("PATCH", path, {"fieldManager": "keda"}, body, MERGE)
    status, answer = author.platform.cluster.transport.request(request)
    assert status == 200, answer
    until("the end of the pods", lambda: author.deployment().replicas == (replicas, replicas))


def scaled_object(author: Author) -> Raw:
    live = author.platform.cluster.get(kinds.SCALED_OBJECT, author.namespace, "nuclio-greeter")
    assert live is not None
    return live


def call(author: Author) -> bytes:
    deployment = author.deployment()
    with author.platform.reachable_url(deployment) as url:
        assert url
        request = urllib.request.Request(url, headers=author.platform.request_headers(deployment))
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.read()


def stand_in(author: Author, image: str) -> None:
    """Run a function in place of KEDA's interceptor."""
    author.run(image, "interceptor", env={"WORD": "held"}, serviceType="ClusterIP")
    name = "keda-add-ons-http-interceptor-proxy"
    selector = {"nuclio.io/function-name": "interceptor"}
    author.platform.cluster.create(
        kinds.SERVICE.manifest(
            {"name": name, "namespace": author.namespace},
            spec={"selector": selector, "ports": [{"port": 8080}]},
        )
    )


def test_keda_scales_a_function_to_zero_and_a_deploy_proves_each_revision(
    keda: None, author: Author, image: str
) -> None:
    deployed = author.run(image, env={"WORD": "one"}, **ZERO)
    assert deployed.state == "ready"
    host = f"nuclio-greeter-proxy.{author.namespace}"
    assert deployed.internal_urls == (f"{host}.svc.cluster.local:8080",)
    assert call(author) == b"one"  # without an interceptor, from the pod

    stand_in(author, image)
    scale(author, 0)
    asleep = author.deployment()
    assert asleep.state == "scaledToZero"
    assert "the next request through its interceptor" in asleep.message
    assert author.platform.request_headers(asleep) == {"Host": host}
    assert call(author) == b"held"
    unchanged = author.plan(image, env={"WORD": "one"}, **ZERO)
    assert not unchanged.effective_changes

    with pytest.raises(NotReadyError, match="the weights are missing"):
        author.run(image, env={"FAULT": "raise"}, **ZERO)
    assert PAUSED not in scaled_object(author)["metadata"].get("annotations", {})

    scale(author, 0)
    author.progress.clear()
    author.run(image, env={"WORD": "two"}, **ZERO)
    assert "starting a pod, because KEDA had ended all" in author.progress
    assert author.deployment().replicas == (1, 1)
    assert PAUSED not in scaled_object(author)["metadata"].get("annotations", {})
    scale(author, 0)  # KEDA may change the number again

    fixed = author.plan(image, env={"WORD": "two"}, serviceType="ClusterIP")
    deleted = {change.target for change in fixed.effective_changes if change.verb == "delete"}
    assert len(deleted) == 3, deleted

    assert author.platform.delete(author.namespace, "greeter")
    for kind in (*KEDA_KINDS, kinds.SERVICE):
        listed = author.platform.cluster.list(kind, author.namespace)
        assert not [obj for obj in listed if "greeter" in obj["metadata"]["name"]]
