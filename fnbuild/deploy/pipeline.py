"""The pipeline of a deploy: load, check, build, plan, apply.

Each stage takes a value and returns a value, and only the last stage changes anything. A dry run
and a diff run the same stages and stop earlier. The command line and the dashboard both use them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from fnbuild.builder import staging
from fnbuild.builder.staging import scan_folder
from fnbuild.deploy import access, artifacts, dependency_hints, projects
from fnbuild.deploy.diff import Difference, compare_plan
from fnbuild.errors import BuildError, NotFoundError, NotReadyError, Report, UsageError
from fnbuild.function import reader
from fnbuild.function.function_rules import unset_secrets
from fnbuild.function.gpu_group_settings import group_settings
from fnbuild.function.merge import merge_functions
from fnbuild.function.record_settings import RECORD, record_settings
from fnbuild.function.rules import with_defaults
from fnbuild.function.secret_detection import declared_secrets
from fnbuild.function.secrets import reject_masked_values
from fnbuild.function.types import Function, to_dict
from fnbuild.names import DEFAULT_NAMESPACE, DEFAULT_PLATFORM, PROJECT_LABEL
from fnbuild.platforms import (
    NO_CONNECT_OPTIONS,
    NO_OPTIONS,
    ConnectOptions,
    Deployment,
    Plan,
    PlanOptions,
    Platform,
    Progress,
    Reservation,
    all_platforms,
    imported_code,
    lookup,
)
from fnbuild.platforms.gpu_groups import check_group
from fnbuild.platforms.revision_records import without_skip_annotations


@dataclass(frozen=True, slots=True)
class DeployRequest:
    """The input of a deploy.

    `overrides` contains only the fields to override. `base` has the lowest precedence. `enabled`
    runs a function that its configuration disables; `overrides` cannot express that, since false
    values do not override. `image` is an existing image to run instead of building one. `check`
    raises an error if the built revision must not be started.
    """

    path: Path | None = None
    name: str | None = None
    config_file: Path | None = None
    namespace: str = DEFAULT_NAMESPACE
    project: str | None = None
    overrides: Function = field(default_factory=Function)
    base: Function | None = None
    variant: str | None = None
    platform: str = DEFAULT_PLATFORM
    strict: bool = False
    enabled: bool = False
    image: str = ""
    options: PlanOptions = NO_OPTIONS
    connect: ConnectOptions = NO_CONNECT_OPTIONS
    check: Callable[[Platform, Plan, Progress], None] | None = None


@dataclass(frozen=True, slots=True)
class PreparedFunction:
    """A function after reading, merging and checking. `report` contains the warnings.

    If `image` is set, the function runs from that image and nothing is built.
    """

    loaded: reader.LoadedFunction
    function: Function
    report: Report
    image: str = ""


def choose_platform(
    name: str, connect: ConnectOptions = NO_CONNECT_OPTIONS
) -> tuple[Platform, str]:
    """Return the platform and the reason for the choice.

    `auto` selects the first platform that answers among those that may be in use here: the cluster
    if one is configured, then Docker, otherwise processes.
    """
    if name != "auto":
        return lookup(name, connect), f"asked for by name: {name}"
    notices: list[str] = []
    for platform in reversed(all_platforms(connect)):
        if platform.needs_running_service and platform.may_be_probed():
            if not (problems := platform.problems()):
                return platform, f"auto: {'; '.join([*notices, platform.auto_reason])}"
            notices += problems
    reasons = (text.partition(";")[0] for text in notices)
    return lookup(DEFAULT_PLATFORM), f"auto: {'; '.join(reasons)}"


def prepare(request: DeployRequest) -> PreparedFunction:
    """Read and check the function.

    Raises `ConfigError` with every diagnostic, and `UsageError` without a path.
    """
    overrides = _overrides_with_identity(request)
    if request.path is None:
        raise UsageError(
            "no path was given",
            hint="`--path FOLDER` names the folder with function.yaml and the code",
        )
    loaded = reader.load_function(
        request.path,
        config_file=request.config_file,
        overrides=overrides,
        strict=request.strict,
        variant=request.variant,
        base=request.base,
    )
    function = _with_enabled(without_skip_annotations(loaded.function), request)
    function = access.without_masked_credentials(function)
    reject_masked_values(to_dict(function))
    loaded = replace(loaded, function=function)
    return PreparedFunction(
        loaded, function, loaded.report, request.image or _configured_image(function)
    )


def _configured_image(function: Function) -> str:
    """Return the image to run if the configuration asks for no build, else ""."""
    build = function.spec.build
    if build.code_entry_type != "image" and build.mode != "neverBuild":
        return ""
    if not function.spec.image:
        why = "codeEntryType image" if build.code_entry_type == "image" else "mode neverBuild"
        raise UsageError(
            f"spec.build has {why}, but spec.image names no image",
            hint="`--run-image NAME` names it",
        )
    return function.spec.image


def plan(request: DeployRequest, prepared: PreparedFunction | None = None) -> Plan:
    """Return the changes that a deploy would make, without building or changing anything.

    `prepared` is the result of `prepare` for the request, if the caller has it.
    """
    prepared = prepared or prepare(request)
    platform, _ = choose_platform(request.platform, request.connect)
    planned = _plan(platform, prepared, _current_deployment(platform, prepared.function), request)
    return replace(
        planned, warnings=(*planned.warnings, *artifacts.unpushed_image_warnings(planned, platform))
    )


def _plan(
    platform: Platform,
    prepared: PreparedFunction,
    current: Deployment | None,
    request: DeployRequest,
) -> Plan:
    function = _with_current_settings(platform, prepared.function, current)
    ready = artifacts.artifact_without_build(platform, function, prepared.image, current)
    artifact = artifacts.planned_artifact(prepared.loaded, ready, platform, exactly=True)
    function = artifacts.with_image(function, artifact)
    plan = platform.plan(function, artifact, request.options)
    own = (*_group_warnings(platform, function), *_recording_warnings(platform, function))
    plan = replace(plan, warnings=(*own, *plan.warnings))
    return replace(plan, changes=(*projects.project_changes(platform, function), *plan.changes))


def _group_warnings(platform: Platform, function: Function) -> tuple[str, ...]:
    """Return a warning if the platform has no GPU groups; raise `InputError` for contradictions."""
    settings = group_settings(function)
    if settings is None:
        return ()
    if platform.has_gpu_groups:
        check_group(function)
        return ()
    return (
        f"the GPU group {settings.name} has no effect on the platform {platform.name}: the function"
        " does not wait for other functions, and keeps the memory of its GPU until it sleeps by"
        " itself or is stopped",
    )


def _recording_warnings(platform: Platform, function: Function) -> tuple[str, ...]:
    """Return a warning if the recorded requests of the function could not be read."""
    if record_settings(function) is None or platform.records_requests:
        return ()
    return (f"{RECORD} is of no use: recorded requests cannot be read on {platform.name}",)


def _check_group(platform: Platform, function: Function, progress: Progress) -> None:
    for text in (*_group_warnings(platform, function), *_recording_warnings(platform, function)):
        progress(f"warning: {text}")


def diff(request: DeployRequest) -> Difference:
    """Return the plan of a deploy and its differences from the running function."""
    prepared = prepare(request)
    platform, _ = choose_platform(request.platform, request.connect)
    current = _current_deployment(platform, prepared.function)
    options = replace(request.options, show_conflicts=True)
    plan = _plan(platform, prepared, current, replace(request, options=options))
    folder = _recorded_code(platform, current)
    running = None if folder is None else scan_folder(folder)
    return compare_plan(plan, running, staging.files_to_stage(prepared.loaded))


def deploy(
    request: DeployRequest, progress: Progress, prepared: PreparedFunction | None = None
) -> Deployment:
    """Build and start the function, and wait until it is ready.

    `prepared` is the result of `prepare` for the request, if the caller has it.

    Raises `ConfigError`, `BuildError`, `ConflictError` or `NotReadyError`; the previous revision
    keeps running in each of these cases. If another deploy of the function is in progress, the
    deploy fails before anything is built.
    """
    prepared = prepared or prepare(request)
    platform, _ = choose_platform(request.platform, request.connect)
    _check_group(platform, prepared.function, progress)
    current = _current_deployment(platform, prepared.function)
    function = _with_current_settings(platform, prepared.function, current)
    ready = artifacts.artifact_without_build(platform, function, prepared.image, current)
    if platform.artifact_kind == "image":
        # A plan that the platform refuses fails before a long build.
        image = artifacts.planned_artifact(prepared.loaded, ready, platform)
        preview = platform.plan(artifacts.with_image(function, image), image, request.options)
        if preview.refusal is not None:
            raise preview.refusal
    with platform.reserve(function, progress) as reservation:
        projects.ensure_project(platform, function, current, progress)
        previous = _recorded_code(platform, current) if platform.artifact_kind == "folder" else None
        with artifacts.build_artifact(
            prepared.loaded, ready, platform, previous, progress
        ) as artifact:
            function = artifacts.with_image(function, artifact)
            planned = platform.plan(function, artifact, request.options)
            if request.check is not None:
                request.check(platform, planned, progress)
            deployed = _apply(reservation, planned, progress, prepared.loaded.folder)
    imported_code.remove(platform.name, (function.metadata.namespace, deployed.name))
    return deployed


def _apply(
    reservation: Reservation, plan: Plan, progress: Progress, folder: Path | None = None
) -> Deployment:
    """Apply the plan.

    Its warnings are reported first, since they may explain an error.
    """
    for text in plan.warnings:
        progress(f"warning: {text}")
    try:
        deployment = reservation.apply(plan, progress)
    except (BuildError, NotReadyError) as error:
        dependency_hints.add_hint(error, plan, folder)
        raise
    new_warnings = (text for text in deployment.warnings if text not in plan.warnings)
    return replace(deployment, warnings=tuple(new_warnings))


def update(platform: Platform, request: DeployRequest, progress: Progress) -> Deployment:
    """Change the stored configuration of a function and run it from its recorded code.

    Adds a warning for each secret that the request declares and the function does not set.
    """
    assert request.name is not None
    current = platform.deployment(request.namespace, request.name)
    function = _with_enabled(
        with_defaults(merge_functions(request.overrides, current.function)), request
    )
    function = function.with_metadata(namespace=request.namespace, name=request.name)
    function = access.without_masked_credentials(function)
    reject_masked_values(to_dict(function))
    updated = reconfigure(platform, current, function, request.options, progress)
    declared = declared_secrets(request.overrides.metadata.annotations)
    unset = [f"{message}; {hint}" for message, hint in unset_secrets(function, declared)]
    return replace(updated, warnings=(*updated.warnings, *unset))


def reconfigure(
    platform: Platform,
    current: Deployment,
    function: Function,
    options: PlanOptions,
    progress: Progress,
) -> Deployment:
    """Run a function from its recorded code with a new, complete configuration."""
    _check_group(platform, function, progress)
    function = access.with_credentials(platform, function, current)
    with (
        platform.reserve(function, progress) as reservation,
        artifacts.recorded_artifact(platform, current, function, progress) as artifact,
    ):
        projects.ensure_project(platform, function, current, progress)
        plan = platform.plan(function, artifact, options)
        return _apply(reservation, plan, progress)


def _overrides_with_identity(request: DeployRequest) -> Function:
    """Return the overrides with the name, namespace and project of the request.

    The namespace of the file is ignored, as in nuctl.
    """
    metadata = request.overrides.metadata
    labels = dict(metadata.labels)
    if request.project:
        labels[PROJECT_LABEL] = request.project
    return request.overrides.with_metadata(
        name=request.name or metadata.name, namespace=request.namespace, labels=labels
    )


def _with_enabled(function: Function, request: DeployRequest) -> Function:
    return function.with_spec(disable=False) if request.enabled else function


def _with_current_settings(
    platform: Platform, function: Function, current: Deployment | None
) -> Function:
    """Return the function with the project and the credentials of the deployed one."""
    function = projects.with_project_label(function, current)
    return access.with_credentials(platform, function, current, keep_tokens=True)


def _current_deployment(platform: Platform, function: Function) -> Deployment | None:
    """Return the deployed function, None if there is none."""
    try:
        return platform.deployment(function.metadata.namespace, function.metadata.name)
    except NotFoundError:
        return None


def _recorded_code(platform: Platform, current: Deployment | None) -> Path | None:
    """Return the recorded code of the active revision."""
    if current is None or not current.revision:
        return None
    try:
        return platform.code_folder(
            current.function.metadata.namespace, current.name, current.revision
        )
    except NotFoundError:
        return None  # deleted since the lookup
