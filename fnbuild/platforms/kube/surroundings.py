"""What the cluster has that a plan depends on: the objects that are there, and what it serves."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from fnbuild.platforms.cluster import kinds
from fnbuild.platforms.cluster.api import Cluster
from fnbuild.platforms.cluster.faults import ForbiddenError
from fnbuild.platforms.cluster.kinds import Kind
from fnbuild.platforms.kube import addresses, inventory
from fnbuild.platforms.kube import labels as own
from fnbuild.platforms.kube.inventory import Known
from fnbuild.platforms.kube.labels import Key
from fnbuild.platforms.kube.manifests import Surroundings
from fnbuild.spec.types import Function, Raw

_AT_ONCE = 6

PULL_SECRET = "registry-credentials"  # noqa: S105 (a name, and Nuclio's)
"""The secret with which nodes pull the images of functions that name none."""


@dataclass(frozen=True, slots=True)
class Live:
    """The objects of one function that are there now, and its pods."""

    around: Surroundings
    objects: tuple[Raw, ...]
    pods: list[Raw]

    def found(self, manifest: Raw) -> Raw | None:
        """The live object that the manifest would change."""
        place = identity(manifest)
        return next((one for one in self.objects if identity(one) == place), None)


def identity(manifest: Raw) -> tuple[str, str]:
    """Which object of a namespace it is, whatever version of its API it was read from."""
    return str(manifest["kind"]), str(manifest["metadata"]["name"])


def look(cluster: Cluster, known: Known, function: Function) -> Live:
    """Everything else that has to be known of the cluster, asked for at the same time."""
    key = known.key
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        # Who deploys has to see pods, and hears that he may not before anything is changed.
        pods = pool.submit(inventory.pods, cluster, key)
        hpa = pool.submit(_hpa_kind, cluster, function)
        crons = pool.submit(cron_jobs, cluster, key)
        secret = pool.submit(_pull_secret, cluster, key, function)
        rules = pool.submit(policies, cluster, key)
        has_class = pool.submit(_has_ingress_class, cluster, function)
        kind, (cron_kind, jobs) = hpa.result(), crons.result()
        around = Surroundings(
            hpa=kind,
            cron_job=cron_kind,
            node_port=addresses.node_port(known.service) if known.service else known.node_port,
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
    return Live(around, tuple(one for one in some if one is not None), pods.result())


def _hpa_kind(cluster: Cluster, function: Function) -> Kind:
    """v1 knows of nothing but the CPU."""
    spec = function.spec
    if not (spec.auto_scale_metrics or spec.custom_scaling_metric_specs):
        return kinds.HPA_V2 if cluster.serves(kinds.HPA_V2) else kinds.HPA_V1
    some = (kinds.HPA_V2, kinds.HPA_V2BETA2)
    return next((kind for kind in some if cluster.serves(kind)), kinds.HPA_V1)


def cron_jobs(cluster: Cluster, key: Key) -> tuple[Kind, list[Raw]]:
    """The kind that the cluster serves, and the function's own of it."""
    kind = kinds.CRON_JOB if cluster.serves(kinds.CRON_JOB) else kinds.CRON_JOB_V1BETA1
    try:
        listed = cluster.list(kind, key.namespace, labels=f"{own.OURS},{own.FUNCTION}={key.name}")
    except ForbiddenError:
        return kind, []
    return kind, [one for one in listed if inventory.ours(one)]


@dataclass(frozen=True, slots=True)
class Policies:
    """The function's disruption budget and network policy, if they exist.

    `budget` is the newest kind of budget that the cluster serves, or None if this user may not
    read budgets.
    """

    budget: Kind | None
    objects: tuple[Raw, ...]


def policies(cluster: Cluster, key: Key) -> Policies:
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
    ours = (policy for policy in objects if policy is not None and inventory.ours(policy))
    return Policies(budget, tuple(ours))


def _has_ingress_class(cluster: Cluster, function: Function) -> bool:
    trigger = function.http_trigger()
    if trigger is None or not trigger[1].attributes.get("ingresses"):
        return True  # irrelevant without an ingress
    return cluster.serves(kinds.INGRESS_CLASS)


def _pull_secret(cluster: Cluster, key: Key, function: Function) -> str:
    if function.spec.image_pull_secrets:
        return ""
    try:
        found = cluster.get(kinds.SECRET, key.namespace, PULL_SECRET)
    except ForbiddenError:
        return ""
    return PULL_SECRET if found is not None else ""


def _replicas(known: Known) -> int | None:
    """How many there are, as long as the number is still fnbuild's.

    Who stops to apply a field that nobody else has set gives it back to the cluster, which would
    make it 1; an autoscaler that has changed it has made it its own.
    """
    if known.deployment is None or not _applied(known.deployment, "f:replicas"):
        return None
    return int(known.deployment["spec"].get("replicas", 1))


def _applied(deployment: Raw, name: str) -> bool:
    for one in deployment["metadata"].get("managedFields") or []:
        if one.get("manager") == own.MANAGER and one.get("operation") == "Apply":
            return name in ((one.get("fieldsV1") or {}).get("f:spec") or {})
    return False
