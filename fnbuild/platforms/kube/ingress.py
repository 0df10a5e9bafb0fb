"""The Ingress of a function, from the `ingresses` of its http trigger."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator

from fnbuild.errors import InputError
from fnbuild.platforms.kube.labels import PROJECT, Made
from fnbuild.platforms.kube.pods import HTTP
from fnbuild.spec.types import Function, Raw, Trigger

HOST_TEMPLATE = "NUCLIO_DASHBOARD_HTTP_INGRESS_HOST_TEMPLATE"
"""Nuclio's variable: what `@nuclio.fromDefault` stands for."""
CLASS = "FNBUILD_INGRESS_CLASS"
"""The class of Ingresses of functions that name none; without it, the cluster's default."""

_FROM_DEFAULT = "@nuclio.fromDefault"
_CLASS_ANNOTATION = "kubernetes.io/ingress.class"
_BODY_SIZE = "nginx.ingress.kubernetes.io/proxy-body-size"
_USUAL_BODY_SIZE = 4 << 20
_FIELD = re.compile(r"\{\{\s*\.(\w+)\s*\}\}")
_LONGEST_LABEL = 63
_RANDOM_CHARS = 8


def ingress(made: Made, function: Function, *, has_class: bool) -> Raw | None:
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
        host = _host(made, function, one, place)
        rules.append(_rule(made, function, one, host, place))
        secrets += _tls(one, host)
    annotations = _annotations(trigger)
    spec: Raw = {"rules": rules}
    if secrets:
        spec["tls"] = secrets
    chosen = trigger.attributes.get("ingressClassName") or os.environ.get(CLASS)
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


def _annotations(trigger: Trigger) -> dict[str, str]:
    size = trigger.attributes.get("maxRequestBodySize") or _USUAL_BODY_SIZE
    return {_BODY_SIZE: str(size)} | trigger.annotations


def _rule(made: Made, function: Function, given: Raw, host: str, place: str) -> Raw:
    backend: Raw = {"service": {"name": made.key.object, "port": {"name": HTTP}}}
    kind = given.get("pathType") or "ImplementationSpecific"
    paths = [
        {"path": _path(function, str(path), place), "pathType": kind, "backend": backend}
        for path in given.get("paths") or ["/"]
    ]
    rule: Raw = {"host": host} if host else {}
    return rule | {"http": {"paths": paths}}


def _path(function: Function, template: str, place: str) -> str:
    path = _filled(template, function, f"{place}.paths")
    return path if path.startswith("/") else f"/{path}"


def _tls(given: Raw, host: str) -> Iterator[Raw]:
    """`secretName`, or as older files have it `tls` with `secretName` and `hosts`."""
    older = given.get("tls") or {}
    if secret := given.get("secretName") or older.get("secretName"):
        hosts = older.get("hosts") or ([host] if host else [])
        yield {"hosts": hosts, "secretName": secret} if hosts else {"secretName": secret}


def _host(made: Made, function: Function, given: Raw, place: str) -> str:
    """`host`, else `hostTemplate` filled in; a part above 63 characters is cut and gets a suffix.

    Nuclio draws the suffix anew at every deploy, so that the address changes; here it follows from
    the function's name (pkg/platform/kube/platform.go: alignIngressHostSubdomainLevel).
    """
    if given.get("host") or not given.get("hostTemplate"):
        return str(given.get("host") or "")
    template = str(given["hostTemplate"])
    if template == _FROM_DEFAULT:
        template = os.environ.get(HOST_TEMPLATE, "")
        if not template:
            raise InputError(
                f"{place}.hostTemplate asks for the default, and there is none",
                hint=f"set {HOST_TEMPLATE}, such as '{{{{ .Name }}}}.example.com', or give a host",
            )
    host = _filled(template, function, f"{place}.hostTemplate")
    length = given.get("hostTemplateRandomCharsLength")
    if length == -1:
        return host
    count = length if isinstance(length, int) and 0 < length < _LONGEST_LABEL else _RANDOM_CHARS
    suffix = hashlib.sha256(str(made.key).encode()).hexdigest()[:count]
    return ".".join(_shortened(part, suffix) for part in host.split("."))


def _shortened(part: str, suffix: str) -> str:
    if len(part) <= _LONGEST_LABEL:
        return part
    return f"{part[: _LONGEST_LABEL - len(suffix) - 1].removesuffix('-')}-{suffix}"


def _filled(template: str, function: Function, place: str) -> str:
    """A template of Go's with nothing but fields in it."""
    metadata = function.metadata
    fields = {
        "Name": metadata.name,
        "ResourceName": metadata.name,
        "Namespace": metadata.namespace,
        "ProjectName": metadata.labels.get(PROJECT, "default"),
        "Version": "latest",
    }
    text = _FIELD.sub(lambda found: fields.get(found[1], found[0]), template)
    if "{{" in text:
        known = ", ".join(f"{{{{ .{name} }}}}" for name in fields)
        raise InputError(f"{place}: {template!r} cannot be filled in", hint=f"it may have {known}")
    return text
