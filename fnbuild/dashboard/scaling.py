"""Functions that are started again, or run with no replicas: what `desiredState` asks for."""

from __future__ import annotations

import msgspec

from fnbuild.dashboard.planned import Change
from fnbuild.deploy import pipeline
from fnbuild.errors import PreconditionError
from fnbuild.platforms import Deployment, Platform, Progress
from fnbuild.spec.types import Function

# The others' functions have one replica by nature, or are scaled by somebody else.
_SCALED_BY_NUMBER = ("kube",)
_SCALED_FROM = "fnbuild.io/scaled-from"


def started(platform: Platform, current: Deployment) -> Change:
    """The start of a function from what is recorded of it. Raises `PreconditionError`."""
    function = current.function
    namespace = function.metadata.namespace
    before = function.metadata.annotations.get(_SCALED_FROM)
    if before is not None and platform.name in _SCALED_BY_NUMBER:
        number = int(before) if before.isdecimal() else None
        return _scaled(platform, current, number, None)
    _refuse_without_code(platform, current)

    def work(progress: Progress) -> Deployment:
        return platform.redeploy(namespace, current.name, progress)

    return Change("redeploy", function, work)


def stopped(platform: Platform, current: Deployment) -> Change:
    """The end of all replicas of a function. Raises `PreconditionError`."""
    spec = current.function.spec
    if platform.name not in _SCALED_BY_NUMBER:
        raise PreconditionError(
            f"functions of the platform {platform.name} are not scaled to zero",
            hint="PUT it with spec.disable true, which stops it",
        )
    if spec.min_replicas:
        raise PreconditionError(
            f"{current.name} has minReplicas {spec.min_replicas}, so it is not scaled to zero",
            hint="PUT it with minReplicas 0",
        )
    return _scaled(platform, current, 0, "" if spec.replicas is None else str(spec.replicas))


def _refuse_without_code(platform: Platform, current: Deployment) -> None:
    spec, namespace = current.function.spec, current.function.metadata.namespace
    if spec.image or spec.build.function_source_code:
        return
    if platform.runs == "image" or platform.source(namespace, current.name) is None:
        raise PreconditionError(
            f"no image or code of {current.name} is recorded, so there is nothing to start",
            hint="PUT it with its code",
        )


def _scaled(
    platform: Platform, current: Deployment, number: int | None, before: str | None
) -> Change:
    """Another number of replicas; `before` is the one to go back to, None to forget it."""
    function: Function = current.function
    annotations = {k: v for k, v in function.metadata.annotations.items() if k != _SCALED_FROM}
    if before is not None:
        annotations[_SCALED_FROM] = before
    metadata = msgspec.structs.replace(function.metadata, annotations=annotations)
    spec = msgspec.structs.replace(function.spec, replicas=number)
    function = msgspec.structs.replace(function, metadata=metadata, spec=spec)

    def work(progress: Progress) -> Deployment:
        return pipeline.reconfigure(platform, current, function, {}, progress)

    return Change("scale", function, work)
