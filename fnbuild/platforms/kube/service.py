"""The Service of a function: the address that stays while pods come and go."""

from __future__ import annotations

from fnbuild.errors import InputError
from fnbuild.platforms.kube.labels import Made
from fnbuild.platforms.kube.pods import HTTP, HTTP_PORT
from fnbuild.platforms.settings import requested_port
from fnbuild.spec.types import Function, Raw

NODE_PORTS = range(30000, 32768)
"""What clusters give to node ports unless they were told otherwise."""

_TYPES = ("ClusterIP", "NodePort", "LoadBalancer")


def service_type(function: Function) -> str:
    """The trigger's, else the function's, else NodePort, unless no port shall be published.

    Raises `InputError` for others.
    """
    trigger = function.http_trigger()
    attributes = trigger[1].attributes if trigger else {}
    found = str(attributes.get("serviceType") or function.spec.service_type or "")
    if not found:
        return "ClusterIP" if attributes.get("disablePortPublishing") is True else "NodePort"
    if found not in _TYPES:
        raise InputError(
            f"{found!r} is no type of service for a function", hint=f"one of: {', '.join(_TYPES)}"
        )
    return found


def node_port(function: Function, live: int) -> int:
    """The port of every node: the one asked for, else the live one, else 0 for any.

    A number outside of the usual range is meant for a single machine.
    """
    if service_type(function) == "ClusterIP":
        return 0
    wanted = requested_port(function)
    return wanted if wanted in NODE_PORTS else live


def service(made: Made, function: Function, live_port: int) -> Raw:
    port: Raw = {"name": HTTP, "protocol": "TCP", "port": HTTP_PORT, "targetPort": HTTP_PORT}
    if number := node_port(function, live_port):
        port["nodePort"] = number
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": made.metadata(),
        "spec": {
            "type": service_type(function),
            "selector": made.key.selector,
            "ports": [port, *_of_sidecars(function)],
        },
    }


def _of_sidecars(function: Function) -> list[Raw]:
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
