"""How this machine gets to a function: by a node port, or through the API server."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from fnbuild.platforms import Deployment
from fnbuild.platforms.cluster.api import Cluster
from fnbuild.platforms.cluster.forward import forwarded
from fnbuild.platforms.kube import containers, inventory
from fnbuild.platforms.kube.labels import Key
from fnbuild.runtime.ids import INSTANCE_HEADER, instance

_CONNECT_SECONDS = 1.0
_HEALTH = "/__internal/health"
# How long nodes take at most to send requests to new pods alone, and how many good answers in a
# row tell that they do: of two pods each gets every second connection, by chance.
_TURNING_SECONDS = 5.0
_ANSWERS = 10
_PAUSE_SECONDS = 0.05


@contextmanager
def reached(cluster: Cluster, deployment: Deployment) -> Iterator[str]:
    """A URL of the function that works from here while the block lasts; "" when nothing serves."""
    if address := _open(deployment, inside=cluster.in_cluster):
        yield f"http://{address}"
        return
    metadata = deployment.function.metadata
    key = Key(metadata.namespace, metadata.name)
    serving = [
        pod["metadata"]
        for pod in inventory.pods(cluster, key)
        if containers.is_ready(pod) and "deletionTimestamp" not in pod["metadata"]
    ]
    if not serving:
        yield ""
        return
    newest = max(serving, key=lambda pod: str(pod["creationTimestamp"]))
    with forwarded(cluster, key.namespace, newest["name"]) as url:
        yield url


def turn(deployment: Deployment) -> None:
    """Wait until the node port leads to the newest pods alone, as far as can be seen from here.

    The cluster calls a pod ready a moment before its nodes send it requests, and they go on a
    moment with one that ends: who asks right behind a deploy would be answered by the old one, or
    by nobody.
    """
    pods = deployment.details.get("pods") or []
    newest = {instance(pod["name"]) for pod in pods if pod["current"] and pod["state"] == "Ready"}
    address = _open(deployment, refused=True) if newest else ""
    deadline = time.monotonic() + _TURNING_SECONDS
    good = 0
    while address and good < _ANSWERS and time.monotonic() < deadline:
        good = good + 1 if _is_one_of(newest, address) else 0
        if not good:
            time.sleep(_PAUSE_SECONDS)


def _open(deployment: Deployment, *, inside: bool = False, refused: bool = False) -> str:
    """The first address that takes connections; "" for none. With `refused` one counts that says
    no, for it may say yes in a moment.
    """
    some = deployment.external_urls + (deployment.internal_urls if inside else ())
    addresses = [one for one in some if one.rpartition(":")[2].isdecimal()]
    if not addresses:
        return ""
    with ThreadPoolExecutor(len(addresses)) as pool:
        found = list(pool.map(lambda one: _takes(one, refused=refused), addresses))
    return next((one for one, takes in zip(addresses, found, strict=True) if takes), "")


def _takes(address: str, *, refused: bool) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS):
            return True
    except ConnectionRefusedError:
        return refused
    except OSError:
        return False


def _is_one_of(newest: set[str], address: str) -> bool:
    """Whether one of these pods answers; of an image of others, one that says no goodbye."""
    connection = http.client.HTTPConnection(address, timeout=_CONNECT_SECONDS)
    try:
        connection.request("GET", _HEALTH)
        reply = connection.getresponse()
        reply.read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    whose = reply.headers.get(INSTANCE_HEADER)
    return whose in newest if whose else reply.status < 500 and not reply.will_close
