"""Plan an operation before it begins: validate the deploy, import, start or scaling requested."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec

from fnbuild.dashboard.objects import restore_secrets
from fnbuild.dashboard.requests import FunctionBody
from fnbuild.dashboard.services import Services
from fnbuild.dashboard.sources import LIBRARY_PREFIX, CodeSource, SourceKind, source_kind
from fnbuild.deploy import artifacts, pipeline, projects
from fnbuild.deploy.pipeline import DeployRequest, PreparedFunction
from fnbuild.deploy.projects import DEFAULT_PROJECT, project_of
from fnbuild.errors import (
    ConfigError,
    ConflictError,
    Diagnostic,
    FnbuildError,
    NotFoundError,
    PreconditionError,
    Report,
    UsageError,
)
from fnbuild.function import import_rules
from fnbuild.function.files import CONFIG_NAMES
from fnbuild.function.function_rules import RESERVED_NAMES
from fnbuild.function.merge import merge_functions
from fnbuild.function.reader import check_text, config_error
from fnbuild.function.types import Function, Spec
from fnbuild.platforms import Deployment, Platform, Progress

SKIP_DEPLOY_ANNOTATION = "skip-deploy"
_KINDS_WITHOUT_FOLDER = ("inline", "image", "recorded")


@dataclass(frozen=True, slots=True)
class PlannedOperation:
    """What is going to be done. `function` is the one that is wanted."""

    action: str
    function: Function
    work: Callable[[Progress], object]


def plan_deploy(services: Services, platform: Platform, body: FunctionBody) -> PlannedOperation:
    """The deploy that a body asks for. Raises what is wrong with it; changes nothing."""
    metadata = body.function.metadata
    if metadata.name in RESERVED_NAMES:
        raise PreconditionError(
            f"{metadata.name!r} is the name of a part of Nuclio", hint="give it another name"
        )
    current = current_deployment(platform, metadata.namespace, metadata.name)
    refuse_stale_version(metadata.resource_version, current)
    function = restore_secrets(body.function, _masked_function(services, body.function, current))
    metadata = msgspec.structs.replace(function.metadata, resource_version="")
    function = msgspec.structs.replace(function, metadata=metadata)
    refuse_missing_project(services, platform, projects.with_project_label(function, current))
    if metadata.annotations.get(SKIP_DEPLOY_ANNOTATION, "").lower() == "true":
        return _plan_import(platform, function, current)
    kind = _source_kind(function, current, body)
    if body.yaml and kind in _KINDS_WITHOUT_FOLDER:
        _, report = check_text(body.text, CONFIG_NAMES[0])
        if report.errors:
            raise config_error(report, CONFIG_NAMES[0])
    if kind == "recorded" and current is not None:
        function = _with_recorded_code(function, current)
    source = CodeSource(kind, services.settings, services.uploads, services.library)
    request = DeployRequest(
        name=metadata.name or None,
        namespace=metadata.namespace,
        overrides=function,
        platform=platform.name,
    )
    opened = source.opened if kind in ("upload", "library") else source.checked
    with opened(request) as known:
        prepared = pipeline.prepare(known)
        if prepared.image and platform.artifact_kind == "folder":
            artifacts.planned_artifact(
                prepared.loaded, artifacts.prebuilt(prepared.image, current), platform
            )
    if not metadata.name:
        refuse_existing(services, platform, prepared.function)
    wanted = projects.with_project_label(prepared.function, current)
    if kind == "recorded" and current is not None:
        return PlannedOperation(
            _update_action(current.function, wanted),
            wanted,
            _reconfigure_work(platform, current, wanted, prepared),
        )
    return PlannedOperation("deploy", wanted, _deploy_work(source, request, prepared))


def _masked_function(
    services: Services, requested: Function, current: Deployment | None
) -> Function | None:
    """Return the function whose values a client may have seen masked.

    That is the current function, merged over the one of the library.
    """
    place = requested.spec.build.path
    stored = current.function if current else None
    if not place.startswith(LIBRARY_PREFIX):
        return stored
    template = services.library.functions.get(place.removeprefix(LIBRARY_PREFIX))
    if template is None:
        return stored
    return merge_functions(stored, template.function) if stored else template.function


def current_deployment(platform: Platform, namespace: str, name: str) -> Deployment | None:
    """The function as the platform has it, None when it has none of that name."""
    try:
        return platform.deployment(namespace, name) if name else None
    except NotFoundError:
        return None


def refuse_stale_version(version: str, current: Deployment | None) -> None:
    """`ConflictError` when somebody has changed the function since it was seen in that version."""
    if version and current is not None and version != str(current.revision):
        raise ConflictError(
            f"{current.name} is at version {current.revision}, and this change is of {version}",
            hint="get the function, and make the change on it as it is now",
        )


def refuse_existing(services: Services, platform: Platform, function: Function) -> None:
    """`ConflictError` for a new function whose name is taken."""
    namespace, name = function.metadata.namespace, function.metadata.name
    known = services.operations.newest(namespace, name)
    announced = known is not None and known.function is not None and known.action != "delete"
    if announced or current_deployment(platform, namespace, name) is not None:
        raise already_exists_error(name)


def already_exists_error(name: str) -> ConflictError:
    return ConflictError(
        "Cannot create two functions with the same name",
        hint=f"PUT /api/functions/{name} changes the one that is there",
    )


def refuse_missing_project(services: Services, platform: Platform, function: Function) -> None:
    """`PreconditionError` for a project that no platform has: a dashboard makes none by itself."""
    wanted, namespace = project_of(function), function.metadata.namespace
    if wanted == DEFAULT_PROJECT:
        return
    others = [one for one, notices in services.inventory.shown() if not notices]
    for one in (platform, *(other for other in others if other.name != platform.name)):
        try:
            if wanted in [project.name for project in one.projects(namespace)]:
                return
        except FnbuildError:
            if one is platform:
                raise
    raise PreconditionError(f"Project does not exist: {wanted}", hint="POST /api/projects makes it")


def _source_kind(function: Function, current: Deployment | None, body: FunctionBody) -> SourceKind:
    """Where the code is; where nothing says so, that and everything else that is wrong."""
    try:
        return source_kind(function, current)
    except UsageError as error:
        report = Report([Diagnostic("error", "no-code", error.message, hint=error.hint)])
        found = check_text(body.text, CONFIG_NAMES[0])[1]
        report.extend(one if body.yaml else replace(one, span=None, excerpt=None) for one in found)
        raise ConfigError(error.message, report, hint=error.hint) from error


def _plan_import(
    platform: Platform, function: Function, current: Deployment | None
) -> PlannedOperation:
    if current is not None and current.state != "imported":
        raise ConflictError(
            f"{current.name} is there already, so it cannot be imported", hint="delete it first"
        )
    # What may be repaired has been, where the request asks for it.
    import_rules.check_import(function, "the import", autofix=False)
    function = projects.with_project_label(function, current)

    def work(progress: Progress) -> Deployment:
        projects.ensure_project(platform, function, current, progress)
        return platform.store_imported(function)

    return PlannedOperation("import", function, work)


def _update_action(known: Function, wanted: Function) -> str:
    """What another configuration for the same code is called."""
    if known.spec.disable == wanted.spec.disable:
        return "update"
    return "disable" if wanted.spec.disable else "enable"


def _with_recorded_code(function: Function, current: Deployment) -> Function:
    """What was asked for, with what belongs to the code that the function has."""
    known, asked = current.function.spec, function.spec
    build = merge_functions(
        Function(spec=Spec(build=asked.build)), Function(spec=Spec(build=known.build))
    )
    spec = msgspec.structs.replace(
        asked,
        build=build.spec.build,
        handler=asked.handler or known.handler,
        runtime=asked.runtime or known.runtime,
        image=known.image,
    )
    return msgspec.structs.replace(function, spec=spec)


def _reconfigure_work(
    platform: Platform, current: Deployment, function: Function, prepared: PreparedFunction
) -> Callable[[Progress], Deployment]:
    def work(progress: Progress) -> Deployment:
        # The code stays where it is recorded.
        _report_warnings(prepared, progress, unseen="handler-module")
        return pipeline.reconfigure(platform, current, function, {}, progress)

    return work


def _deploy_work(
    source: CodeSource, request: DeployRequest, prepared: PreparedFunction
) -> Callable[[Progress], Deployment]:
    # A name that stood in the code's own configuration is the one that was looked at.
    request = replace(request, name=prepared.function.metadata.name)

    def work(progress: Progress) -> Deployment:
        _report_warnings(prepared, progress)
        with source.opened(request, progress) as known:
            return pipeline.deploy(known, progress)

    return work


def _report_warnings(prepared: PreparedFunction, progress: Progress, *, unseen: str = "") -> None:
    """What was found, but for the rule of what nobody has looked at."""
    for one in prepared.report.warnings:
        if one.rule != unseen:
            progress(f"warning: {one.message}")


# The others' functions have one replica by nature, or are scaled by somebody else.
_SCALABLE_PLATFORMS = ("kube",)
_SCALED_FROM_ANNOTATION = "fnbuild.io/scaled-from"


def plan_start(platform: Platform, current: Deployment) -> PlannedOperation:
    """The start of a function from what is recorded of it. Raises `PreconditionError`."""
    function = current.function
    namespace = function.metadata.namespace
    before = function.metadata.annotations.get(_SCALED_FROM_ANNOTATION)
    if before is not None and platform.name in _SCALABLE_PLATFORMS:
        number = int(before) if before.isdecimal() else None
        return _plan_scale(platform, current, number, None)
    _refuse_without_code(platform, current)

    def work(progress: Progress) -> Deployment:
        return platform.redeploy(namespace, current.name, progress)

    return PlannedOperation("redeploy", function, work)


def plan_scale_to_zero(platform: Platform, current: Deployment) -> PlannedOperation:
    """The end of all replicas of a function. Raises `PreconditionError`."""
    spec = current.function.spec
    if platform.name not in _SCALABLE_PLATFORMS:
        raise PreconditionError(
            f"functions of the platform {platform.name} are not scaled to zero",
            hint="PUT it with spec.disable true, which stops it",
        )
    if spec.min_replicas:
        raise PreconditionError(
            f"{current.name} has minReplicas {spec.min_replicas}, so it is not scaled to zero",
            hint="PUT it with minReplicas 0",
        )
    return _plan_scale(platform, current, 0, "" if spec.replicas is None else str(spec.replicas))


def _refuse_without_code(platform: Platform, current: Deployment) -> None:
    spec, namespace = current.function.spec, current.function.metadata.namespace
    if spec.image or spec.build.function_source_code:
        return
    if platform.artifact_kind == "image" or platform.code_folder(namespace, current.name) is None:
        raise PreconditionError(
            f"no image or code of {current.name} is recorded, so there is nothing to start",
            hint="PUT it with its code",
        )


def _plan_scale(
    platform: Platform, current: Deployment, number: int | None, before: str | None
) -> PlannedOperation:
    """Another number of replicas; `before` is the one to go back to, None to forget it."""
    function: Function = current.function
    annotations = {
        k: v for k, v in function.metadata.annotations.items() if k != _SCALED_FROM_ANNOTATION
    }
    if before is not None:
        annotations[_SCALED_FROM_ANNOTATION] = before
    metadata = msgspec.structs.replace(function.metadata, annotations=annotations)
    spec = msgspec.structs.replace(function.spec, replicas=number)
    function = msgspec.structs.replace(function, metadata=metadata, spec=spec)

    def work(progress: Progress) -> Deployment:
        return pipeline.reconfigure(platform, current, function, {}, progress)

    return PlannedOperation("scale", function, work)
