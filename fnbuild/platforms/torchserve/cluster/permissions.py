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
    Permission(kinds.DEPLOYMENT, ("get", *CHANGE)),
    Permission(kinds.SERVICE, ("get", *CHANGE)),
    Permission(kinds.CONFIG_MAP, (*READ, *CHANGE, "update")),
    Permission(kinds.POD, ("list",)),
    Permission(
        kinds.POD,
        ("get", "watch", "create", "delete"),
        "deploys need `storeMount`, a local mount of the store's claim",
    ),
    Permission(
        kinds.POD,
        ("get", "create"),
        "`invoke` and `port-forward` do not work, and deploys need `storeMount`",
        "portforward",
    ),
    Permission(
        kinds.POD,
        ("get", "create"),
        "`invoke` has no tokens, `fnbuild torchserve` does not work, and `get` does not compare"
        " replicas",
        "exec",
    ),
    Permission(kinds.POD, ("get",), "`logs` shows nothing", "log"),
    Permission(kinds.POD, ("get",), "statistics are unknown", "proxy"),
    Permission(
        kinds.SECRET,
        ("get", "create", "update", "delete"),
        "functions with variables that hold secrets cannot be deployed",
    ),
    *STORAGE_PERMISSIONS,
)
"""The permissions, most important first."""
