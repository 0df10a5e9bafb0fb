"""The RBAC permissions that the platform needs in a namespace."""

from __future__ import annotations

from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.permissions import (
    CHANGE,
    READ,
    STORAGE_PERMISSIONS,
    Permission,
)

REQUIRED_PERMISSIONS = (
    # KServe installs no role for its users.
    Permission(kinds.INFERENCE_SERVICE, (*READ, *CHANGE), role=""),
    Permission(kinds.SERVING_RUNTIME, ("list",), role=""),
    Permission(kinds.CONFIG_MAP, (*READ, *CHANGE, "update")),
    Permission(kinds.POD, ("list",)),
    Permission(
        kinds.SERVING_RUNTIME,
        ("get", *CHANGE),
        "functions with servingRuntime cannot be deployed",
        role="",
    ),
    Permission(
        kinds.SECRET,
        ("get", "create", "update", "delete"),
        "functions with variables that hold secrets cannot be deployed",
    ),
    Permission(kinds.DEPLOYMENT, ("list",), "a deploy may end before old pods are replaced"),
    Permission(kinds.POD, ("get",), "`logs` shows nothing", "log"),
    Permission(kinds.POD, ("get",), "statistics are unknown", "proxy"),
    Permission(
        kinds.POD,
        ("get", "create"),
        "`invoke` needs `--gateway`; `port-forward`, and `model upload` and `model ls` with claims,"
        " do not work",
        "portforward",
    ),
    Permission(
        kinds.POD, ("watch", "create", "delete"), "`model upload` and `model ls` cannot use claims"
    ),
    *STORAGE_PERMISSIONS,
    Permission(
        kinds.CLUSTER_SERVING_RUNTIME,
        ("list",),
        "the runtimes of the cluster are unknown, so that a dry run cannot say which one is chosen",
        cluster_wide=True,
        role="",
    ),
)
"""The permissions, most important first."""
