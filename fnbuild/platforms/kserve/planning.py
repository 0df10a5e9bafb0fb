"""The plan of a deploy: KServe's rules, the choice of a runtime, and the changes in the cluster."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from fnbuild.errors import ConflictError, PreconditionError
from fnbuild.function.kserve_settings import KServeSettings, kserve_settings
from fnbuild.function.secret_references import SecretReferences
from fnbuild.function.types import Function, Raw
from fnbuild.platforms import Artifact, Change, Manifest, Plan, PlanOptions
from fnbuild.platforms.kserve import admission, selection
from fnbuild.platforms.kserve.cluster_config import KServeConfig, read_config, require_installed
from fnbuild.platforms.kserve.identity import (
    owner_namespace,
    validate_service_name,
    validated_key,
)
from fnbuild.platforms.kserve.pod_fields import MODE_WORDS, Mode
from fnbuild.platforms.kserve.records import RECORDS, FunctionRecord
from fnbuild.platforms.kserve.references import (
    explain_choices,
    explain_host,
    require_references,
)
from fnbuild.platforms.kserve.revision_record import RevisionRecord
from fnbuild.platforms.kserve.runtime_manifest import render_runtime
from fnbuild.platforms.kserve.service_manifest import ServiceContext, is_canary, render_service
from fnbuild.platforms.kserve.warnings import (
    cluster_warnings,
    configuration_warnings,
    image_warnings,
)
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import FIELD_MANAGER, Cluster, if_allowed
from fnbuild.platforms.kubeclient.manifests import change_target
from fnbuild.platforms.kubeclient.object_changes import (
    default_pull_secret,
    dry_run,
    object_change,
)
from fnbuild.platforms.kubeclient.objects import KubeObject
from fnbuild.platforms.kubeclient.ownership import is_managed
from fnbuild.platforms.kubeclient.secret_store import SecretStore
from fnbuild.platforms.leases import local_owner
from fnbuild.platforms.plans import REVISION_TARGET, make_change, with_new_revision
from fnbuild.platforms.revision_records import RevisionOrigin, stored_config, timestamp

PLAN_OPTIONS = frozenset({"force", "keep_failed"})
_SHARE_FIELDS = frozenset(
    {"minReplicas", "maxReplicas", "scaleTarget", "scaleMetric", "canaryTrafficPercent",
     "trafficPercent"}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """A plan with everything that its execution needs.

    `manager` is the field manager of the manifest, whose object is `live` if it exists.
    """

    plan: Plan
    record: RevisionRecord
    context: ServiceContext
    manifest: Manifest
    live: Raw | None
    secret_store: SecretStore

    @property
    def manager(self) -> str:
        return field_manager(self.record)

    @property
    def is_service(self) -> bool:
        """False for a serving runtime, which has no pods of its own."""
        return bool(self.manifest["kind"] == kinds.INFERENCE_SERVICE.name)


def field_manager(record: RevisionRecord) -> str:
    """Return the manager: a transformer manages its part of another function's service."""
    is_part = bool(kserve_settings(record.function).inference_service)
    return f"{FIELD_MANAGER}-{record.name}" if is_part else FIELD_MANAGER


def render(record: RevisionRecord, context: ServiceContext) -> Manifest:
    """Return the manifest of a revision."""
    runtime = kserve_settings(record.function).serving_runtime
    if runtime is not None:
        return render_runtime(record, runtime, context.pull_secret)
    return render_service(record, context)


