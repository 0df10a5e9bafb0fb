"""Rendering of a revision as manifests, by pure functions.

All objects are named `nuclio-<function>`, as in Nuclio. The Deployment holds everything that later
commands need; the ConfigMap with older revisions is not rendered here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from fnbuild.function.secret_references import SecretReferences
from fnbuild.function.types import Function, Raw
from fnbuild.platforms import Manifest
from fnbuild.platforms.kubeclient.kinds import DEPLOYMENT, DISRUPTION_BUDGET, Kind
from fnbuild.platforms.kubernetes.labels import REVISION_ANNOTATIONS, SCALER
from fnbuild.platforms.kubernetes.manifests import keda, scaling
from fnbuild.platforms.kubernetes.manifests.cron_jobs import cron_jobs, uses_cron_jobs
from fnbuild.platforms.kubernetes.manifests.network import (
    ingress_manifest,
    network_policy,
    service_manifest,
)
from fnbuild.platforms.kubernetes.manifests.pods import (
    deployment_strategy,
    pod_monitor,
    pod_template,
)
from fnbuild.platforms.kubernetes.manifests.scaling import disruption_budget
from fnbuild.platforms.kubernetes.revision_record import RevisionRecord

_REVISION_HISTORY_LIMIT = 2


@dataclass(frozen=True, slots=True)
class RenderContext:
    """Properties of the cluster and of live objects on which manifests depend.

    `hpa_kind`, `cron_job_kind` and `budget_kind` are the served kinds; `budget_kind` is None if the
    user may not create any. `has_ingress_class` is True if Ingresses have a field for their class.
    `node_port` is the live one or 0, `pull_secret` the default for functions without one.
    `replicas` is the live number when an autoscaler takes over; None leaves the number to the
    autoscaler. `route_kind` is the kind of routes of KEDA's HTTP add-on, or None without KEDA.
    """

    hpa_kind: Kind
    cron_job_kind: Kind
    node_port: int = 0
    pull_secret: str = ""
    replicas: int | None = None
    budget_kind: Kind | None = DISRUPTION_BUDGET
    has_ingress_class: bool = True
    route_kind: Kind | None = None


def render_manifests(revision: RevisionRecord, context: RenderContext) -> tuple[Manifest, ...]:
    """Return Service, Deployment, autoscaler (or KEDA's objects), disruption budget, network
    policy, Ingress and CronJobs, as far as the function has them.

    Raises `InputError` for values that cannot work.
    """
    function = revision.function
    route_kind = context.route_kind if keda.scales_to_zero(function) else None
    rendered = [
        service_manifest(revision, function, context.node_port),
        _deployment(revision, function, context, to_zero=route_kind is not None),
    ]
    service = keda.proxy_name(revision.key) if route_kind else revision.key.object_name
    ingress = ingress_manifest(
        revision, function, service=service, has_class=context.has_ingress_class
    )
    if route_kind is not None:
        rules = ingress["spec"]["rules"] if ingress is not None else ()
        hosts = [str(rule["host"]) for rule in rules if rule.get("host")]
        rendered += keda.keda_manifests(revision, function, route_kind, hosts)
    elif scaling.has_autoscaler(function):
        rendered.append(scaling.autoscaler(revision, function, context.hpa_kind))
    optional = (
        context.budget_kind and disruption_budget(revision, function, context.budget_kind),
        network_policy(revision, function, (keda.keda_namespace(),) if route_kind else ()),
        ingress,
    )
    rendered += [manifest for manifest in optional if manifest]
    rendered += cron_jobs(revision, function, context.cron_job_kind, context.pull_secret)
    return tuple(rendered)


def render_portable(
    revision: RevisionRecord, context: RenderContext, *, monitoring: bool = False
) -> tuple[Manifest, ...]:
    """Return manifests for version control, which depend on the function and its image only.

    They have no revision, time, owner, live node port or restart stamp, and no values of variables
    that look like secrets: see `prerequisites`. The same function gives the same bytes. With
    `monitoring` they include a PodMonitor.
    """
    plain = replace(
        revision,
        stamp="",
        pod_revision=0,
        config=SecretReferences(revision.key.object_name).replace_secrets(revision.config),
    )
    rendered = render_manifests(plain, replace(context, node_port=0, replicas=None))
    if monitoring:
        rendered = (*rendered, pod_monitor(plain))
    return tuple(_without_revision_annotations(manifest) for manifest in rendered)


def prerequisites(revision: RevisionRecord) -> tuple[str, ...]:
    """Return the objects that portable manifests need in the cluster, one sentence each."""
    references = SecretReferences(revision.key.object_name)
    references.replace_secrets(revision.config)
    return references.instructions(revision.key.namespace)


def _without_revision_annotations(manifest: Manifest) -> Manifest:
    metadata = dict(manifest["metadata"])
    annotations = metadata.pop("annotations", {})
    kept = {name: text for name, text in annotations.items() if name not in REVISION_ANNOTATIONS}
    return {**manifest, "metadata": metadata | ({"annotations": kept} if kept else {})}


def _deployment(
    revision: RevisionRecord, function: Function, context: RenderContext, *, to_zero: bool
) -> Raw:
    number = scaling.deployment_replicas(function, context.replicas, to_zero=to_zero)
    spec: Raw = {} if number is None else {"replicas": number}
    spec |= {
        "selector": {"matchLabels": revision.key.pod_selector},
        "strategy": deployment_strategy(revision, function),
        # The number of old ReplicaSets; older revisions are in the ConfigMap.
        "revisionHistoryLimit": _REVISION_HISTORY_LIMIT,
        "template": pod_template(
            revision, function, context.pull_secret, cron_jobs=uses_cron_jobs(function)
        ),
    }
    annotations = revision.annotations() | ({SCALER: keda.SCALER_NAME} if to_zero else {})
    return DEPLOYMENT.manifest(revision.metadata(annotations), spec=spec)
