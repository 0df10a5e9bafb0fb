"""The live objects and the features of a cluster that a plan reads."""

from __future__ import annotations

import pytest

from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubeclient.objects import KubeDeployment
from fnbuild.platforms.kubernetes.inventory import FunctionObjects
from fnbuild.platforms.kubernetes.labels import PULL_SECRET, KubernetesKey
from fnbuild.platforms.kubernetes.rollout.live_objects import (
    object_identity,
    read_live_objects,
)
from tests.platforms.kubernetes.author import function_of

pytestmark = pytest.mark.system


@pytest.fixture
def known(namespace: str) -> FunctionObjects:
    return FunctionObjects(KubernetesKey(namespace, "greeter"))


def test_the_secret_for_pulling_images(cluster: Cluster, known: FunctionObjects) -> None:
    namespace = known.key.namespace
    plain = function_of(namespace, "greeter", "a")
    assert read_live_objects(cluster, known, plain).context.pull_secret == ""
    about = {"name": PULL_SECRET, "namespace": namespace}
    cluster.create({"apiVersion": "v1", "kind": "Secret", "metadata": about})
    assert read_live_objects(cluster, known, plain).context.pull_secret == PULL_SECRET
    own = function_of(namespace, "greeter", "a", imagePullSecrets="mine")
    assert read_live_objects(cluster, known, own).context.pull_secret == ""


def test_kinds_that_the_cluster_serves(cluster: Cluster, known: FunctionObjects) -> None:
    namespace = known.key.namespace
    around = read_live_objects(cluster, known, function_of(namespace, "greeter", "a")).context
    assert cluster.serves(around.cron_job)
    assert cluster.serves(around.hpa)
    metrics = [{"metricName": "requests", "sourceType": "Pods", "threshold": 5}]
    scaled = function_of(namespace, "greeter", "a", autoScaleMetrics=metrics)
    assert read_live_objects(cluster, known, scaled).context.hpa is not kinds.HPA_V1


def deployment(manager: str) -> KubeDeployment:
    fields = {"f:spec": {"f:replicas": {}}}
    owned = [{"manager": manager, "operation": "Apply", "fieldsV1": fields}]
    return KubeDeployment(
        apiVersion="apps/v1",
        kind="Deployment",
        metadata={"name": "nuclio-greeter", "managedFields": owned},
        spec={"replicas": 3},
    )


def test_the_number_of_pods_as_long_as_it_is_ours(cluster: Cluster, known: FunctionObjects) -> None:
    function = function_of(known.key.namespace, "greeter", "a")
    known.deployment = deployment("fnbuild")
    live = read_live_objects(cluster, known, function)
    assert live.context.replicas == 3
    assert live.find({"kind": "Deployment", "metadata": {"name": "nuclio-greeter"}}) is not None
    known.deployment = deployment("somebody")
    assert read_live_objects(cluster, known, function).context.replicas is None


def test_an_object_is_the_same_in_every_version_of_its_api() -> None:
    about = {"kind": "HorizontalPodAutoscaler", "metadata": {"name": "a"}}
    one, other = (
        {"apiVersion": "autoscaling/v1", **about},
        {"apiVersion": "autoscaling/v2", **about},
    )
    assert object_identity(one) == object_identity(other)
