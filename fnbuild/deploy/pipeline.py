"""The pipeline of a deploy: load, check, build, plan, apply.

Each stage takes a value and gives a value, and only the last one changes anything: dry run, diff
and export are the same stages, stopped earlier. The command line and the dashboard both call this.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from fnbuild.builder import staging
from fnbuild.builder.staging import scan_folder
from fnbuild.deploy import artifacts, dependency_hints, projects
from fnbuild.deploy.diff import Difference, compare_plan
from fnbuild.deploy.projects import PROJECT_LABEL
from fnbuild.errors import BuildError, NotFoundError, NotReadyError, Report, UsageError
from fnbuild.function import import_rules, reader
from fnbuild.function.function_rules import unset_secrets
from fnbuild.function.merge import merge_functions
from fnbuild.function.rules import with_defaults
from fnbuild.function.secret_detection import declared_secrets
from fnbuild.function.secrets import reject_masked_values, without_secrets
from fnbuild.function.types import Function, Metadata, Raw, to_dict
from fnbuild.platforms import (
    NO_OPTIONS,
    Deployment,
    Plan,
    PlanOptions,
    Platform,
    Progress,
    Reservation,
    imported_code,
    lookup,
)
from fnbuild.platforms.revision_records import PREVIOUS_STATE_ANNOTATION, without_skip_annotations

DEFAULT_NAMESPACE = "nuclio"


@dataclass(frozen=True, slots=True)
class DeployRequest:
    """What somebody asked for. `overrides` holds only what flags have set; `base` lies below all.

    `enabled` runs a function whose configuration disables it: no override can say so, since what is
    false does not override. `image` is one that is there already, to be run instead of a build.
    """

    path: Path | None = None
    name: str | None = None
    config_file: Path | None = None
    namespace: str = DEFAULT_NAMESPACE
    project: str | None = None
    overrides: Function = field(default_factory=Function)
    base: Function | None = None
    variant: str | None = None
    platform: str = "process"
    strict: bool = False
    enabled: bool = False
    image: str = ""
    options: PlanOptions = NO_OPTIONS


@dataclass(frozen=True, slots=True)
class PreparedFunction:
    """A function read, merged with the flags and checked; `report` holds the warnings.

    With `image` it runs from that one, and nothing is built.
    """

    loaded: reader.LoadedFunction
    function: Function
    report: Report
    image: str = ""


def choose_platform(name: str) -> tuple[Platform, str]:
    """The platform, and why it was chosen, in words.

    `auto` takes the cluster where one is configured and answers, else Docker where an engine
    answers, else processes.
    """
    if name != "auto":
        return lookup(name), f"asked for by name: {name}"
    # Imported on use: most commands name their platform.
    from fnbuild.platforms.kubeclient import connection

    silent: list[str] = []
    if connection.is_configured():
        cluster = lookup("kube")
        if not (silent := cluster.problems()):
            return cluster, "auto: a cluster is configured and answers"
    containers = lookup("local")
    if not (mute := containers.problems()):
        return containers, f"auto: {'; '.join([*silent, 'a container engine answers'])}"
    whys = (text.partition(";")[0] for text in (*silent, *mute))
    return lookup("process"), f"auto: {'; '.join(whys)}"


def prepare(request: DeployRequest) -> PreparedFunction:
    """Read and check. Raises `ConfigError` with every finding, `UsageError` without a path."""
    overrides = _overrides_with_identity(request)
    if request.path is None:
        raise UsageError(
            "there is nothing to deploy: no path was given",
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
    reject_masked_values(to_dict(function))
    loaded = replace(loaded, function=function)
    return PreparedFunction(
        loaded, function, loaded.report, request.image or _configured_image(function)
    )


def _configured_image(function: Function) -> str:
    """The image that the configuration says is the code (Nuclio's codeEntryType `image`)."""
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


def plan(request: DeployRequest) -> Plan:
    """Return the changes that a deploy would make, without building or changing anything."""
    prepared = prepare(request)
    platform, _ = choose_platform(request.platform)
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
    function = projects.with_project_label(prepared.function, current)
    ready = artifacts.prebuilt(prepared.image, current)
    artifact = artifacts.planned_artifact(prepared.loaded, ready, platform, exactly=True)
    function = artifacts.with_image(function, artifact)
    made = platform.plan(function, artifact, request.options)
    return replace(made, steps=(*projects.project_steps(platform, function), *made.steps))


def diff(request: DeployRequest) -> Difference:
    """The plan of a deploy, and how it differs from what runs."""
    prepared = prepare(request)
    platform, _ = choose_platform(request.platform)
    current = _current_deployment(platform, prepared.function)
    options = replace(request.options, show_conflicts=True)
    made = _plan(platform, prepared, current, replace(request, options=options))
    folder = _recorded_code(platform, current)
    running = None if folder is None else scan_folder(folder)
    return compare_plan(made, running, staging.code_files(prepared.loaded))


def deploy(request: DeployRequest, progress: Progress) -> Deployment:
    """Build and start the function, and wait until it is ready.

    Raises `ConfigError`, `BuildError`, `ConflictError` or `NotReadyError`; whatever ran before
    keeps running in each of these cases. While another deploy of the function is under way, it is
    refused before anything is built.
    """
    prepared = prepare(request)
    platform, _ = choose_platform(request.platform)
    current = _current_deployment(platform, prepared.function)
    function = projects.with_project_label(prepared.function, current)
    ready = artifacts.prebuilt(prepared.image, current)
    if platform.artifact_kind == "image":
        # What cannot be deployed is told before a long build.
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
            deployed = _apply(reservation, planned, progress, prepared.loaded.folder)
    imported_code.remove(platform.name, (function.metadata.namespace, deployed.name))
    return deployed


def _apply(
    reservation: Reservation, plan: Plan, progress: Progress, folder: Path | None = None
) -> Deployment:
    """Apply the plan. Its warnings are reported first, before an error that they may explain."""
    for text in plan.warnings:
        progress(f"warning: {text}")
    try:
        done = reservation.apply(plan, progress)
    except (BuildError, NotReadyError) as error:
        dependency_hints.add_hint(error, plan, folder)
        raise
    return replace(
        done, warnings=tuple(warning for warning in done.warnings if warning not in plan.warnings)
    )


def update(platform: Platform, request: DeployRequest, progress: Progress) -> Deployment:
    """Change the stored configuration of a function and run it from its recorded code.

    Secrets that the request declares and the function does not set are warnings.
    """
    assert request.name is not None
    current = platform.deployment(request.namespace, request.name)
    function = _with_enabled(
        with_defaults(merge_functions(request.overrides, current.function)), request
    )
    metadata = _renamed_metadata(function, request.namespace, request.name)
    function = msgspec.structs.replace(function, metadata=metadata)
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
    """Run a function from its recorded code by another configuration, which is complete."""
    with (
        platform.reserve(function, progress) as reservation,
        artifacts.recorded_artifact(platform, current, function, progress) as artifact,
    ):
        projects.ensure_project(platform, function, current, progress)
        made = platform.plan(function, artifact, options)
        return _apply(reservation, made, progress)


def export_configuration(
    function: Function,
    *,
    state: str = "",
    image: str = "",
    scrub: bool = True,
    cleanup_spec: bool = False,
) -> Raw:
    """The configuration as nuctl exports it: ready to be imported elsewhere. `state` is the
    function's own, which Nuclio notes down. `image` is the exact reference of what runs where there
    is one: where it is from a registry, it stands for the name that may mean another image by then.

    Scrubbing blanks the namespace and the secrets, as Nuclio does (pkg/functionconfig/types.go).
    """
    raw = to_dict(function)
    raw.pop("status", None)
    metadata = raw.setdefault("metadata", {})
    metadata.pop("resourceVersion", None)
    annotations = metadata.setdefault("annotations", {})
    annotations.update({"skip-build": "true", "skip-deploy": "true"})
    if state:
        annotations[PREVIOUS_STATE_ANNOTATION] = state
    spec = raw.setdefault("spec", {})
    if "@sha256:" in image:
        spec["image"] = image
    if scrub:
        metadata.pop("namespace", None)
        raw = without_secrets(raw)
        spec = raw["spec"]
    if cleanup_spec:
        spec.pop("runRegistry", None)
        spec.get("build", {}).pop("registry", None)
        if spec.get("build", {}).get("functionSourceCode"):
            spec.pop("image", None)
    return raw


def import_function(  # noqa: PLR0913 - one parameter for each thing an import says
    platform: Platform,
    raw: Raw,
    namespace: str,
    origin: str,
    code: Path | None = None,
    *,
    autofix: bool = True,
) -> Deployment:
    """Record an exported function in state `imported`; it starts at its first deploy.

    `code` is the folder of the export, which is copied to the data directory. Faults that Nuclio
    repairs are repaired with a warning; without `autofix` they are errors. Raises `ConfigError`.
    """
    function, repair = import_rules.check_import(
        reader.function_from_dict(raw, origin), origin, autofix=autofix
    )
    metadata = _renamed_metadata(function, namespace, function.metadata.name)
    function = projects.with_project_label(
        msgspec.structs.replace(function, metadata=metadata), None
    )
    projects.ensure_project(platform, function, None, lambda _: None)
    imported = platform.store_imported(function)
    key = (namespace, imported.name)
    if code is None:
        imported_code.remove(platform.name, key)
    else:
        imported_code.save(platform.name, key, code)
    return replace(imported, warnings=(*imported.warnings, repair)) if repair else imported


def _overrides_with_identity(request: DeployRequest) -> Function:
    """The overrides, with the name, namespace and project of the request in them.

    The namespace of the file never counts: nuctl overwrites it with its own flag.
    """
    metadata = request.overrides.metadata
    labels = dict(metadata.labels)
    if request.project:
        labels[PROJECT_LABEL] = request.project
    return msgspec.structs.replace(
        request.overrides,
        metadata=msgspec.structs.replace(
            metadata,
            name=request.name or metadata.name,
            namespace=request.namespace,
            labels=labels,
        ),
    )


def _with_enabled(function: Function, request: DeployRequest) -> Function:
    if not request.enabled:
        return function
    spec = msgspec.structs.replace(function.spec, disable=False)
    return msgspec.structs.replace(function, spec=spec)


def _renamed_metadata(function: Function, namespace: str, name: str) -> Metadata:
    return msgspec.structs.replace(function.metadata, namespace=namespace, name=name)


def _current_deployment(platform: Platform, function: Function) -> Deployment | None:
    """The function as the platform has it already."""
    try:
        return platform.deployment(function.metadata.namespace, function.metadata.name)
    except NotFoundError:
        return None


def _recorded_code(platform: Platform, current: Deployment | None) -> Path | None:
    """The recorded code of the revision that is the active one."""
    if current is None or not current.revision:
        return None
    try:
        return platform.code_folder(
            current.function.metadata.namespace, current.name, current.revision
        )
    except NotFoundError:
        return None  # it was deleted after it was looked up
