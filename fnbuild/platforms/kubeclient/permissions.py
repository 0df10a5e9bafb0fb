"""RBAC permissions in a namespace, and their check."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from fnbuild.errors import ForbiddenError
from fnbuild.platforms import Finding
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubeclient.errors import grant_command, rbac_subject
from fnbuild.platforms.kubeclient.kinds import Kind

_AREA = "rights"
_MAX_THREADS = 8
_USER = re.compile(r'user "([^"]+)"')


@dataclass(frozen=True, slots=True)
class Permission:
    """Verbs on a resource that fnbuild needs.

    `consequence` describes what does not work without them; it is empty if nothing works. `role` is
    a built-in cluster role that includes the verbs, or "".
    """

    kind: Kind
    verbs: tuple[str, ...]
    consequence: str = ""
    subresource: str = ""
    cluster_wide: bool = False
    role: str = "edit"

    @property
    def resource(self) -> str:
        """The resource name of RBAC: `pods/log`, `deployments.apps`."""
        return (
            f"{self.kind.resource}/{self.subresource}" if self.subresource else self.kind.resource
        )


READ = ("get", "list")
CHANGE = ("create", "patch", "delete")

STORAGE_PERMISSIONS = (
    Permission(kinds.VOLUME_CLAIM, ("get",), "`model upload` and `model ls` cannot use claims"),
    Permission(kinds.VOLUME_CLAIM, CHANGE, "`create volume` creates no claims"),
    Permission(
        kinds.SERVICE_ACCOUNT,
        ("get", "create", "patch"),
        "`create storage-secret` adds credentials to no ServiceAccount",
    ),
    Permission(
        kinds.VOLUME,
        ("get", *CHANGE),
        "`create volume` creates no volumes of a host path, NFS or EBS",
        cluster_wide=True,
        role="",
    ),
    Permission(
        kinds.STORAGE_CLASS,
        ("list",),
        "`create volume` does not check storage classes",
        cluster_wide=True,
        role="",
    ),
)
"""The permissions of the commands for models in storage."""


def check_permissions(
    cluster: Cluster, namespace: str, permissions: Collection[Permission]
) -> Iterator[Finding]:
    """Yield a finding for each resource with missing permissions, or one if none is missing."""
    pairs = [(permission, verb) for permission in permissions for verb in permission.verbs]
    with ThreadPoolExecutor(_MAX_THREADS) as pool:
        answers = list(pool.map(lambda pair: _is_allowed(cluster, namespace, *pair), pairs))
    missing: dict[Permission, list[str]] = {}
    for (permission, verb), allowed in zip(pairs, answers, strict=True):
        if not allowed:
            missing.setdefault(permission, []).append(verb)
    if not missing:
        text = f'this user may do all that fnbuild does in namespace "{namespace}"'
        yield Finding(_AREA, "ok", text)
        return
    user = _user_name(cluster, namespace, missing)
    for permission, verbs in missing.items():
        where = "in the cluster" if permission.cluster_wide else f'in namespace "{namespace}"'
        text = f"{user or 'this user'} may not {', '.join(verbs)} {permission.resource} {where}"
        yield Finding(
            _AREA,
            "warning" if permission.consequence else "failure",
            f"{text}: {permission.consequence}" if permission.consequence else text,
            _remedy(permission, user, namespace),
        )


def _is_allowed(cluster: Cluster, namespace: str, permission: Permission, verb: str) -> bool:
    scope = "" if permission.cluster_wide else namespace
    return cluster.is_allowed(verb, permission.kind, scope, permission.subresource)


def _user_name(cluster: Cluster, namespace: str, missing: dict[Permission, list[str]]) -> str:
    """Return the name of the user from the server's error for a forbidden list request, or ""."""
    for permission, verbs in missing.items():
        if permission.subresource or "list" not in verbs:
            continue
        try:
            cluster.list(permission.kind, None if permission.cluster_wide else namespace)
        except ForbiddenError as error:
            if user := _USER.search(error.message):
                return user[1]
    return ""


def _remedy(permission: Permission, user: str, namespace: str) -> str:
    """Return the commands with which an administrator grants the permission."""
    subject = rbac_subject(user or "USER")
    if permission.role:
        return (
            f"an administrator can allow it with the cluster's own role {permission.role}:"
            f" `kubectl create rolebinding fnbuild --clusterrole={permission.role} {subject}"
            f" -n {namespace}`; or add the verbs to a role that is bound already"
        )
    role, verbs = f"fnbuild-{permission.kind.plural}", ",".join(permission.verbs)
    scope = "" if permission.cluster_wide else namespace
    return grant_command(role, verbs, permission.resource, subject, scope)
