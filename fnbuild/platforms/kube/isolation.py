"""The NetworkPolicy of a hardened function: which namespaces may call it."""

from __future__ import annotations

import os

from fnbuild.errors import InputError
from fnbuild.platforms.cluster.kinds import NETWORK_POLICY
from fnbuild.platforms.kube import allowed
from fnbuild.platforms.kube.hardening import hardened
from fnbuild.platforms.kube.labels import Made
from fnbuild.platforms.kube.service import service_type
from fnbuild.spec.types import Function, Raw

ALLOW_FROM = "FNBUILD_ALLOW_FROM"
"""Variable with the namespaces that may call every hardened function."""

EVERYWHERE = "*"
_ATTRIBUTE = "spec.platform.attributes.allowFrom"
# Every namespace has it from Kubernetes 1.21 on.
_NAMESPACE_LABEL = "kubernetes.io/metadata.name"


def callers(function: Function) -> tuple[str, ...]:
    """Return the namespaces, besides its own, that may call the function; `*` is all of them.

    Raises `InputError` for an invalid name.
    """
    attribute = function.spec.platform.attributes.get("allowFrom") or []
    entries = attribute if isinstance(attribute, list) else str(attribute).split(",")
    entries = [*entries, *os.environ.get(ALLOW_FROM, "").split(",")]
    names = tuple(dict.fromkeys(str(entry).strip() for entry in entries if str(entry).strip()))
    for name in names:
        if name != EVERYWHERE and not allowed.is_namespace(name):
            raise InputError(
                f"{_ATTRIBUTE}: {name!r} is no namespace",
                hint=f"a list of namespaces, or {EVERYWHERE!r} for everyone",
            )
    return names


def network_policy(made: Made, function: Function) -> Raw | None:
    """Return the policy, or None for a function that is not hardened.

    It restricts ingress only. The kubelet's probes come from the pod's own node, and network
    plugins always allow them.
    """
    if not hardened(function):
        return None
    names = callers(function)
    peers: list[Raw] = [{"podSelector": {}}]
    peers += [
        {"namespaceSelector": {"matchLabels": {_NAMESPACE_LABEL: name}}}
        for name in names
        if name != made.key.namespace
    ]
    return {
        "apiVersion": NETWORK_POLICY.api,
        "kind": NETWORK_POLICY.name,
        "metadata": made.metadata(),
        "spec": {
            "podSelector": {"matchLabels": made.key.selector},
            "policyTypes": ["Ingress"],
            "ingress": [{} if EVERYWHERE in names else {"from": peers}],
        },
    }


def warnings_for(function: Function) -> list[str]:
    """Return warnings about ports and ingresses that the policy may block, and a missing policy."""
    if not hardened(function):
        if not function.spec.platform.attributes.get("allowFrom"):
            return []
        return [
            f"{_ATTRIBUTE} has no effect: only a hardened function has a network policy;"
            " `--hardened` makes it one"
        ]
    if EVERYWHERE in callers(function):
        return []
    kind = service_type(function)
    trigger = function.http_trigger()
    some = [f"its {kind} port"] if kind != "ClusterIP" else []
    if trigger is not None and trigger[1].attributes.get("ingresses"):
        some.append("its ingress")
    if not some:
        return []
    return [
        f"the network policy of a hardened function lets pods of its own namespace and of"
        f" {', '.join(callers(function)) or 'no other'} in: {' and '.join(some)} may not be reached"
        " from elsewhere; `--allow-from NAMESPACE` adds the ingress controller's,"
        " `--allow-from '*'` everyone"
    ]
