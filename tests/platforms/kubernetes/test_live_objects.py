"""The live objects and the features of a cluster that a plan reads."""

from __future__ import annotations

import pytest

from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubeclient.manifests import object_identity
from fnbuild.platforms.kubeclient.objects import KubeDeployment
from fnbuild.platforms.kubernetes.inventory import FunctionObjects
from fnbuild.platforms.kubernetes.labels import PULL_SECRET, KubernetesKey
from fnbuild.platforms.kubernetes.rollout.live_objects import read_live_objects
from tests.platforms.kubernetes.author import function_of

pytestmark = pytest.mark.system


@pytest.fixture
def objects(namespace: str) -> FunctionObjects:
    return FunctionObjects(KubernetesKey(namespace, "greeter"))


def test_the_pull_secret_of_the_namespace_is_used(
    cluster: Cluster, objects: FunctionObjects
) -> None:
    namespace = objects.key.namespace
    plain = function_of(namespace, "greeter", "a")
    assert read_live_objects(cluster, objects, plain).context.pull_secret == ""
    metadata = {"name": PULL_SECRET, "namespace": namespace}
    cluster.create({"apiVersion": "v1", "kind": "Secret", "metadata": metadata})
    assert read_live_objects(cluster, objects, plain).context.pull_secret == PULL_SECRET
    with_own_secret = function_of(namespace, "greeter", "a", imagePullSecrets="mine")
    assert read_live_objects(cluster, objects, with_own_secret).context.pull_secret == ""


def test_the_served_kinds_are_selected(cluster: Cluster, objects: FunctionObjects) -> None:
    namespace = objects.key.namespace
    context = read_live_objects(cluster, objects, function_of(namespace, "greeter", "a")).context
    assert cluster.serves(context.cron_job_kind)
    assert cluster.serves(context.hpa_kind)
    metrics = [{"metricName": "requests", "sourceType": "Pods", "threshold": 5}]
    scaled = function_of(namespace, "greeter", "a", autoScaleMetrics=metrics)
    assert read_live_objects(cluster, objects, scaled).context.hpa_kind is not kinds.HPA_V1


def deployment(manager: str) -> KubeDeployment:
    fields = {"f:spec": {"f:replicas": {}}}
    owned = [{"manager": manager, "operation": "Apply", "fieldsV1": fields}]
    return KubeDeployment(
        apiVersion="apps/v1",
        kind="Deployment",
        metadata={"name": "nuclio-greeter", "managedFields": owned},
        spec={"replicas": 3},
    )


def test_replicas_are_read_while_fnbuild_manages_them(
    cluster: Cluster, objects: FunctionObjects
) -> None:
    function = function_of(objects.key.namespace, "greeter", "a")
    objects.deployment = deployment("fnbuild")
    live = read_live_objects(cluster, objects, function)
    assert live.context.replicas == 3
    assert live.find({"kind": "Deployment", "metadata": {"name": "nuclio-greeter"}}) is not None
    objects.deployment = deployment("other")
    assert read_live_objects(cluster, objects, function).context.replicas is None


def test_the_identity_of_an_object_does_not_depend_on_the_api_version() -> None:
    manifest = {"kind": "HorizontalPodAutoscaler", "metadata": {"name": "a"}}
    first, second = (
        {"apiVersion": "autoscaling/v1", **manifest},
        {"apiVersion": "autoscaling/v2", **manifest},
    )
    assert object_identity(first) == object_identity(second)
