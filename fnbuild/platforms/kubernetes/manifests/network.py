"""Network objects of a function: its Service, Ingress and NetworkPolicy."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator

from fnbuild.errors import InputError
from fnbuild.function.types import Function, Raw, Trigger
from fnbuild.platforms.kubeclient.kinds import NETWORK_POLICY
from fnbuild.platforms.kubernetes import labels
from fnbuild.platforms.kubernetes.labels import PROJECT, RevisionRecord
from fnbuild.platforms.kubernetes.manifests.pods import HTTP_PORT, HTTP_PORT_NAME, is_hardened
from fnbuild.platforms.settings import requested_port

NODE_PORT_RANGE = range(30000, 32768)
"""What clusters give to node ports unless they were told otherwise."""

_SERVICE_TYPES = ("ClusterIP", "NodePort", "LoadBalancer")


def service_type(function: Function) -> str:
    """The trigger's, else the function's, else NodePort, unless no port shall be published.

    Raises `InputError` for others.
    """
    trigger = function.http_trigger()
    attributes = trigger[1].attributes if trigger else {}
    found = str(attributes.get("serviceType") or function.spec.service_type or "")
    if not found:
        return "ClusterIP" if attributes.get("disablePortPublishing") is True else "NodePort"
    if found not in _SERVICE_TYPES:
        raise InputError(
            f"{found!r} is no type of service for a function",
            hint=f"one of: {', '.join(_SERVICE_TYPES)}",
        )
    return found


def requested_node_port(function: Function, live: int) -> int:
    """The port of every node: the one asked for, else the live one, else 0 for any.

    A number outside of the usual range is meant for a single machine.
    """
    if service_type(function) == "ClusterIP":
        return 0
    wanted = requested_port(function)
    return wanted if wanted in NODE_PORT_RANGE else live


def service_manifest(made: RevisionRecord, function: Function, live_port: int) -> Raw:
    port: Raw = {
        "name": HTTP_PORT_NAME,
        "protocol": "TCP",
        "port": HTTP_PORT,
        "targetPort": HTTP_PORT,
    }
    if number := requested_node_port(function, live_port):
        port["nodePort"] = number
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": made.metadata(),
        "spec": {
            "type": service_type(function),
            "selector": made.key.selector,
            "ports": [port, *_sidecar_ports(function)],
        },
    }


def _sidecar_ports(function: Function) -> list[Raw]:
    """Their ports under their names; where one has several, the port's name is added."""
    found = []
    for sidecar in function.spec.sidecars:
        ports = sidecar.get("ports") or []
        for port in ports:
            name = sidecar.get("name", "")
            number = port.get("containerPort")
            found.append(
                {
                    "name": name if len(ports) == 1 else f"{name}-{port.get('name') or number}",
                    "protocol": port.get("protocol") or "TCP",
                    "port": number,
                    "targetPort": number,
                }
            )
    return found


HOST_VARIABLE = "NUCLIO_DASHBOARD_HTTP_INGRESS_HOST_TEMPLATE"
"""Nuclio's variable: what `@nuclio.fromDefault` stands for."""
INGRESS_CLASS_VARIABLE = "FNBUILD_INGRESS_CLASS"
"""The class of Ingresses of functions that name none; without it, the cluster's default."""

_FROM_DEFAULT = "@nuclio.fromDefault"
_CLASS_ANNOTATION = "kubernetes.io/ingress.class"
_BODY_SIZE = "nginx.ingress.kubernetes.io/proxy-body-size"
_DEFAULT_BODY_SIZE = 4 << 20
_TEMPLATE_FIELD = re.compile(r"\{\{\s*\.(\w+)\s*\}\}")
_MAX_LABEL_LENGTH = 63
_RANDOM_CHARS = 8


def ingress_manifest(made: RevisionRecord, function: Function, *, has_class: bool) -> Raw | None:
    """None when the function has none. Raises `InputError` for templates that cannot be filled.
    Without `has_class` the cluster has no field for the class, and an annotation tells it.

    Nuclio's rules (pkg/platform/kube/functionres/lazy.go), but for two annotations: its snippet of
    nginx configuration, which today's controllers refuse, is not there; the largest body is, for
    nginx would refuse most pictures by itself.
    """
    found = function.http_trigger()
    if found is None:
        return None
    name, trigger = found
    given = trigger.attributes.get("ingresses") or {}
    if not given:
        return None
    rules: list[Raw] = []
    secrets: list[Raw] = []
    for key, one in given.items():
        place = f"spec.triggers.{name}.attributes.ingresses.{key}"
        if not isinstance(one, dict):
            raise InputError(f"{place} is no mapping", hint="with `host` and `paths`")
        host = _ingress_host(made, function, one, place)
        rules.append(_ingress_rule(made, function, one, host, place))
        secrets += _ingress_tls(one, host)
    annotations = _ingress_annotations(trigger)
    spec: Raw = {"rules": rules}
    if secrets:
        spec["tls"] = secrets
    chosen = trigger.attributes.get("ingressClassName") or os.environ.get(INGRESS_CLASS_VARIABLE)
    if chosen and _CLASS_ANNOTATION not in annotations:
        if has_class:
            spec = {"ingressClassName": chosen, **spec}
        else:
            annotations[_CLASS_ANNOTATION] = str(chosen)
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": made.metadata(annotations),
        "spec": spec,
    }


def _ingress_annotations(trigger: Trigger) -> dict[str, str]:
    size = trigger.attributes.get("maxRequestBodySize") or _DEFAULT_BODY_SIZE
    return {_BODY_SIZE: str(size)} | trigger.annotations


