"""Whether a Nuclio is there to run functions: what `fnbuild doctor` says of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from fnbuild.platforms import Finding
from fnbuild.platforms.cluster import kinds, rights
from fnbuild.platforms.cluster.api import Cluster
from fnbuild.platforms.cluster.faults import ForbiddenError
from fnbuild.platforms.cluster.rights import Right
from fnbuild.platforms.examination import Check, examined, wanted
from fnbuild.platforms.nuclio.doors import Door
from fnbuild.platforms.nuclio.resources import Resources
from fnbuild.spec.types import Raw

_AREA = "nuclio"
_CONTROLLER = "nuclio-controller"
_VERBS = ("get", "list", "create", "update", "delete")
RIGHTS = (
    Right(kinds.NUCLIO_FUNCTION, _VERBS, role=""),
    Right(kinds.NUCLIO_PROJECT, ("get", "list", "create", "delete"), "no projects", role=""),
    Right(kinds.DEPLOYMENT, ("get", "list"), "replicas are not known", role="view"),
    Right(kinds.POD, ("get", "list"), "a failing pod is not explained", role="view"),
    Right(kinds.POD, ("get",), "`logs` shows nothing", "log", role="view"),
    Right(kinds.POD, ("create",), "`invoke` needs a port that is open here", "portforward"),
)


def examine(
    find: Callable[[], Door], namespace: str, areas: Collection[str] = ()
) -> Iterator[Finding]:
    """All that can be said, one by one; `find` finds the way into Nuclio."""
    if not wanted(areas, _AREA, "rights"):
        return
    found: list[Door] = []

    def reached() -> Iterator[Finding]:
        door = find()
        door.check()
        found.append(door)
        yield Finding(_AREA, "ok", f"{door.place} answers")

    for finding in examined((Check(_AREA, reached),)):
        if wanted(areas, _AREA) or finding.state == "failure":
            yield finding
    for door in found:
        if isinstance(door, Resources):
            yield from _in_cluster(door.cluster, namespace, areas)


def _in_cluster(cluster: Cluster, namespace: str, areas: Collection[str]) -> Iterator[Finding]:
    checks = (
        Check(_AREA, lambda: controller(cluster, namespace)),
        Check("rights", lambda: rights.findings(cluster, namespace, RIGHTS)),
    )
    yield from examined(checks, areas)


def controller(cluster: Cluster, namespace: str) -> Iterator[Finding]:
    """Nuclio's chart calls it RELEASE-controller or nuclio-controller, in whichever namespace."""
    try:
        deployments = cluster.list(kinds.DEPLOYMENT, None)
    except ForbiddenError:
        try:
            deployments = cluster.list(kinds.DEPLOYMENT, namespace)
        except ForbiddenError as error:
            text = f"whether a controller runs cannot be seen: {error.message}"
            yield Finding(_AREA, "skipped", text, error.grant)
            return
    there = [one for one in deployments if _CONTROLLER in str(one["metadata"]["name"])]
    if not there:
        yield Finding(
            _AREA,
            "warning",
            "no controller of Nuclio is to be seen: nobody would act on a function",
            "install Nuclio's chart (https://nuclio.io/docs), or deploy without it: `--platform"
            " kube`",
        )
    for one in there:
        yield _available(one)


def _available(deployment: Raw) -> Finding:
    about = deployment["metadata"]
    place = f"{about['namespace']}/{about['name']}"
    if int((deployment.get("status") or {}).get("availableReplicas") or 0):
        return Finding(_AREA, "ok", f"the controller {place} runs")
    return Finding(
        _AREA,
        "failure",
        f"the controller {place} does not run",
        f"`kubectl describe deployment {about['name']} -n {about['namespace']}` says why",
    )
