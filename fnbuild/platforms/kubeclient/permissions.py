"""Checks of the user's RBAC permissions, one access review for each verb."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from fnbuild.platforms import Finding
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubeclient.errors import ForbiddenError
from fnbuild.platforms.kubeclient.kinds import Kind

_AREA = "rights"
_MAX_THREADS = 8
_USER = re.compile(r'user "([^"]+)"')
_ACCOUNT = re.compile(r"system:serviceaccount:([^:]+):(.+)")


@dataclass(frozen=True, slots=True)
class Permission:
    """Verbs on one resource. `loss` is what does not work without them, "" when nothing does.

    `role` is a cluster role of every cluster that has them, "" when none does.
    """

    kind: Kind
    verbs: tuple[str, ...]
    loss: str = ""
    subresource: str = ""
    everywhere: bool = False
    role: str = "edit"

    @property
    def resource(self) -> str:
        """As RBAC names it: `pods/log`, `deployments.apps`."""
        return (
            f"{self.kind.resource}/{self.subresource}" if self.subresource else self.kind.resource
        )


def check_permissions(
    cluster: Cluster, namespace: str, rights: Sequence[Permission]
) -> Iterator[Finding]:
    """A finding for every resource of which a right is missing, or one that says that none is."""
    asked = [(right, verb) for right in rights for verb in right.verbs]
    with ThreadPoolExecutor(_MAX_THREADS) as pool:
        answers = list(pool.map(lambda one: _is_allowed(cluster, namespace, *one), asked))
    missing: dict[Permission, list[str]] = {}
    for (right, verb), allowed in zip(asked, answers, strict=True):
        if not allowed:
            missing.setdefault(right, []).append(verb)
    if not missing:
        text = f'this user may do all that fnbuild does in namespace "{namespace}"'
        yield Finding(_AREA, "ok", text)
        return
    user = _user_name(cluster, namespace, missing)
    for right, verbs in missing.items():
        where = "in the cluster" if right.everywhere else f'in namespace "{namespace}"'
        text = f"{user or 'this user'} may not {', '.join(verbs)} {right.resource} {where}"
        yield Finding(
            _AREA,
            "warning" if right.loss else "failure",
            f"{text}: {right.loss}" if right.loss else text,
            _remedy(right, user, namespace),
        )


def _is_allowed(cluster: Cluster, namespace: str, right: Permission, verb: str) -> bool:
    place = "" if right.everywhere else namespace
    return cluster.may(verb, right.kind, place, right.subresource)


def _user_name(cluster: Cluster, namespace: str, missing: dict[Permission, list[str]]) -> str:
    """Whom the server takes this user for, which its refusals tell; "" when it refuses nothing that
    can be tried without changing anything.
    """
    for right, verbs in missing.items():
        if right.subresource or "list" not in verbs:
            continue
        try:
            cluster.list(right.kind, None if right.everywhere else namespace)
        except ForbiddenError as error:
            if found := _USER.search(error.message):
                return found[1]
    return ""


def _remedy(right: Permission, user: str, namespace: str) -> str:
    """What an administrator can type."""
    account = _ACCOUNT.fullmatch(user)
    who = f"--serviceaccount={account[1]}:{account[2]}" if account else f"--user='{user or 'USER'}'"
    if right.role:
        return (
            f"an administrator can allow it with the cluster's own role {right.role}:"
            f" `kubectl create rolebinding fnbuild --clusterrole={right.role} {who}"
            f" -n {namespace}`; or add the verbs to a role that is bound already"
        )
    kind, at = ("clusterrole", "") if right.everywhere else ("role", f" -n {namespace}")
    role = f"fnbuild-{right.kind.plural}"
    return (
        f"an administrator can allow it: `kubectl create {kind} {role}"
        f" --verb={','.join(right.verbs)} --resource={right.resource}{at}`, then"
        f" `kubectl create {kind}binding {role} --{kind}={role} {who}{at}`"
    )
