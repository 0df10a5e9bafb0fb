"""The RBAC permissions that the platform needs in a namespace."""

from __future__ import annotations

from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.permissions import (
    CHANGE,
    READ,
    STORAGE_PERMISSIONS,
    Permission,
)
from fnbuild.platforms.kubernetes.labels import PULL_SECRET

_WITHOUT_WATCH = "a deploy polls once a second instead, and ends a little later"

REQUIRED_PERMISSIONS = (
    Permission(kinds.DEPLOYMENT, (*READ, *CHANGE)),
    Permission(kinds.SERVICE, (*READ, *CHANGE)),
    Permission(kinds.CONFIG_MAP, (*READ, *CHANGE, "update")),
    Permission(kinds.POD, READ),
    Permission(kinds.DEPLOYMENT, ("watch",), _WITHOUT_WATCH),
    Permission(
        kinds.POD,
        ("watch",),
        f"{_WITHOUT_WATCH}; `model upload` and `model ls` cannot use claims",
    ),
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
        "`model upload` and `model ls` cannot use claims, replies of a revision cannot be compared,"
        " and a redeploy with a GPU finds code that cannot be imported after the old pod ended",
    ),
    Permission(kinds.EVENT, ("list",), "errors of failed deploys have less detail"),
    Permission(kinds.HPA_V1, (*READ, *CHANGE), "functions do not scale by load"),
    Permission(kinds.INGRESS, (*READ, *CHANGE), "functions get no ingress"),
    Permission(
        kinds.DISRUPTION_BUDGET,
        ("get", *CHANGE),
        "functions of several replicas get no disruption budget",
    ),
    Permission(kinds.NETWORK_POLICY, ("get", *CHANGE), "`--hardened` functions cannot be deployed"),
    Permission(kinds.CRON_JOB, (*READ, *CHANGE), "cron triggers cannot be CronJobs"),
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
        "`invoke` needs a node port that this machine reaches; `port-forward`, comparisons with a"
        " revision, and `model upload` and `model ls` with claims, do not work",
        "portforward",
    ),
    Permission(
        kinds.POD, ("get", "create"), "`sleep`, `wake`, `record` and `replay` do not work", "exec"
    ),
    *STORAGE_PERMISSIONS,
    Permission(
        kinds.NODE,
        ("list",),
        "nodes cannot be checked, and their addresses are unknown",
        cluster_wide=True,
        role="",
    ),
)
"""The permissions, most important first."""

KEDA_PERMISSIONS = tuple(
    Permission(kind, ("get", *CHANGE), "functions with minReplicas 0 keep a pod", role="")
    for kind in (kinds.SCALED_OBJECT, kinds.INTERCEPTOR_ROUTE, kinds.HTTP_SCALED_OBJECT)
)
"""Those that are needed as well for each of these kinds that a cluster serves."""