def plan_deploy(  # noqa: PLR0913, PLR0917 (the record, function, options)
    cluster: Cluster,
    function_record: FunctionRecord,
    function: Function,
    artifact: Artifact,
    options: PlanOptions,
    origin: RevisionOrigin | None = None,
) -> ServicePlan:
    """Plan the deploy of a function; with `origin` it runs a recorded revision again.

    Raises `InputError` for values that KServe refuses, and `PreconditionError` if something is
    missing in the cluster.
    """
    options.require_supported("KServe", PLAN_OPTIONS)
    settings = kserve_settings(function)
    _validate_names(function, settings)
    require_installed(cluster)
    function = function.with_spec(image=artifact.reference)
    cluster_config = read_config(cluster)
    store = RECORDS.secret_store(cluster, function_record.key)
    record = _new_revision(function_record, store, function, artifact, options, origin)
    live = _live_object(cluster, record, settings)
    mode = _choose_mode(settings, cluster_config, live)
    stable = _stable_revision(function_record, settings, mode)
    context = ServiceContext(mode, stable, default_pull_secret(cluster, function))
    manifest = render(record, context)
    _check_rules(cluster, manifest, mode)
    require_references(cluster, function, settings)
    explanations = (
        *explain_choices(cluster, function, settings, cluster_config),
        *explain_host(function, settings, cluster_config, mode),
    )
    after, conflict = dry_run(cluster, manifest, options, field_manager(record))
    if record.is_built and settings.serving_runtime is None and _starts_pods(live, after):
        record = replace(record, pod_revision=record.number)
        manifest = render(record, context)
        after, conflict = dry_run(cluster, manifest, options, field_manager(record))
    changes = (
        *_function_changes(function_record, record, artifact),
        object_change(manifest, live, after),
    )
    if (origin is not None or options.force) or any(change.verb != "keep" for change in changes):
        changes = with_new_revision(changes)
    warnings = (
        *artifact.warnings,
        *configuration_warnings(function, settings, mode),
        *map(str, admission.manifest_warnings(manifest)),
        *cluster_warnings(cluster_config),
        *image_warnings(function, artifact),
        *([conflict] if conflict else []),
    )
    references = SecretReferences(RECORDS.secret_owner(record.name))
    config = references.replace_secrets(stored_config(function))
    plain = replace(record, stamp="", pod_revision=0, config=config)
    plan = Plan(
        function,
        artifact,
        changes,
        warnings,
        options,
        manifests=(render(plain, context),),
        prerequisites=references.instructions(record.namespace),
        explanations=explanations,
    )
    return ServicePlan(plan, record, context, manifest, live, store)


def _validate_names(function: Function, settings: KServeSettings) -> None:
    validated_key(function)
    if settings.inference_service:
        place = "spec.platform.attributes.kserve.inferenceService"
        validate_service_name(settings.inference_service, place)


def _choose_mode(settings: KServeSettings, config: KServeConfig, live: Raw | None) -> Mode:
    """Return the mode of the function, of the live object, or KServe's default.

    Raises `PreconditionError` for another mode than that of the live object.
    """
    wanted = MODE_WORDS.get(settings.deployment_mode or "")
    current = MODE_WORDS.get(KubeObject(live or {}).status.text("deploymentMode"))
    if wanted and current and wanted != current:
        raise PreconditionError(
            f"the InferenceService runs in {current} mode, which KServe does not change",
            hint="delete the function first, or deploy it with another name",
        )
    return wanted or current or config.default_mode


def stable_revision(
    function_record: FunctionRecord, settings: KServeSettings
) -> RevisionRecord | None:
    """Return the revision that keeps the other requests during a canary; None without one.

    Raises `PreconditionError` if there is none: the first revision always gets all requests.
    """
    if not is_canary(settings):
        return None
    for record in function_record.revisions:
        if not record.failed and not is_canary(kserve_settings(record.function)):
            return record
    raise PreconditionError(
        f"{function_record.key.name} has no revision that could get the other requests",
        hint="deploy it without `--canary` first",
    )


def _stable_revision(
    function_record: FunctionRecord, settings: KServeSettings, mode: Mode
) -> RevisionRecord | None:
    """Return the revision beside a canary; see `stable_revision`.

    Raises `PreconditionError` for a canary with a transformer in Standard mode.
    """
    stable = stable_revision(function_record, settings)
    if stable is None or mode == "Knative":
        return stable
    components = {settings.component, kserve_settings(stable.function).component}
    if components != {"predictor"}:
        raise PreconditionError(
            "canaryTrafficPercent: in Standard mode KServe has canaries of predictors only, so the"
            " new transformer would get no requests",
            hint="deploy it without a canary, or under another name with `deploymentMode: Knative`",
        )
    return stable


