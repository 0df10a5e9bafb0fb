"""The images of revisions: which ones the cluster needs, and builds that left history."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from fnbuild.builder.image.registry import (
    PushedBuild,
    is_build_needed,
    parse_pushed_build,
    remove_build,
)
from fnbuild.errors import FnbuildError
from fnbuild.platforms import ImageUse, Progress
from fnbuild.platforms.cluster import kinds
from fnbuild.platforms.cluster.api import Cluster
from fnbuild.platforms.cluster.faults import ForbiddenError
from fnbuild.platforms.kube import inventory, records
from fnbuild.platforms.kube import labels as own
from fnbuild.platforms.kube.inventory import Known
from fnbuild.platforms.kube.labels import Key, Made
from fnbuild.platforms.kube.texts import part
from fnbuild.spec.types import Raw

_RECORDS = (
    f"{own.MANAGED_BY}={own.MANAGER},{own.RECORD} in (revisions,imported,{inventory.CHANGING})"
)


def recorded(cluster: Cluster) -> list[Known]:
    """Return the functions of all namespaces, with their Deployments and records.

    Raises `ForbiddenError` for a user who may not see all of them.
    """
    deployments, maps = inventory.together(
        lambda: cluster.list(kinds.DEPLOYMENT, None, labels=inventory.OF_FUNCTIONS),
        lambda: cluster.list(kinds.CONFIG_MAP, None, labels=_RECORDS),
    )
    functions: dict[Key, Known] = {}
    for deployment in deployments:
        key = _key(deployment)
        functions.setdefault(key, Known(key)).deployment = deployment
    for config_map in maps:
        key = _key(config_map)
        functions.setdefault(key, Known(key)).record = config_map
    return [functions[key] for key in sorted(functions)]


def needed(cluster: Cluster, functions: Iterable[Known]) -> frozenset[str]:
    """Return the images that functions need, and those of all pods that are not about to end.

    Pods of an older revision may serve while a newer one does not become ready.
    """
    pods = cluster.list(kinds.POD, None, labels=inventory.OF_FUNCTIONS)
    staying = (pod for pod in pods if "deletionTimestamp" not in pod["metadata"])
    served = (image for pod in staying for image in _images(part(pod, "spec")))
    on_record = (image for known in functions for image in references(known))
    return frozenset(filter(None, (*served, *on_record)))


def references(known: Known) -> Iterator[str]:
    """Yield the images of a function's Deployment and of every revision on record."""
    if known.deployment is not None:
        yield from _images(part(known.deployment, "spec", "template", "spec"))
    yield from (made.runs for made in records.recorded(known))
    if known.imported is not None:
        yield str(part(known.imported, "spec").get("image", ""))


def use(cluster: Cluster) -> ImageUse:
    """Return the images that the functions of all namespaces need."""
    functions = recorded(cluster)
    built = (build_of(made) for known in functions for made in records.revisions(known))
    return ImageUse(
        needed(cluster, functions),
        frozenset(str(build.place) for build in built if build is not None),
        frozenset(known.key.name for known in functions if known.claimed(time.time())),
    )


def build_of(made: Made) -> PushedBuild | None:
    """Return the build of a revision in its registry, or None if it was not pushed."""
    spec = part(made.config, "spec")
    registry = str(part(spec, "build").get("registry", ""))
    return parse_pushed_build(made.pinned, registry, str(spec.get("runRegistry", "")))


def retire(cluster: Cluster, gone: Iterable[Made], progress: Progress) -> None:
    """Remove the builds of revisions that left the history, unless another revision needs them.

    Nothing is removed if this user may not read all namespaces.
    """
    pushed = {build: made for made in gone if (build := build_of(made)) is not None}
    if not pushed:
        return
    try:
        in_use = needed(cluster, recorded(cluster))
    except ForbiddenError:
        return
    for build, made in pushed.items():
        if is_build_needed(build, in_use):
            continue
        try:
            if remove_build(build):
                progress(f"removed {build}: revision {made.number} has left history")
        except FnbuildError as error:
            progress(f"{build} of revision {made.number} stays in the registry: {error.message}")


def _images(pod: Raw) -> Iterator[str]:
    """Yield the images of a pod's containers."""
    for container in (*(pod.get("initContainers") or ()), *(pod.get("containers") or ())):
        yield str(container.get("image", ""))


def _key(manifest: Raw) -> Key:
    metadata = manifest["metadata"]
    return Key(str(metadata["namespace"]), str(metadata["name"]).removeprefix("nuclio-"))
