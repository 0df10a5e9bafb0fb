"""The network objects of a function: Service, Ingress and NetworkPolicy."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator

from fnbuild.builder.grpc_packages import serves_grpc
from fnbuild.errors import InputError
from fnbuild.function.types import Function, Raw
from fnbuild.platforms.kubeclient.kinds import INGRESS, NETWORK_POLICY, SERVICE
from fnbuild.platforms.kubeclient.object_names import is_valid_namespace
from fnbuild.platforms.kubernetes.labels import PROJECT
from fnbuild.platforms.kubernetes.manifests.pods import (
    GRPC_PORT,
    GRPC_PORT_NAME,
    HTTP_PORT,
    HTTP_PORT_NAME,
    is_hardened,
)
from fnbuild.platforms.kubernetes.revision_record import RevisionRecord
from fnbuild.platforms.settings import requested_port

NODE_PORT_RANGE = range(30000, 32768)
"""The default range of node ports."""

_SERVICE_TYPES = ("ClusterIP", "NodePort", "LoadBalancer")

HOST_VARIABLE = "NUCLIO_DASHBOARD_HTTP_INGRESS_HOST_TEMPLATE"
"""Nuclio's variable with the value of `@nuclio.fromDefault`."""
INGRESS_CLASS_VARIABLE = "FNBUILD_INGRESS_CLASS"
"""The variable with the default class of Ingresses; without it, the cluster's default."""

_FROM_DEFAULT = "@nuclio.fromDefault"
_CLASS_ANNOTATION = "kubernetes.io/ingress.class"
_BODY_SIZE = "nginx.ingress.kubernetes.io/proxy-body-size"
_DEFAULT_BODY_SIZE = 4 << 20
_TEMPLATE_FIELD = re.compile(r"\{\{\s*\.(\w+)\s*\}\}")
_MAX_LABEL_LENGTH = 63
_RANDOM_CHARS = 8

ALLOW_FROM_VARIABLE = "FNBUILD_ALLOW_FROM"
"""Variable with the namespaces that may call every hardened function."""

ALL_NAMESPACES = "*"
_ALLOW_FROM_ATTRIBUTE = "spec.platform.attributes.allowFrom"
# Every namespace has it from Kubernetes 1.21 on.
_NAMESPACE_LABEL = "kubernetes.io/metadata.name"


def service_type(function: Function) -> str:
    """Return the type of the trigger, of the function, or the default.

    The default is NodePort, or ClusterIP if publishing ports is disabled. Raises `InputError` for
    an unknown type.
    """
    trigger = function.http_trigger()
    attributes = trigger[1].attributes if trigger else {}
    kind = str(attributes.get("serviceType") or function.spec.service_type or "")
    if not kind:
        return "ClusterIP" if attributes.get("disablePortPublishing") is True else "NodePort"
    if kind not in _SERVICE_TYPES:
        raise InputError(
            f"{kind!r} is no type of service for a function",
            hint=f"one of: {', '.join(_SERVICE_TYPES)}",
        )
    return kind


def requested_node_port(function: Function, live: int) -> int:
    """Return the requested node port, or else the live one, or else 0 for any.

    A port outside the default range is meant for other platforms.
    """
    if service_type(function) == "ClusterIP":
        return 0
    requested = requested_port(function)
    return requested if requested in NODE_PORT_RANGE else live


def service_manifest(revision: RevisionRecord, function: Function, live_port: int) -> Raw:
    port: Raw = {
        "name": HTTP_PORT_NAME,
        "protocol": "TCP",
        "port": HTTP_PORT,
        "targetPort": HTTP_PORT,
    }
    if number := requested_node_port(function, live_port):
        port["nodePort"] = number
    spec = {
        "type": service_type(function),
        "selector": revision.key.pod_selector,
        "ports": [port, *_grpc_ports(function), *_sidecar_ports(function)],
    }
    return SERVICE.manifest(revision.metadata(), spec=spec)


def _grpc_ports(function: Function) -> list[Raw]:
    """Return the gRPC port, if there is one. Its node port is the cluster's choice, and stays."""
    if not serves_grpc(function):
        return []
    port = {"name": GRPC_PORT_NAME, "protocol": "TCP", "port": GRPC_PORT, "targetPort": GRPC_PORT}
    return [port]