def _new_revision(  # noqa: PLR0913, PLR0917 (the record, its content and origin)
    function_record: FunctionRecord,
    store: SecretStore,
    function: Function,
    artifact: Artifact,
    options: PlanOptions,
    origin: RevisionOrigin | None,
) -> RevisionRecord:
    """Return the record of the revision that a deploy would create."""
    key, applied = function_record.key, function_record.applied
    number = max((record.number for record in function_record.revisions), default=0) + 1
    record = RevisionRecord(
        namespace=key.namespace,
        name=key.name,
        number=number,
        created=timestamp(),
        digest=artifact.digest,
        image=artifact.reference,
        pinned=_pinned_reference(applied, artifact),
        config=store.with_references(stored_config(function)),
        source=number,
        owner=local_owner(),
        pod_revision=applied.pod_revision if applied is not None else 0,
    )
    if origin is not None:
        return replace(record, source=origin.revision, note=origin.note, stamp=record.created)
    if options.force:
        return replace(record, stamp=record.created)
    if applied is not None and (applied.config, applied.pinned) == (record.config, record.pinned):
        # An unchanged deploy restarts no pod.
        return replace(record, stamp=applied.stamp)
    return record


def _starts_pods(live: Raw | None, after: Raw) -> bool:
    """Return True if more than the number of pods and their share of requests changes."""
    return live is None or _without_shares(live["spec"]) != _without_shares(after["spec"])


def _without_shares(value: Any) -> Any:
    if isinstance(value, dict):
        kept = (key for key in value if key not in _SHARE_FIELDS)
        return {key: _without_shares(value[key]) for key in kept}
    return [_without_shares(item) for item in value] if isinstance(value, list) else value


def _pinned_reference(applied: RevisionRecord | None, artifact: Artifact) -> str:
    """Return the exact reference; before the build, that of an image with the same code."""
    if artifact.pinned or not artifact.digest or applied is None:
        return artifact.pinned
    is_same = (applied.digest, applied.image) == (artifact.digest, artifact.reference)
    return applied.pinned if is_same else ""


def _live_object(cluster: Cluster, record: RevisionRecord, settings: KServeSettings) -> Raw | None:
    """Return the object that the deploy changes, if it exists.

    Raises `ConflictError` for an object of another tool or namespace, and `PreconditionError`
    without the service that a transformer belongs to.
    """
    kind, name = kinds.INFERENCE_SERVICE, settings.inference_service or record.name
    if (runtime := settings.serving_runtime) is not None:
        kind = kinds.CLUSTER_SERVING_RUNTIME if runtime.cluster else kinds.SERVING_RUNTIME
    live = cluster.get(kind, record.namespace, name)
    if settings.inference_service:
        if live is None:
            raise PreconditionError(
                f"there is no InferenceService {name} in namespace {record.namespace} for the"
                f" transformer {record.name}",
                hint=f"deploy the function {name}, which predicts, first",
            )
    elif live is not None and not is_managed(live):
        raise ConflictError(
            f"{kind.name} {name} is not managed by fnbuild",
            hint="give the function another name, or delete what is there",
        )
    elif live is not None and owner_namespace(live) not in ("", record.namespace):
        raise ConflictError(
            f"{kind.name} {name} is that of the function in namespace {owner_namespace(live)}",
            hint="give the function another name: all namespaces share these runtimes",
        )
    return live


def _check_rules(cluster: Cluster, manifest: Manifest, mode: Mode) -> None:
    """Raise `InputError` or `ConflictError` for what KServe would refuse, or accept in vain."""
    target = change_target(manifest)
    if manifest["kind"] == kinds.INFERENCE_SERVICE.name:
        admission.require_admissible(admission.service_problems(manifest, mode), target)
        return
    admission.require_admissible(admission.runtime_problems(manifest), target)
    kind = kinds.kind_of(manifest)
    namespace = manifest["metadata"].get("namespace")
    others = if_allowed(lambda: cluster.list(kind, namespace), [])
    for conflict in selection.runtime_conflicts(manifest, others):
        raise ConflictError(
            f"KServe would refuse {target}: {conflict}",
            hint="give the formats another priority, or `autoSelect: false`",
        )


def _function_changes(
    function_record: FunctionRecord, record: RevisionRecord, artifact: Artifact
) -> tuple[Change, ...]:
    applied = function_record.applied
    after = {"image": record.image, "code": record.digest, "id": artifact.pinned}
    before, config = None, None
    if applied is not None and not applied.failed:
        # An image that has not been built has no exact reference to compare.
        exact = applied.pinned if artifact.pinned else ""
        before = {"image": applied.image, "code": applied.digest, "id": exact}
        config = applied.config
    return (
        make_change(f"function {record.name}", config, record.config),
        make_change(REVISION_TARGET, before, after),
    )
