"""How this machine gets to a function: by a node port, or through the API server."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus

from fnbuild.platforms import Deployment
from fnbuild.platforms.cluster.api import Cluster
from fnbuild.platforms.cluster.forward import forwarded
from fnbuild.platforms.kube import inventory, podstates
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
    if address := _answering(cluster, deployment):
        yield f"http://{address}"
        return
    metadata = deployment.function.metadata
    key = Key(metadata.namespace, metadata.name)
    serving = [
        pod["metadata"]
        for pod in inventory.pods(cluster, key)
        if podstates.is_ready(pod) and "deletionTimestamp" not in pod["metadata"]
    ]
    if not serving:
        yield ""
        return
    newest = max(serving, key=lambda pod: str(pod["creationTimestamp"]))
    with forwarded(cluster, key.namespace, newest["name"]) as url:
        yield url


def turn(cluster: Cluster, deployment: Deployment) -> None:
    """Wait until the node port leads to the newest pods alone, as far as can be seen from here.

    The cluster calls a pod ready a moment before its nodes send it requests, and they go on a
    moment with one that ends: who asks right behind a deploy would be answered by the old one, or
    by nobody.
    """
    pods = deployment.details.get("pods") or []
    newest = {instance(pod["name"]) for pod in pods if pod["current"] and pod["state"] == "Ready"}
    address = _open(cluster, deployment) if newest else ""
    deadline = time.monotonic() + _TURNING_SECONDS
    good = 0
    while address and good < _ANSWERS and time.monotonic() < deadline:
        good = good + 1 if _is_one_of(newest, address) else 0
        if not good:
            time.sleep(_PAUSE_SECONDS)


def _answering(cluster: Cluster, deployment: Deployment) -> str:
    """The first address at which a function answers; "" for none."""
    return _first(_addresses(cluster, deployment), lambda one: _asked(one).status == HTTPStatus.OK)


def _open(cluster: Cluster, deployment: Deployment) -> str:
    """The first address that takes connections, or refuses them, for it may take one in a moment;
    "" for none.
    """
    return _first(_addresses(cluster, deployment), _takes)


def _addresses(cluster: Cluster, deployment: Deployment) -> list[str]:
    """In the order in which they are to be used: in the cluster its own name for the function
    first.
    """
    inside = deployment.internal_urls if cluster.in_cluster else ()
    some = (*inside, *deployment.external_urls)
    return [one for one in some if one.rpartition(":")[2].isdecimal()]


def _first(addresses: list[str], right: Callable[[str], bool]) -> str:
    """All are asked at the same time."""
    if not addresses:
        return ""
    with ThreadPoolExecutor(len(addresses)) as pool:
        found = list(pool.map(right, addresses))
    return next((one for one, so in zip(addresses, found, strict=True) if so), "")


def _takes(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS):
            return True
    except ConnectionRefusedError:
        return True
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class _Health:
    """The answer to a question for the health; `status` 0 for none. A connection alone tells
    nothing: proxies on the way to addresses that do not exist take every one.
    """

    status: int = 0
    whose: str = ""
    closing: bool = True


def _asked(address: str) -> _Health:
    connection = http.client.HTTPConnection(address, timeout=_CONNECT_SECONDS)
    try:
        connection.request("GET", _HEALTH)
        reply = connection.getresponse()
        reply.read()
    except (OSError, http.client.HTTPException):
        return _Health()
    finally:
        connection.close()
    return _Health(reply.status, reply.headers.get(INSTANCE_HEADER, ""), reply.will_close)


def _is_one_of(newest: set[str], address: str) -> bool:
    """Whether one of these pods answers; of an image of others, one that says no goodbye."""
    found = _asked(address)
    if found.whose:
        return found.whose in newest
    return 0 < found.status < 500 and not found.closing
