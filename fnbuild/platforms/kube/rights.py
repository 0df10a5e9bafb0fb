"""What fnbuild does in a namespace of a cluster, as rights that its user needs."""

from __future__ import annotations

from fnbuild.platforms.cluster import kinds
from fnbuild.platforms.cluster.rights import Right
from fnbuild.platforms.kube.surroundings import PULL_SECRET

_READ = ("get", "list")
_UNWATCHED = "a deploy looks once a second instead, and ends a little later"
_CHANGE = ("create", "patch", "delete")

RIGHTS = (
    Right(kinds.DEPLOYMENT, (*_READ, *_CHANGE)),
    Right(kinds.SERVICE, (*_READ, *_CHANGE)),
    Right(kinds.CONFIG_MAP, (*_READ, *_CHANGE, "update")),
    Right(kinds.POD, _READ),
    Right(kinds.DEPLOYMENT, ("watch",), _UNWATCHED),
    Right(kinds.POD, ("watch",), _UNWATCHED),
    Right(
        kinds.SECRET,
        ("get",),
        f"functions do not find the secret {PULL_SECRET}; spec.imagePullSecrets names it",
    ),
    Right(
        kinds.SECRET,
        ("create", "update", "delete"),
        "functions with variables that hold secrets cannot be deployed",
    ),
    Right(
        kinds.REPLICA_SET,
        ("list", "delete"),
        "secrets of a function that an earlier version deployed stay in its old ReplicaSets",
    ),
    Right(
        kinds.POD,
        ("create", "delete"),
        "a redeploy with a GPU finds code that cannot be imported after the old pod ended",
    ),
    Right(kinds.EVENT, ("list",), "a deploy that fails says less of the reason"),
    Right(kinds.HPA_V1, (*_READ, *_CHANGE), "functions do not scale by load"),
    Right(kinds.INGRESS, (*_READ, *_CHANGE), "functions get no ingress"),
    Right(
        kinds.DISRUPTION_BUDGET,
        ("get", *_CHANGE),
        "functions of several replicas get no disruption budget",
    ),
    Right(kinds.NETWORK_POLICY, ("get", *_CHANGE), "`--hardened` functions cannot be deployed"),
    Right(kinds.CRON_JOB, (*_READ, *_CHANGE), "cron triggers cannot be CronJobs"),
    Right(kinds.POD, ("get",), "`logs` shows nothing", "log"),
    Right(
        kinds.POD, ("get",), "a failing init_context is told by the log, not by its words", "proxy"
    ),
    Right(
        kinds.POD,
        ("get", "create"),
        "`invoke` needs a node port that this machine reaches",
        "portforward",
    ),
    Right(
        kinds.NODE,
        ("list",),
        "nodes cannot be examined, and their addresses are not known",
        everywhere=True,
        role="",
    ),
)
"""In the order of their weight."""
