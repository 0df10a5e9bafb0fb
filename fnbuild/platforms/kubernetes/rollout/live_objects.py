"""The live objects of a function, and the features of the cluster that a plan depends on."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from fnbuild.errors import ForbiddenError
from fnbuild.function.types import Function, Raw
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster, if_allowed
from fnbuild.platforms.kubeclient.kinds import Kind
from fnbuild.platforms.kubeclient.manifests import object_identity
from fnbuild.platforms.kubeclient.objects import Pod
from fnbuild.platforms.kubeclient.ownership import is_managed
from fnbuild.platforms.kubernetes import endpoints, inventory, labels
from fnbuild.platforms.kubernetes.inventory import FunctionObjects
from fnbuild.platforms.kubernetes.labels import KubernetesKey
from fnbuild.platforms.kubernetes.manifests.keda import proxy_name
from fnbuild.platforms.kubernetes.manifests.rendering import RenderContext

_MAX_THREADS = 6


@dataclass(frozen=True, slots=True)
class LiveObjects:
    """The live objects of a function, and its pods."""

    context: RenderContext
    objects: tuple[Raw, ...]
    pods: list[Pod]

    def find(self, manifest: Raw) -> Raw | None:
        """Return the live object that a manifest would change, or None."""
        identity = object_identity(manifest)
        return next((obj for obj in self.objects if object_identity(obj) == identity), None)


def read_live_objects(
    cluster: Cluster, existing: FunctionObjects, function: Function
) -> LiveObjects:
    """Read everything else that a plan needs from the cluster, concurrently."""
    key = existing.key
    with ThreadPoolExecutor(_MAX_THREADS) as pool:
        # A deploy needs to list pods: fail before anything is changed if that is forbidden.
        pods = pool.submit(inventory.list_pods, cluster, key)
        hpa = pool.submit(_hpa_kind, cluster, function)
        crons = pool.submit(list_cron_jobs, cluster, key)
        secret = pool.submit(_pull_secret, cluster, key, function)
        policies_found = pool.submit(read_policies, cluster, key)
        has_class = pool.submit(_has_ingress_class, cluster, function)
        keda_found = pool.submit(read_keda, cluster, key)
        kind, (cron_kind, jobs) = hpa.result(), crons.result()
        service = existing.service
        node_port = endpoints.node_port(service) if service else existing.node_port
        context = RenderContext(
            hpa_kind=kind,
            cron_job_kind=cron_kind,
            node_port=node_port,
            pull_secret=secret.result(),
            replicas=_replicas(existing),
            budget_kind=policies_found.result().budget_kind,
            has_ingress_class=has_class.result(),
            route_kind=keda_found.result().route_kind,
        )
    autoscaler = existing.hpa
    if autoscaler is not None and kind is not kinds.HPA_V1:
        autoscaler = cluster.get(kind, key.namespace, key.object_name)
    objects = (existing.service, existing.deployment, autoscaler, existing.ingress, *jobs)
    objects = (*objects, *policies_found.result().objects, *keda_found.result().objects)
    return LiveObjects(context, tuple(obj for obj in objects if obj is not None), pods.result())


def _hpa_kind(cluster: Cluster, function: Function) -> Kind:
    """Return the served kind of autoscaler; autoscaling/v1 supports CPU only."""
    spec = function.spec
    if not (spec.auto_scale_metrics or spec.custom_scaling_metric_specs):
        return kinds.HPA_V2 if cluster.serves(kinds.HPA_V2) else kinds.HPA_V1
    kinds_by_age = (kinds.HPA_V2, kinds.HPA_V2BETA2)
    return next((kind for kind in kinds_by_age if cluster.serves(kind)), kinds.HPA_V1)


def list_cron_jobs(cluster: Cluster, key: KubernetesKey) -> tuple[Kind, list[Raw]]:
    """Return the served kind of CronJobs, and those of the function."""
    kind = kinds.CRON_JOB if cluster.serves(kinds.CRON_JOB) else kinds.CRON_JOB_V1BETA1
    listed = if_allowed(lambda: cluster.list(kind, key.namespace, labels=key.selector), ())
    return kind, [cron_job for cron_job in listed if is_managed(cron_job)]


@dataclass(frozen=True, slots=True)
class FunctionPolicies:
    """The function's disruption budget and network policy, if they exist.

    `budget_kind` is the newest kind of budget that the cluster serves, or None if this user may not
    read budgets.
    """

    budget_kind: Kind | None
    objects: tuple[Raw, ...]


def read_policies(cluster: Cluster, key: KubernetesKey) -> FunctionPolicies:
    """Read the function's policies from the cluster."""
    newest, older = kinds.DISRUPTION_BUDGET, kinds.DISRUPTION_BUDGET_V1BETA1
    budget_kind: Kind | None = newest if cluster.serves(newest) else older
    objects: list[Raw | None] = []
    with suppress(ForbiddenError):
        objects.append(cluster.get(kinds.NETWORK_POLICY, key.namespace, key.object_name))
    try:
        objects.append(cluster.get(budget_kind or older, key.namespace, key.object_name))
    except ForbiddenError:
        budget_kind = None
    ours = (policy for policy in objects if policy is not None and is_managed(policy))
    return FunctionPolicies(budget_kind, tuple(ours))


@dataclass(frozen=True, slots=True)
class KedaObjects:
    """The function's objects of KEDA, if they exist.

    `route_kind` is the newest kind of routes that the cluster serves; None without KEDA, or if this
    user may not read its objects.
    """

    route_kind: Kind | None = None
    objects: tuple[Raw, ...] = ()


def read_keda(cluster: Cluster, key: KubernetesKey) -> KedaObjects:
    """Read the function's objects of KEDA and of its HTTP add-on from the cluster."""
    routes = [
        kind for kind in (kinds.INTERCEPTOR_ROUTE, kinds.HTTP_SCALED_OBJECT) if cluster.serves(kind)
    ]
    if not routes or not cluster.serves(kinds.SCALED_OBJECT):
        return KedaObjects()
    wanted = [(kind, key.object_name) for kind in (*routes, kinds.SCALED_OBJECT)]
    try:
        candidates = [
            cluster.get(kind, key.namespace, name)
            for kind, name in (*wanted, (kinds.SERVICE, proxy_name(key)))
        ]
    except ForbiddenError:
        return KedaObjects()
    ours = (obj for obj in candidates if obj is not None and is_managed(obj))
    return KedaObjects(routes[0], tuple(ours))


def _has_ingress_class(cluster: Cluster, function: Function) -> bool:
    trigger = function.http_trigger()
    if trigger is None or not trigger[1].attributes.get("ingresses"):
        return True  # irrelevant without an ingress
    return cluster.serves(kinds.INGRESS_CLASS)


def _pull_secret(cluster: Cluster, key: KubernetesKey, function: Function) -> str:
    if function.spec.image_pull_secrets:
        return ""
    return inventory.default_pull_secret(cluster, key.namespace)


def _replicas(existing: FunctionObjects) -> int | None:
    """Return the live number of replicas while fnbuild manages the field, or None.

    If the only manager of the field stops applying it, the cluster resets it to 1. An autoscaler
    that has changed the field has become its manager.
    """
    if existing.deployment is None:
        return None
    fields = existing.deployment.apply_entry(labels.MANAGER).section("fieldsV1").section("f:spec")
    return existing.deployment.desired_replicas if "f:replicas" in fields else None
