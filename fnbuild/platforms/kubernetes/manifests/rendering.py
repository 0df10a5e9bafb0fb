"""From a revision to the resources that serve it, as pure functions.

Every object is called `nuclio-<function>`, as Nuclio's are. The Deployment holds everything that a
later command has to know; the record of older revisions is not among these.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from fnbuild.function.secrets import SecretReferences
from fnbuild.function.types import Function, Raw
from fnbuild.platforms import Manifest
from fnbuild.platforms.kubeclient.kinds import DISRUPTION_BUDGET, Kind
from fnbuild.platforms.kubernetes.labels import REVISION_ANNOTATIONS, RevisionRecord
from fnbuild.platforms.kubernetes.manifests import scaling
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

_REVISION_HISTORY_LIMIT = 2


@dataclass(frozen=True, slots=True)
class RenderContext:
    """What the cluster has that resources depend on.

    `hpa`, `cron_job` and `budget` are the kinds that it serves; without `budget` the user may not
    make any. `ingress_class` says that Ingresses have a field for their class. `node_port` is the
    live one, 0 for none; `pull_secret` the secret for functions that name none. `replicas` is for
    the moment in which an autoscaler takes over: what there are; None leaves the number to it.
    """

    hpa: Kind
    cron_job: Kind
    node_port: int = 0
    pull_secret: str = ""
    replicas: int | None = None
    budget: Kind | None = DISRUPTION_BUDGET
    ingress_class: bool = True


def render_manifests(made: RevisionRecord, around: RenderContext) -> tuple[Manifest, ...]:
    """Return Service, Deployment, autoscaler, disruption budget, network policy, Ingress and
    CronJobs, as far as the function has them.

    Raises `InputError` for values that cannot work.
    """
    function = made.function
    found = [
        service_manifest(made, function, around.node_port),
        _deployment(made, function, around),
    ]
    if scaling.has_autoscaler(function):
        found.append(scaling.autoscaler(made, function, around.hpa))
    more = (
        around.budget and disruption_budget(made, function, around.budget),
        network_policy(made, function),
        ingress_manifest(made, function, has_class=around.ingress_class),
    )
    found += [one for one in more if one]
    found += cron_jobs(made, function, around.cron_job, around.pull_secret)
    return tuple(found)


def render_portable(
    made: RevisionRecord, around: RenderContext, *, monitoring: bool = False
) -> tuple[Manifest, ...]:
    """The same to be kept in git: only what follows from the function and its image.

    Without revision, time, owner, live node port or restart stamp, and without values of variables
    that look like secrets: see `needs`. The same function gives the same bytes. With `monitoring`
    a PodMonitor is among them.
    """
    plain = replace(
        made, stamp="", config=SecretReferences(made.key.object).replace_secrets(made.config)
    )
    found = render_manifests(plain, replace(around, node_port=0, replicas=None))
    if monitoring:
        found = (*found, pod_monitor(plain))
    return tuple(_without_revision_annotations(one) for one in found)


def prerequisites(made: RevisionRecord) -> tuple[str, ...]:
    """What `portable` manifests need beside them in the cluster, a sentence each."""
    references = SecretReferences(made.key.object)
    references.replace_secrets(made.config)
    return references.instructions(made.key.namespace)


def _without_revision_annotations(manifest: Manifest) -> Manifest:
    metadata = dict(manifest["metadata"])
    annotations = metadata.pop("annotations", {})
    kept = {name: text for name, text in annotations.items() if name not in REVISION_ANNOTATIONS}
    return {**manifest, "metadata": metadata | ({"annotations": kept} if kept else {})}


def _deployment(made: RevisionRecord, function: Function, around: RenderContext) -> Raw:
    number = scaling.deployment_replicas(function, around.replicas)
    spec: Raw = {} if number is None else {"replicas": number}
    spec |= {
        "selector": {"matchLabels": made.key.selector},
        "strategy": deployment_strategy(made, function),
        # Older revisions are on record elsewhere; these are old ReplicaSets.
        "revisionHistoryLimit": _REVISION_HISTORY_LIMIT,
        "template": pod_template(
            made, function, around.pull_secret, cron_jobs=uses_cron_jobs(function)
        ),
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": made.metadata(made.annotations()),
        "spec": spec,
    }
