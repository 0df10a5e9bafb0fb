"""The RBAC permissions that fnbuild needs in a namespace."""

from __future__ import annotations

from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.permissions import Permission
from fnbuild.platforms.kubernetes.labels import PULL_SECRET

_READ = ("get", "list")
_WITHOUT_WATCH = "a deploy polls once a second instead, and ends a little later"
_CHANGE = ("create", "patch", "delete")

REQUIRED_PERMISSIONS = (
    Permission(kinds.DEPLOYMENT, (*_READ, *_CHANGE)),
    Permission(kinds.SERVICE, (*_READ, *_CHANGE)),
    Permission(kinds.CONFIG_MAP, (*_READ, *_CHANGE, "update")),
    Permission(kinds.POD, _READ),
    Permission(kinds.DEPLOYMENT, ("watch",), _WITHOUT_WATCH),
    Permission(kinds.POD, ("watch",), _WITHOUT_WATCH),
    Permission(
        kinds.SECRET,
        ("get",),
        f"functions do not use the pull secret {PULL_SECRET} unless spec.imagePullSecrets names it",
    ),
    Permission(
        kinds.SECRET,
        ("create", "update", "delete"),
        "functions with variables that hold secrets cannot be deployed",
    ),
    Permission(
        kinds.REPLICA_SET,
        ("list", "delete"),
        "secrets of a function that an earlier version deployed stay in its old ReplicaSets",
    ),
    Permission(
        kinds.POD,
        ("create", "delete"),
        "a redeploy with a GPU finds code that cannot be imported after the old pod ended",
    ),
    Permission(kinds.EVENT, ("list",), "errors of failed deploys have less detail"),
    Permission(kinds.HPA_V1, (*_READ, *_CHANGE), "functions do not scale by load"),
    Permission(kinds.INGRESS, (*_READ, *_CHANGE), "functions get no ingress"),
    Permission(
        kinds.DISRUPTION_BUDGET,
        ("get", *_CHANGE),
        "functions of several replicas get no disruption budget",
    ),
    Permission(
        kinds.NETWORK_POLICY, ("get", *_CHANGE), "`--hardened` functions cannot be deployed"
    ),
    Permission(kinds.CRON_JOB, (*_READ, *_CHANGE), "cron triggers cannot be CronJobs"),
    Permission(kinds.POD, ("get",), "`logs` shows nothing", "log"),
    Permission(
        kinds.POD,
        ("get",),
        "failures of init_context are read from the log, with less detail",
        "proxy",
    ),
    Permission(
        kinds.POD,
        ("get", "create"),
        "`invoke` needs a node port that this machine reaches",
        "portforward",
    ),
    Permission(
        kinds.NODE,
        ("list",),
        "nodes cannot be checked, and their addresses are unknown",
        cluster_wide=True,
        role="",
    ),
)
"""The permissions, most important first."""
