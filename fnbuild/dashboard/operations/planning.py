"""Plan an operation before it begins: validate the deploy, import, start or scaling requested."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from fnbuild.dashboard.function_folders import LIBRARY_PREFIX
from fnbuild.dashboard.objects import restore_secrets
from fnbuild.dashboard.operations.code_source import CodeSource, SourceKind, source_kind
from fnbuild.dashboard.operations.model import PlannedOperation
from fnbuild.dashboard.requests import FunctionBody
from fnbuild.dashboard.services import Services
from fnbuild.deploy import artifacts, pipeline, projects
from fnbuild.deploy.pipeline import DeployRequest, PreparedFunction
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
from fnbuild.names import DEFAULT_PROJECT
from fnbuild.platforms import NO_OPTIONS, Deployment, Platform, Progress

SKIP_DEPLOY_ANNOTATION = "skip-deploy"
_KINDS_WITHOUT_FOLDER = ("inline", "image", "recorded")


def plan_deploy(services: Services, platform: Platform, body: FunctionBody) -> PlannedOperation:
    """Plan the deploy of the function in a body. Raises its errors; changes nothing."""
    metadata = body.function.metadata
    if metadata.name in RESERVED_NAMES:
        raise PreconditionError(
            f"{metadata.name!r} is the name of a part of Nuclio", hint="give it another name"
        )
    current = current_deployment(platform, metadata.namespace, metadata.name)
    refuse_stale_version(metadata.resource_version, current)
    function = restore_secrets(body.function, _stored_function(services, body.function, current))
    function = function.with_metadata(resource_version="")
    metadata = function.metadata
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
        connect=services.settings.connect,
    )
    open_source = source.open if kind in ("upload", "library") else source.open_without_code
    with open_source(request) as opened_request:
        prepared = pipeline.prepare(opened_request)
        if prepared.image and platform.artifact_kind == "folder":
            artifacts.planned_artifact(
                prepared.loaded, artifacts.prebuilt(prepared.image, current), platform
            )
    if not metadata.name:
        refuse_existing(services, platform, prepared.function)
    function = projects.with_project_label(prepared.function, current)
    if kind == "recorded" and current is not None:
        action = _update_action(current.function, function)
        work = _reconfigure_work(platform, current, function, prepared)
    else:
        action, work = "deploy", _deploy_work(source, request, prepared)
    return PlannedOperation.of(function, platform, action, work)


def _stored_function(
    services: Services, requested: Function, current: Deployment | None
) -> Function | None:
    """Return the function whose values a client may have seen masked.

    That is the current function, merged over the one of the library.
    """
    path = requested.spec.build.path
    stored = current.function if current else None
    if not path.startswith(LIBRARY_PREFIX):
        return stored
    template = services.library.functions.get(path.removeprefix(LIBRARY_PREFIX))
    if template is None:
        return stored
    return merge_functions(stored, template.function) if stored else template.function


def current_deployment(platform: Platform, namespace: str, name: str) -> Deployment | None:
    """Return the function as the platform has it, None if it has none of that name."""
    try:
        return platform.deployment(namespace, name) if name else None
    except NotFoundError:
        return None


def refuse_stale_version(version: str, current: Deployment | None) -> None:
    """Raise `ConflictError` if the function has changed since the client read that version."""
    if version and current is not None and version != str(current.revision):
        raise ConflictError(
            f"{current.name} is at version {current.revision}, and this change is of {version}",
            hint="get the function again, and change that version",
        )


def refuse_existing(services: Services, platform: Platform, function: Function) -> None:
    """Raise `ConflictError` for a new function whose name is in use."""
    namespace, name = function.metadata.namespace, function.metadata.name
    newest = services.operations.newest(namespace, name)
    is_pending = (
        newest is not None and newest.pending_function is not None and newest.action != "delete"
    )
    if is_pending or current_deployment(platform, namespace, name) is not None:
        raise already_exists_error(name)


def already_exists_error(name: str) -> ConflictError:
    return ConflictError(
        "Cannot create two functions with the same name",
        hint=f"PUT /api/functions/{name} changes the existing one",
    )


def refuse_missing_project(services: Services, platform: Platform, function: Function) -> None:
    """Raise `PreconditionError` if no platform has the project: a dashboard does not create it."""
    wanted, namespace = function.project, function.metadata.namespace
    if wanted == DEFAULT_PROJECT:
        return
    others = [
        other
        for other, notices in services.inventory.platforms()
        if not notices and other.name != platform.name
    ]
    for candidate in (platform, *others):
        try:
            if wanted in [project.name for project in candidate.projects(namespace)]:
                return
        except FnbuildError:
            if candidate is platform:
                raise
    raise PreconditionError(
        f"Project does not exist: {wanted}", hint="POST /api/projects creates it"
    )


def _source_kind(function: Function, current: Deployment | None, body: FunctionBody) -> SourceKind:
    """Return the kind of the code. Without one, raise that error with all diagnostics."""
    try:
        return source_kind(function, current)
    except UsageError as error:
        report = Report([Diagnostic("error", "no-code", error.message, hint=error.hint)])
        diagnostics = check_text(body.text, CONFIG_NAMES[0])[1]
        report.extend(
            diagnostic if body.yaml else replace(diagnostic, span=None, excerpt=None)
            for diagnostic in diagnostics
        )
        raise ConfigError(error.message, report, hint=error.hint) from error


def _plan_import(
    platform: Platform, function: Function, current: Deployment | None
) -> PlannedOperation:
    if current is not None and current.state != "imported":
        raise ConflictError(
            f"{current.name} exists already, so it cannot be imported", hint="delete it first"
        )
    # Repairs that the request allows have been made.
    import_rules.check_import_rules(function, "the import")
    function = projects.with_project_label(function, current)

    def work(progress: Progress) -> Deployment:
        projects.ensure_project(platform, function, current, progress)
        return platform.store_imported(function)

    return PlannedOperation.of(function, platform, "import", work)


def _update_action(current: Function, requested: Function) -> str:
    """Return the action of a change that keeps the code."""
    if current.spec.disable == requested.spec.disable:
        return "update"
    return "disable" if requested.spec.disable else "enable"


def _with_recorded_code(function: Function, current: Deployment) -> Function:
    """Return the requested function with the fields that belong to its recorded code."""
    recorded, requested = current.function.spec, function.spec
    merged = merge_functions(
        Function(spec=Spec(build=requested.build)), Function(spec=Spec(build=recorded.build))
    )
    return function.with_spec(
        build=merged.spec.build,
        handler=requested.handler or recorded.handler,
        runtime=requested.runtime or recorded.runtime,
        image=recorded.image,
    )


def _reconfigure_work(
    platform: Platform, current: Deployment, function: Function, prepared: PreparedFunction
) -> Callable[[Progress], Deployment]:
    def work(progress: Progress) -> Deployment:
        # The recorded code was not checked.
        _report_warnings(prepared, progress, ignored_rule="handler-module")
        return pipeline.reconfigure(platform, current, function, NO_OPTIONS, progress)

    return work


def _deploy_work(
    source: CodeSource, request: DeployRequest, prepared: PreparedFunction
) -> Callable[[Progress], Deployment]:
    # The name may come from the code's own function.yaml.
    request = replace(request, name=prepared.function.metadata.name)

    def work(progress: Progress) -> Deployment:
        _report_warnings(prepared, progress)
        with source.open(request, progress) as opened_request:
            return pipeline.deploy(opened_request, progress)

    return work


def _report_warnings(
    prepared: PreparedFunction, progress: Progress, *, ignored_rule: str = ""
) -> None:
    for warning in prepared.report.warnings:
        if warning.rule != ignored_rule:
            progress(f"warning: {warning.message}")


_SCALED_FROM_ANNOTATION = "fnbuild.io/scaled-from"


def plan_start(platform: Platform, current: Deployment) -> PlannedOperation:
    """Plan the start of a function from its record. Raises `PreconditionError`."""
    function = current.function
    namespace = function.metadata.namespace
    scaled_from = function.metadata.annotations.get(_SCALED_FROM_ANNOTATION)
    if scaled_from is not None and platform.can_scale_to_zero:
        replicas = int(scaled_from) if scaled_from.isdecimal() else None
        return _plan_scale(platform, current, replicas, None)
    _refuse_without_code(platform, current)

    def work(progress: Progress) -> Deployment:
        return platform.redeploy(namespace, current.name, progress)

    return PlannedOperation.of(function, platform, "redeploy", work)


def plan_scale_to_zero(platform: Platform, current: Deployment) -> PlannedOperation:
    """Plan the scaling of a function to zero. Raises `PreconditionError`."""
    spec = current.function.spec
    if not platform.can_scale_to_zero:
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
    platform: Platform, current: Deployment, replicas: int | None, scaled_from: str | None
) -> PlannedOperation:
    """Plan another number of replicas; `scaled_from` records the number to return to."""
    annotations = dict(current.function.metadata.annotations)
    annotations.pop(_SCALED_FROM_ANNOTATION, None)
    if scaled_from is not None:
        annotations[_SCALED_FROM_ANNOTATION] = scaled_from
    function = current.function.with_metadata(annotations=annotations).with_spec(replicas=replicas)

    def work(progress: Progress) -> Deployment:
        return pipeline.reconfigure(platform, current, function, NO_OPTIONS, progress)

    return PlannedOperation.of(function, platform, "scale", work)