def _sidecar_ports(function: Function) -> list[Raw]:
    """Return the ports of sidecars, named after the sidecar and, if it has several, the port."""
    service_ports = []
    for sidecar in function.spec.sidecars:
        ports = sidecar.get("ports") or []
        for port in ports:
            name = sidecar.get("name", "")
            number = port.get("containerPort")
            service_ports.append(
                {
                    "name": name if len(ports) == 1 else f"{name}-{port.get('name') or number}",
                    "protocol": port.get("protocol") or "TCP",
                    "port": number,
                    "targetPort": number,
                }
            )
    return service_ports


def ingress_manifest(
    revision: RevisionRecord, function: Function, *, service: str, has_class: bool
) -> Raw | None:
    """Return the Ingress, which leads to a Service, or None.

    Without `has_class`, the cluster has no field for the class, and an annotation is used. Raises
    `InputError` for templates that cannot be filled in.

    The rules are Nuclio's (pkg/platform/kube/functionres/lazy.go), except for two annotations: its
    nginx configuration snippet is omitted because current controllers reject it; the maximum body
    size is added because nginx rejects most images by default.
    """
    http_trigger = function.http_trigger()
    if http_trigger is None:
        return None
    name, trigger = http_trigger
    ingresses = trigger.attributes.get("ingresses") or {}
    if not ingresses:
        return None
    rules: list[Raw] = []
    secrets: list[Raw] = []
    for key, settings in ingresses.items():
        config_key = f"spec.triggers.{name}.attributes.ingresses.{key}"
        if not isinstance(settings, dict):
            raise InputError(f"{config_key} is no mapping", hint="with `host` and `paths`")
        host = _ingress_host(revision, function, settings, config_key)
        rules.append(_ingress_rule(service, function, settings, host, config_key))
        secrets += _ingress_tls(settings, host)
    body_size = trigger.attributes.get("maxRequestBodySize") or _DEFAULT_BODY_SIZE
    annotations = {_BODY_SIZE: str(body_size)} | trigger.annotations
    spec: Raw = {"rules": rules}
    if secrets:
        spec["tls"] = secrets
    chosen = trigger.attributes.get("ingressClassName") or os.environ.get(INGRESS_CLASS_VARIABLE)
    if chosen and _CLASS_ANNOTATION not in annotations:
        if has_class:
            spec = {"ingressClassName": chosen, **spec}
        else:
            annotations[_CLASS_ANNOTATION] = str(chosen)
    return INGRESS.manifest(revision.metadata(annotations), spec=spec)


def _ingress_rule(
    service: str, function: Function, settings: Raw, host: str, config_key: str
) -> Raw:
    backend: Raw = {"service": {"name": service, "port": {"name": HTTP_PORT_NAME}}}
    kind = settings.get("pathType") or "ImplementationSpecific"
    templates = [str(path) for path in settings.get("paths") or ["/"]]
    filled = [_fill_template(path, function, f"{config_key}.paths") for path in templates]
    paths = [
        {"path": f"/{path.removeprefix('/')}", "pathType": kind, "backend": backend}
        for path in filled
    ]
    rule: Raw = {"host": host} if host else {}
    return rule | {"http": {"paths": paths}}


def _ingress_tls(settings: Raw, host: str) -> Iterator[Raw]:
    """Yield the TLS entry: `secretName`, or `tls` with `secretName` and `hosts` in older files."""
    tls = settings.get("tls") or {}
    if secret := settings.get("secretName") or tls.get("secretName"):
        hosts = tls.get("hosts") or ([host] if host else [])
        yield {"hosts": hosts, "secretName": secret} if hosts else {"secretName": secret}