def _ingress_rule(
    made: RevisionRecord, function: Function, given: Raw, host: str, place: str
) -> Raw:
    backend: Raw = {"service": {"name": made.key.object, "port": {"name": HTTP_PORT_NAME}}}
    kind = given.get("pathType") or "ImplementationSpecific"
    paths = [
        {"path": _ingress_path(function, str(path), place), "pathType": kind, "backend": backend}
        for path in given.get("paths") or ["/"]
    ]
    rule: Raw = {"host": host} if host else {}
    return rule | {"http": {"paths": paths}}


def _ingress_path(function: Function, template: str, place: str) -> str:
    path = _fill_template(template, function, f"{place}.paths")
    return path if path.startswith("/") else f"/{path}"


def _ingress_tls(given: Raw, host: str) -> Iterator[Raw]:
    """`secretName`, or as older files have it `tls` with `secretName` and `hosts`."""
    older = given.get("tls") or {}
    if secret := given.get("secretName") or older.get("secretName"):
        hosts = older.get("hosts") or ([host] if host else [])
        yield {"hosts": hosts, "secretName": secret} if hosts else {"secretName": secret}


def _ingress_host(made: RevisionRecord, function: Function, given: Raw, place: str) -> str:
    """`host`, else `hostTemplate` filled in; a part above 63 characters is cut and gets a suffix.

    Nuclio draws the suffix anew at every deploy, so that the address changes; here it follows from
    the function's name (pkg/platform/kube/platform.go: alignIngressHostSubdomainLevel).
    """
    if given.get("host") or not given.get("hostTemplate"):
        return str(given.get("host") or "")
    template = str(given["hostTemplate"])
    if template == _FROM_DEFAULT:
        template = os.environ.get(HOST_VARIABLE, "")
        if not template:
            raise InputError(
                f"{place}.hostTemplate asks for the default, and there is none",
                hint=f"set {HOST_VARIABLE}, such as '{{{{ .Name }}}}.example.com', or give a host",
            )
    host = _fill_template(template, function, f"{place}.hostTemplate")
    length = given.get("hostTemplateRandomCharsLength")
    if length == -1:
        return host
    count = length if isinstance(length, int) and 0 < length < _MAX_LABEL_LENGTH else _RANDOM_CHARS
    suffix = hashlib.sha256(str(made.key).encode()).hexdigest()[:count]
    return ".".join(_shorten_label(part, suffix) for part in host.split("."))


def _shorten_label(part: str, suffix: str) -> str:
    if len(part) <= _MAX_LABEL_LENGTH:
        return part
    return f"{part[: _MAX_LABEL_LENGTH - len(suffix) - 1].removesuffix('-')}-{suffix}"


def _fill_template(template: str, function: Function, place: str) -> str:
    """A template of Go's with nothing but fields in it."""
    metadata = function.metadata
    fields = {
        "Name": metadata.name,
        "ResourceName": metadata.name,
        "Namespace": metadata.namespace,
        "ProjectName": metadata.labels.get(PROJECT, "default"),
        "Version": "latest",
    }
    text = _TEMPLATE_FIELD.sub(lambda found: fields.get(found[1], found[0]), template)
    if "{{" in text:
        known = ", ".join(f"{{{{ .{name} }}}}" for name in fields)
        raise InputError(f"{place}: {template!r} cannot be filled in", hint=f"it may have {known}")
    return text


ALLOW_FROM_VARIABLE = "FNBUILD_ALLOW_FROM"
"""Variable with the namespaces that may call every hardened function."""

ALL_NAMESPACES = "*"
_ALLOW_FROM_ATTRIBUTE = "spec.platform.attributes.allowFrom"
# Every namespace has it from Kubernetes 1.21 on.
_NAMESPACE_LABEL = "kubernetes.io/metadata.name"


def allowed_namespaces(function: Function) -> tuple[str, ...]:
    """Return the namespaces, besides its own, that may call the function; `*` is all of them.

    Raises `InputError` for an invalid name.
    """
    attribute = function.spec.platform.attributes.get("allowFrom") or []
    entries = attribute if isinstance(attribute, list) else str(attribute).split(",")
    entries = [*entries, *os.environ.get(ALLOW_FROM_VARIABLE, "").split(",")]
    names = tuple(dict.fromkeys(str(entry).strip() for entry in entries if str(entry).strip()))
    for name in names:
        if name != ALL_NAMESPACES and not labels.is_valid_namespace(name):
            raise InputError(
                f"{_ALLOW_FROM_ATTRIBUTE}: {name!r} is no namespace",
                hint=f"a list of namespaces, or {ALL_NAMESPACES!r} for everyone",
            )
    return names


def network_policy(made: RevisionRecord, function: Function) -> Raw | None:
    """Return the policy, or None for a function that is not hardened.

    It restricts ingress only. The kubelet's probes come from the pod's own node, and network
    plugins always allow them.
    """
    if not is_hardened(function):
        return None
    names = allowed_namespaces(function)
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
            "ingress": [{} if ALL_NAMESPACES in names else {"from": peers}],
        },
    }


def network_warnings(function: Function) -> list[str]:
    """Return warnings about ports and ingresses that the policy may block, and a missing policy."""
    if not is_hardened(function):
        if not function.spec.platform.attributes.get("allowFrom"):
            return []
        return [
            f"{_ALLOW_FROM_ATTRIBUTE} has no effect: only a hardened function has a network policy;"
            " `--hardened` makes it one"
        ]
    if ALL_NAMESPACES in allowed_namespaces(function):
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
        f" {', '.join(allowed_namespaces(function)) or 'no other'} in: {' and '.join(some)} may not"
        " be reached from elsewhere; `--allow-from NAMESPACE` adds the ingress controller's,"
        " `--allow-from '*'` everyone"
    ]
