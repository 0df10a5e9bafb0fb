"""Restart counts of functions' containers, and the reason of the last restart."""

from __future__ import annotations

from collections.abc import Iterable

from fnbuild.platforms import Restarts
from fnbuild.platforms.kube import endings
from fnbuild.platforms.kube import labels as own
from fnbuild.platforms.kube.findings import seconds
from fnbuild.platforms.kube.inventory import labels_of
from fnbuild.platforms.kube.podstates import restarts_of
from fnbuild.spec.types import Raw


def of_pods(pods: Iterable[Raw]) -> dict[str, Restarts]:
    """Return the restarts by function; functions without any are left out."""
    by_name: dict[str, list[Raw]] = {}
    for pod in pods:
        if restarts_of(pod):
            by_name.setdefault(labels_of(pod).get(own.FUNCTION, ""), []).append(pod)
    return {name: _of_function(own_pods) for name, own_pods in by_name.items()}


def _of_function(pods: list[Raw]) -> Restarts:
    count = sum(map(restarts_of, pods))
    last = max((end for pod in pods for end in _ends(pod)), default=None)
    return Restarts(count) if last is None else Restarts(count, last[2], last[1])


def _ends(pod: Raw) -> Iterable[tuple[float, str, str]]:
    """Yield the last end of each container: its time as a number and as text, and the reason."""
    specs = {container["name"]: container for container in pod["spec"].get("containers") or []}
    for status in (pod.get("status") or {}).get("containerStatuses") or []:
        state = (status.get("lastState") or {}).get("terminated")
        if not state:
            continue
        finished = str(state.get("finishedAt") or "")
        name = status["name"]
        text = endings.ended(state, specs.get(name, {})).text
        sidecar = "" if name == own.CONTAINER else f"sidecar {name} "
        yield seconds(finished) or 0.0, finished, f"{sidecar}{text}"