def _ingress_host(
    revision: RevisionRecord, function: Function, settings: Raw, config_key: str
) -> str:
    """Return `host`, or else the filled `hostTemplate`, with labels of at most 63 characters.

    A longer label is cut and gets a suffix. Nuclio's suffix is random and changes the address with
    each deploy; here it follows from the function's name (pkg/platform/kube/platform.go:
    alignIngressHostSubdomainLevel).
    """
    if settings.get("host") or not settings.get("hostTemplate"):
        return str(settings.get("host") or "")
    template = str(settings["hostTemplate"])
    if template == _FROM_DEFAULT:
        template = os.environ.get(HOST_VARIABLE, "")
        if not template:
            raise InputError(
                f"{config_key}.hostTemplate refers to the default, which is not set",
                hint=f"set {HOST_VARIABLE}, such as '{{{{ .Name }}}}.example.com', or give a host",
            )
    host = _fill_template(template, function, f"{config_key}.hostTemplate")
    length = settings.get("hostTemplateRandomCharsLength")
    if length == -1:
        return host
    count = length if isinstance(length, int) and 0 < length < _MAX_LABEL_LENGTH else _RANDOM_CHARS
    suffix = hashlib.sha256(str(revision.key).encode()).hexdigest()[:count]
    return ".".join(_shorten_label(dns_label, suffix) for dns_label in host.split("."))


def _shorten_label(dns_label: str, suffix: str) -> str:
    if len(dns_label) <= _MAX_LABEL_LENGTH:
        return dns_label
    return f"{dns_label[: _MAX_LABEL_LENGTH - len(suffix) - 1].removesuffix('-')}-{suffix}"


def _fill_template(template: str, function: Function, config_key: str) -> str:
    """Fill in a Go template that consists of fields only."""
    metadata = function.metadata
    fields = {
        "Name": metadata.name,
        "ResourceName": metadata.name,
        "Namespace": metadata.namespace,
        "ProjectName": metadata.labels.get(PROJECT, "default"),
        "Version": "latest",
    }
    text = _TEMPLATE_FIELD.sub(lambda field: fields.get(field[1], field[0]), template)
    if "{{" in text:
        placeholders = ", ".join(f"{{{{ .{name} }}}}" for name in fields)
        raise InputError(
            f"{config_key}: {template!r} cannot be filled in", hint=f"it may have {placeholders}"
        )
    return text


def allowed_namespaces(function: Function) -> tuple[str, ...]:
    """Return the namespaces, besides its own, that may call the function; `*` is all of them.

    Raises `InputError` for an invalid name.
    """
    attribute = function.spec.platform.attributes.get("allowFrom") or []
    entries = attribute if isinstance(attribute, list) else str(attribute).split(",")
    entries = [*entries, *os.environ.get(ALLOW_FROM_VARIABLE, "").split(",")]
    namespaces = tuple(dict.fromkeys(str(entry).strip() for entry in entries if str(entry).strip()))
    for name in namespaces:
        if name != ALL_NAMESPACES and not is_valid_namespace(name):
            raise InputError(
                f"{_ALLOW_FROM_ATTRIBUTE}: {name!r} is no namespace",
                hint=f"a list of namespaces, or {ALL_NAMESPACES!r} for everyone",
            )
    return namespaces


def network_policy(
    revision: RevisionRecord, function: Function, proxies: Iterable[str] = ()
) -> Raw | None:
    """Return the policy, or None for a function that is not hardened.

    `proxies` are namespaces of proxies that need access. The policy restricts ingress only. The
    kubelet's probes come from the pod's own node, and network plugins always allow them.
    """
    if not is_hardened(function):
        return None
    namespaces = dict.fromkeys([*allowed_namespaces(function), *proxies])
    peers: list[Raw] = [{"podSelector": {}}]
    peers += [
        {"namespaceSelector": {"matchLabels": {_NAMESPACE_LABEL: name}}}
        for name in namespaces
        if name != revision.key.namespace
    ]
    spec = {
        "podSelector": {"matchLabels": revision.key.pod_selector},
        "policyTypes": ["Ingress"],
        "ingress": [{} if ALL_NAMESPACES in namespaces else {"from": peers}],
    }
    return NETWORK_POLICY.manifest(revision.metadata(), spec=spec)


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
    blocked = [f"its {kind} port"] if kind != "ClusterIP" else []
    if trigger is not None and trigger[1].attributes.get("ingresses"):
        blocked.append("its ingress")
    if not blocked:
        return []
    return [
        f"the network policy of a hardened function lets pods of its own namespace and of"
        f" {', '.join(allowed_namespaces(function)) or 'no other'} in:"
        f" {' and '.join(blocked)} may not be reached from elsewhere; `--allow-from NAMESPACE` adds"
        " the ingress controller's, `--allow-from '*'` everyone"
    ]
