"""From a revision to the resources that serve it, as pure functions.

Every object is called `nuclio-<function>`, as Nuclio's are. The Deployment holds everything that a
later command has to know; the record of older revisions is not among these.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from fnbuild.platforms import Manifest
from fnbuild.platforms.cluster.kinds import DISRUPTION_BUDGET, Kind
from fnbuild.platforms.kube import scaling
from fnbuild.platforms.kube.availability import disruption_budget
from fnbuild.platforms.kube.cron import cron_jobs, in_jobs
from fnbuild.platforms.kube.ingress import ingress
from fnbuild.platforms.kube.isolation import network_policy
from fnbuild.platforms.kube.labels import OF_REVISIONS, Made
from fnbuild.platforms.kube.monitoring import pod_monitor
from fnbuild.platforms.kube.pods import strategy, template
from fnbuild.platforms.kube.service import service
from fnbuild.spec.references import References
from fnbuild.spec.types import Function, Raw

_OLD_REPLICA_SETS = 2


@dataclass(frozen=True, slots=True)
class Surroundings:
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


def manifests(made: Made, around: Surroundings) -> tuple[Manifest, ...]:
    """Return Service, Deployment, autoscaler, disruption budget, network policy, Ingress and
    CronJobs, as far as the function has them.

    Raises `InputError` for values that cannot work.
    """
    function = made.function
    found = [service(made, function, around.node_port), _deployment(made, function, around)]
    if scaling.scales(function):
        found.append(scaling.autoscaler(made, function, around.hpa))
    more = (
        around.budget and disruption_budget(made, function, around.budget),
        network_policy(made, function),
        ingress(made, function, has_class=around.ingress_class),
    )
    found += [one for one in more if one]
    found += cron_jobs(made, function, around.cron_job, around.pull_secret)
    return tuple(found)


def portable(made: Made, around: Surroundings, *, monitoring: bool = False) -> tuple[Manifest, ...]:
    """The same to be kept in git: only what follows from the function and its image.

    Without revision, time, owner, live node port or restart stamp, and without values of variables
    that look like secrets: see `needs`. The same function gives the same bytes. With `monitoring`
    a PodMonitor is among them.
    """
    plain = replace(made, stamp="", config=References(made.key.object).replaced(made.config))
    found = manifests(plain, replace(around, node_port=0, replicas=None))
    if monitoring:
        found = (*found, pod_monitor(plain))
    return tuple(_without_revision(one) for one in found)


def needs(made: Made) -> tuple[str, ...]:
    """What `portable` manifests need beside them in the cluster, a sentence each."""
    references = References(made.key.object)
    references.replaced(made.config)
    return references.needs(made.key.namespace)


def _without_revision(manifest: Manifest) -> Manifest:
    metadata = dict(manifest["metadata"])
    annotations = metadata.pop("annotations", {})
    kept = {name: text for name, text in annotations.items() if name not in OF_REVISIONS}
    return {**manifest, "metadata": metadata | ({"annotations": kept} if kept else {})}


def _deployment(made: Made, function: Function, around: Surroundings) -> Raw:
    number = scaling.replicas(function, around.replicas)
    spec: Raw = {} if number is None else {"replicas": number}
    spec |= {
        "selector": {"matchLabels": made.key.selector},
        "strategy": strategy(made, function),
        # Older revisions are on record elsewhere; these are old ReplicaSets.
        "revisionHistoryLimit": _OLD_REPLICA_SETS,
        "template": template(made, function, around.pull_secret, cron_jobs=in_jobs(function)),
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": made.metadata(made.annotations()),
        "spec": spec,
    }
