"""The live objects of a function, and the features of the cluster that a plan depends on."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from fnbuild.function.types import Function, Raw
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubeclient.errors import ForbiddenError
from fnbuild.platforms.kubeclient.kinds import Kind
from fnbuild.platforms.kubernetes import endpoints, inventory
from fnbuild.platforms.kubernetes import labels as own
from fnbuild.platforms.kubernetes.inventory import FunctionObjects
from fnbuild.platforms.kubernetes.labels import KubernetesKey
from fnbuild.platforms.kubernetes.manifests.rendering import RenderContext

_MAX_THREADS = 6

PULL_SECRET = "registry-credentials"  # noqa: S105 (a name, and Nuclio's)
"""The secret with which nodes pull the images of functions that name none."""


@dataclass(frozen=True, slots=True)
class LiveObjects:
    """The objects of one function that are there now, and its pods."""

    around: RenderContext
    objects: tuple[Raw, ...]
    pods: list[Raw]

    def found(self, manifest: Raw) -> Raw | None:
        """The live object that the manifest would change."""
        place = object_identity(manifest)
        return next((one for one in self.objects if object_identity(one) == place), None)


def object_identity(manifest: Raw) -> tuple[str, str]:
    """Which object of a namespace it is, whatever version of its API it was read from."""
    return str(manifest["kind"]), str(manifest["metadata"]["name"])


def read_live_objects(cluster: Cluster, known: FunctionObjects, function: Function) -> LiveObjects:
    """Everything else that has to be known of the cluster, asked for at the same time."""
    key = known.key
    with ThreadPoolExecutor(_MAX_THREADS) as pool:
        # Who deploys has to see pods, and hears that he may not before anything is changed.
        pods = pool.submit(inventory.list_pods, cluster, key)
        hpa = pool.submit(_hpa_kind, cluster, function)
        crons = pool.submit(list_cron_jobs, cluster, key)
        secret = pool.submit(_pull_secret, cluster, key, function)
        rules = pool.submit(read_policies, cluster, key)
        has_class = pool.submit(_has_ingress_class, cluster, function)
        kind, (cron_kind, jobs) = hpa.result(), crons.result()
        around = RenderContext(
            hpa=kind,
            cron_job=cron_kind,
            node_port=endpoints.node_port(known.service) if known.service else known.node_port,
            pull_secret=secret.result(),
            replicas=_replicas(known),
            budget=rules.result().budget,
            ingress_class=has_class.result(),
        )
    autoscaler = known.hpa
    if autoscaler is not None and kind is not kinds.HPA_V1:
        autoscaler = cluster.get(kind, key.namespace, key.object)
    some = (known.service, known.deployment, autoscaler, known.ingress, *jobs)
    some = (*some, *rules.result().objects)
    return LiveObjects(around, tuple(one for one in some if one is not None), pods.result())


def _hpa_kind(cluster: Cluster, function: Function) -> Kind:
    """v1 knows of nothing but the CPU."""
    spec = function.spec
    if not (spec.auto_scale_metrics or spec.custom_scaling_metric_specs):
        return kinds.HPA_V2 if cluster.serves(kinds.HPA_V2) else kinds.HPA_V1
    some = (kinds.HPA_V2, kinds.HPA_V2BETA2)
    return next((kind for kind in some if cluster.serves(kind)), kinds.HPA_V1)


def list_cron_jobs(cluster: Cluster, key: KubernetesKey) -> tuple[Kind, list[Raw]]:
    """The kind that the cluster serves, and the function's own of it."""
    kind = kinds.CRON_JOB if cluster.serves(kinds.CRON_JOB) else kinds.CRON_JOB_V1BETA1
    try:
        listed = cluster.list(
            kind, key.namespace, labels=f"{own.FNBUILD_SELECTOR},{own.FUNCTION}={key.name}"
        )
    except ForbiddenError:
        return kind, []
    return kind, [one for one in listed if inventory.is_managed(one)]


@dataclass(frozen=True, slots=True)
class FunctionPolicies:
    """The function's disruption budget and network policy, if they exist.

    `budget` is the newest kind of budget that the cluster serves, or None if this user may not
    read budgets.
    """

    budget: Kind | None
    objects: tuple[Raw, ...]


def read_policies(cluster: Cluster, key: KubernetesKey) -> FunctionPolicies:
    """Read the function's policies from the cluster."""
    newest, older = kinds.DISRUPTION_BUDGET, kinds.DISRUPTION_BUDGET_V1BETA1
    budget: Kind | None = newest if cluster.serves(newest) else older
    objects: list[Raw | None] = []
    with suppress(ForbiddenError):
        objects.append(cluster.get(kinds.NETWORK_POLICY, key.namespace, key.object))
    try:
        objects.append(cluster.get(budget or older, key.namespace, key.object))
    except ForbiddenError:
        budget = None
    ours = (policy for policy in objects if policy is not None and inventory.is_managed(policy))
    return FunctionPolicies(budget, tuple(ours))


def _has_ingress_class(cluster: Cluster, function: Function) -> bool:
    trigger = function.http_trigger()
    if trigger is None or not trigger[1].attributes.get("ingresses"):
        return True  # irrelevant without an ingress
    return cluster.serves(kinds.INGRESS_CLASS)


def _pull_secret(cluster: Cluster, key: KubernetesKey, function: Function) -> str:
    if function.spec.image_pull_secrets:
        return ""
    try:
        found = cluster.get(kinds.SECRET, key.namespace, PULL_SECRET)
    except ForbiddenError:
        return ""
    return PULL_SECRET if found is not None else ""


def _replicas(known: FunctionObjects) -> int | None:
    """How many there are, as long as the number is still fnbuild's.

    Who stops to apply a field that nobody else has set gives it back to the cluster, which would
    make it 1; an autoscaler that has changed it has made it its own.
    """
    if known.deployment is None or not _manages_field(known.deployment, "f:replicas"):
        return None
    return int(known.deployment["spec"].get("replicas", 1))


def _manages_field(deployment: Raw, name: str) -> bool:
    for one in deployment["metadata"].get("managedFields") or []:
        if one.get("manager") == own.MANAGER and one.get("operation") == "Apply":
            return name in ((one.get("fieldsV1") or {}).get("f:spec") or {})
    return False
