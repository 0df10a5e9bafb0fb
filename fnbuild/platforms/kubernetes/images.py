"""The images of revisions: those in use, and builds that left the history."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from fnbuild.builder.image.registry import (
    PushedBuild,
    is_build_referenced,
    parse_pushed_build,
    remove_build,
)
from fnbuild.errors import FnbuildError, ForbiddenError
from fnbuild.function.types import Raw
from fnbuild.platforms import ImageUse, Progress
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubeclient.objects import KubeDeployment
from fnbuild.platforms.kubeclient.service_images import recorded_images
from fnbuild.platforms.kubernetes import inventory, labels, records
from fnbuild.platforms.kubernetes.inventory import FunctionObjects
from fnbuild.platforms.kubernetes.labels import KubernetesKey, section
from fnbuild.platforms.kubernetes.revision_record import RevisionRecord

_RECORDS_SELECTOR = (
    f"{labels.MANAGED_BY}={labels.MANAGER},"
    f"{labels.RECORD} in (revisions,imported,{labels.CHANGING_RECORD})"
)


def list_recorded_functions(cluster: Cluster) -> list[FunctionObjects]:
    """Return the functions of all namespaces, with their Deployments and records.

    Raises `ForbiddenError` for a user who may not see all of them.
    """
    deployments, maps = inventory.run_concurrently(
        lambda: cluster.list(kinds.DEPLOYMENT, None, labels=labels.FUNCTIONS_SELECTOR),
        lambda: cluster.list(kinds.CONFIG_MAP, None, labels=_RECORDS_SELECTOR),
    )
    functions: dict[KubernetesKey, FunctionObjects] = {}
    for deployment in deployments:
        key = KubernetesKey.of_object(deployment)
        functions.setdefault(key, FunctionObjects(key)).deployment = KubeDeployment(deployment)
    for config_map in maps:
        key = KubernetesKey.of_object(config_map)
        functions.setdefault(key, FunctionObjects(key)).config_map = config_map
    return [functions[key] for key in sorted(functions)]


def needed_references(cluster: Cluster, functions: Iterable[FunctionObjects]) -> frozenset[str]:
    """Return the images that functions need, and those of all pods that are not about to end.

    Pods of an older revision may serve while a newer one does not become ready. Functions under
    KServe may have the same images.
    """
    pods = cluster.list(kinds.POD, None, labels=labels.FUNCTIONS_SELECTOR)
    staying = (pod for pod in pods if "deletionTimestamp" not in pod["metadata"])
    served = (image for pod in staying for image in _container_images(section(pod, "spec")))
    on_record = (image for function in functions for image in referenced_images(function))
    return frozenset(filter(None, (*served, *on_record, *recorded_images(cluster))))


def referenced_images(function: FunctionObjects) -> Iterator[str]:
    """Yield the images of a function's Deployment and of every revision on record."""
    if function.deployment is not None:
        yield from _container_images(section(function.deployment, "spec", "template", "spec"))
    yield from (revision.image_reference for revision in records.recorded_revisions(function))
    if function.imported_config is not None:
        yield str(section(function.imported_config, "spec").get("image", ""))


def image_use(cluster: Cluster) -> ImageUse:
    """Return the images that the functions of all namespaces need."""
    functions = list_recorded_functions(cluster)
    built = (
        revision_build(revision)
        for function in functions
        for revision in records.all_revisions(function)
    )
    return ImageUse(
        needed_references(cluster, functions),
        frozenset(str(build.repository) for build in built if build is not None),
        frozenset(function.key.name for function in functions if function.is_leased(time.time())),
    )


def revision_build(revision: RevisionRecord) -> PushedBuild | None:
    """Return the build of a revision in its registry, or None if it was not pushed."""
    spec = section(revision.config, "spec")
    registry = str(section(spec, "build").get("registry", ""))
    return parse_pushed_build(revision.pinned, registry, str(spec.get("runRegistry", "")))


def remove_retired_builds(
    cluster: Cluster, retired: Iterable[RevisionRecord], progress: Progress
) -> None:
    """Remove the builds of revisions that left the history, unless another revision needs them.

    Nothing is removed if this user may not read all namespaces.
    """
    pushed = {
        build: revision for revision in retired if (build := revision_build(revision)) is not None
    }
    if not pushed:
        return
    try:
        in_use = needed_references(cluster, list_recorded_functions(cluster))
    except ForbiddenError:
        return
    for build, revision in pushed.items():
        if is_build_referenced(build, in_use):
            continue
        try:
            if remove_build(build):
                progress(f"removed {build}: revision {revision.number} has left history")
        except FnbuildError as error:
            progress(
                f"{build} of revision {revision.number} stays in the registry: {error.message}"
            )


def _container_images(pod: Raw) -> Iterator[str]:
    """Yield the images of a pod's containers."""
    for container in (*(pod.get("initContainers") or ()), *(pod.get("containers") or ())):
        yield str(container.get("image", ""))
