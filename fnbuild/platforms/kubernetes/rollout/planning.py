"""The plan of a rollout: the changes that a deploy would make in the cluster.

Server-side dry runs show what each object would become, so that rejected objects and conflicting
changes are reported before anything is changed.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import msgspec

from fnbuild.builder.processor_settings import serves_inference
from fnbuild.errors import InputError
from fnbuild.function.types import Function, Raw
from fnbuild.platforms import Artifact, Change, Manifest, Plan, PlanOptions
from fnbuild.platforms.kubeclient import manifests as kube_manifests
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubeclient.errors import FieldConflictError, InvalidFieldsError
from fnbuild.platforms.kubeclient.kinds import SCALED_OBJECT
from fnbuild.platforms.kubeclient.manifests import change_target, object_identity
from fnbuild.platforms.kubeclient.objects import KubeDeployment, Pod
from fnbuild.platforms.kubeclient.secret_store import SecretStore
from fnbuild.platforms.kubernetes import labels, leases, records
from fnbuild.platforms.kubernetes.diagnosis import queries, rejections
from fnbuild.platforms.kubernetes.inventory import FunctionObjects
from fnbuild.platforms.kubernetes.labels import validated_key
from fnbuild.platforms.kubernetes.manifests.network import service_manifest
from fnbuild.platforms.kubernetes.manifests.rendering import (
    RenderContext,
    prerequisites,
    render_manifests,
    render_portable,
)
from fnbuild.platforms.kubernetes.revision_record import RevisionRecord, recorded_config
from fnbuild.platforms.kubernetes.rollout import replacement
from fnbuild.platforms.kubernetes.rollout.live_objects import LiveObjects, read_live_objects
from fnbuild.platforms.kubernetes.rollout.server_side_apply import apply_manifest
from fnbuild.platforms.kubernetes.rollout.warnings import (
    budget_warnings,
    configuration_warnings,
    image_warnings,
    scale_warnings,
    zero_replicas_warnings,
)
from fnbuild.platforms.leases import local_owner
from fnbuild.platforms.plans import REVISION_TARGET, as_replacement, make_change, with_new_revision
from fnbuild.platforms.revision_records import RevisionOrigin, timestamp

PLAN_OPTIONS = frozenset({"force", "overlap", "keep_failed", "monitoring"})
_MAX_THREADS = 6

_HIDDEN_ANNOTATIONS = (
    *labels.REVISION_ANNOTATIONS,
    labels.CONFIG,  # compared as the function
    "deployment.kubernetes.io/revision",
    "kubectl.kubernetes.io/last-applied-configuration",
)


@dataclass(frozen=True, slots=True)
class Rerun:
    """The parameters of running a recorded revision as a new one.

    `participle` names the operation for other clients. A changed `stamp` restarts the pods.
    """

    participle: str
    origin: RevisionOrigin
    stamp: str
    overlap: bool


@dataclass(frozen=True, slots=True)
class RolloutPlan:
    """A plan with everything that its execution needs.

    `manifests` are in the order of application; `obsolete` live objects are deleted when the new
    revision serves. With `autoscaled`, an obsolete autoscaler has set the number of pods, which is
    left alone until it is deleted. `scaled_object` is the live ScaledObject of KEDA, which would
    end pods during the rollout. `secret_store` has the values to which the revision refers.
    """

    plan: Plan
    objects: FunctionObjects
    revision: RevisionRecord
    context: RenderContext
    manifests: tuple[Manifest, ...]
    obsolete: tuple[Raw, ...]
    secret_store: SecretStore
    autoscaled: bool = False
    scaled_object: Raw | None = None
    mode: replacement.ReplacementMode = "as-configured"

    @property
    def deployment(self) -> Manifest:
        """The Deployment in the form that is applied first."""
        manifest = deployment_of(self.manifests)
        if self.mode == "beside":
            manifest = replacement.with_overlap(manifest)
        return without_replicas(manifest) if self.autoscaled else manifest

    @property
    def needs_second_apply(self) -> bool:
        """True if the Deployment is applied again, in its final form, after the rollout."""
        return self.autoscaled or self.mode == "beside"

    @property
    def force_conflicts(self) -> bool:
        """True if fields of other managers are taken over."""
        return self.plan.options.force_conflicts

    def is_changed(self, manifest: Manifest) -> bool:
        """Return True if the plan changes the manifest's object."""
        return any(
            change.target == change_target(manifest) for change in self.plan.effective_changes
        )


def plan_rollout(  # noqa: PLR0913, PLR0917 (live objects, function, options)
    cluster: Cluster,
    objects: FunctionObjects,
    function: Function,
    artifact: Artifact,
    options: PlanOptions,
    rerun: Rerun | None = None,
    *,
    preview: bool = False,
) -> RolloutPlan:
    """Plan the deploy of a function. With `preview`, its image may not have been built yet.

    Raises `InputError` for values that Kubernetes rejects, `NotFoundError` without the namespace,
    `ForbiddenError` without permissions, and `ConflictError` for fields of other managers.
    """
    function = _with_options(function, artifact, options)
    validated_key(function)
    leases.require_managed(objects)
    live = read_live_objects(cluster, objects, function)
    store = SecretStore(cluster, objects.key)
    config = store.with_references(recorded_config(function))
    record = _new_revision(objects, config, artifact, options, rerun)
    running = objects.deployment
    unready = None if running is None or running.is_rolled_out else running
    if unready is not None and rerun is None and _has_failed(cluster, unready, live.pods):
        record = replace(record, stamp=timestamp())
    context = _with_free_node_port(cluster, objects, record, live.context)

    def render(record: RevisionRecord) -> tuple[Manifest, ...]:
        applied = objects.applied_revision
        return render_manifests(
            _as_if_built(record, applied, artifact) if preview else record, context
        )

    manifests = render(record)
    identities = {object_identity(manifest) for manifest in manifests}
    obsolete = tuple(
        manifest for manifest in live.objects if object_identity(manifest) not in identities
    )
    autoscaled = context.replicas is None and any(_is_autoscaler(manifest) for manifest in obsolete)

    def dry_run(manifest: Manifest) -> tuple[Raw, str]:
        candidate = without_replicas(manifest) if autoscaled else manifest
        return _dry_run(cluster, function, candidate, options)

    with ThreadPoolExecutor(_MAX_THREADS) as pool:
        results = list(pool.map(dry_run, manifests))
        if serves_inference(function) and _starts_pods(results, live):
            record = replace(record, pod_revision=record.number)
            manifests = render(record)
            results = list(pool.map(dry_run, manifests))
    deployment_manifest = deployment_of(manifest for manifest, _ in results)
    decision = replacement.choose_replacement(
        cluster, function, deployment_manifest, live.find(deployment_manifest), live.pods
    )
    changes = (
        *_function_changes(objects, record, artifact),
        *(
            _change(change_target(manifest), live.find(manifest), manifest)
            for manifest, _ in results
        ),
        *(
            Change("delete", change_target(manifest), without_server_fields(manifest))
            for manifest in obsolete
        ),
    )
    if rerun is not None or unready is not None:
        changes = tuple(
            as_replacement(change) if change.target.startswith("deployment ") else change
            for change in changes
        )
    warnings = (
        *artifact.warnings,
        *configuration_warnings(function),
        *zero_replicas_warnings(function, context),
        *image_warnings(function, artifact),
        *scale_warnings(objects, record, rerun is not None),
        *budget_warnings(function, context),
        *(text for _, text in results if text),
    )
    if decision.refusal is not None and preview:
        warnings += (f"a deploy would be refused now: {decision.refusal.line}",)
    if any(change.verb != "keep" for change in changes):
        changes = with_new_revision(changes)
    plan = Plan(
        function,
        artifact,
        changes,
        warnings,
        options,
        manifests=render_portable(record, context, monitoring=options.monitoring),
        prerequisites=prerequisites(record),
        refusal=decision.refusal,
    )
    scaled_objects = (obj for obj in live.objects if obj["kind"] == SCALED_OBJECT.name)
    return RolloutPlan(
        plan,
        objects,
        record,
        context,
        manifests,
        obsolete,
        store,
        autoscaled,
        next(scaled_objects, None),
        decision.mode,
    )


def _starts_pods(results: Iterable[tuple[Raw, str]], live: LiveObjects) -> bool:
    """Return True if the Deployment that results from the plan has new pods."""
    after = deployment_of(manifest for manifest, _ in results)
    before = live.find(after)
    return before is None or before["spec"]["template"] != after["spec"]["template"]


def _with_free_node_port(
    cluster: Cluster, objects: FunctionObjects, record: RevisionRecord, context: RenderContext
) -> RenderContext:
    """Keep the node port of a removed Service, unless it has been taken in the meantime."""
    if objects.service is not None or not context.node_port:
        return context
    try:
        cluster.apply(service_manifest(record, record.function, context.node_port), dry_run=True)
    except InputError:
        return replace(context, node_port=0)
    return context


def _dry_run(
    cluster: Cluster, function: Function, manifest: Manifest, options: PlanOptions
) -> tuple[Raw, str]:
    """Return the object that a manifest would result in, and a warning or ""."""
    force = options.force_conflicts
    try:
        return apply_manifest(cluster, manifest, dry_run=True, force=force), ""
    except InvalidFieldsError as error:
        raise rejections.explain_invalid_fields(cluster, function, manifest, error) from error
    except FieldConflictError as error:
        if not options.show_conflicts:
            raise
        after = apply_manifest(cluster, manifest, dry_run=True, force=True)
        return after, f"{error.message}; `--force-conflicts` takes them over"


def _is_autoscaler(manifest: Raw) -> bool:
    return manifest["kind"] in ("HorizontalPodAutoscaler", SCALED_OBJECT.name)


def _with_options(function: Function, artifact: Artifact, options: PlanOptions) -> Function:
    hint = "`--http-trigger-service-type` sets the listen addresses" if options.listen else None
    options.require_supported("Kubernetes", PLAN_OPTIONS, hint)
    spec = msgspec.structs.replace(function.spec, image=artifact.reference)
    return msgspec.structs.replace(function, spec=spec)


def _new_revision(
    objects: FunctionObjects,
    config: Raw,
    artifact: Artifact,
    options: PlanOptions,
    rerun: Rerun | None,
) -> RevisionRecord:
    """Return the record of the revision that a deploy would create."""
    number = max((revision.number for revision in records.all_revisions(objects)), default=0) + 1
    applied = objects.applied_revision
    record = RevisionRecord(
        key=objects.key,
        number=number,
        created=timestamp(),
        digest=artifact.digest,
        image=artifact.reference,
        pinned=_pinned_reference(applied, artifact),
        config=config,
        source=number,
        overlap=options.overlap,
        owner=local_owner(),
        pod_revision=applied.pod_revision if applied is not None else 0,
    )
    if rerun is not None:
        return replace(
            record,
            source=rerun.origin.revision,
            note=rerun.origin.note,
            stamp=rerun.stamp,
            overlap=rerun.overlap,
        )
    if options.force:
        return replace(record, stamp=timestamp())
    if applied is not None and (applied.config, applied.pinned) == (record.config, record.pinned):
        # An unchanged deploy restarts no pod, even after a requested restart.
        return replace(record, stamp=applied.stamp)
    return record


def _pinned_reference(applied: RevisionRecord | None, artifact: Artifact) -> str:
    """Return the exact reference; before the build, that of an image with the same code."""
    if artifact.pinned or not artifact.digest or applied is None:
        return artifact.pinned
    is_same = (applied.digest, applied.image) == (artifact.digest, artifact.reference)
    return applied.pinned if is_same else ""


def _as_if_built(
    record: RevisionRecord, applied: RevisionRecord | None, artifact: Artifact
) -> RevisionRecord:
    """Return the record as if its image had been built and pinned.

    Otherwise the plan would report changes that the deploy does not make.
    """
    is_unbuilt = artifact.digest and not artifact.id and not record.pinned
    if is_unbuilt and (not applied or applied.pinned):
        return replace(record, pinned=record.image)
    return record


def _function_changes(
    objects: FunctionObjects, record: RevisionRecord, artifact: Artifact
) -> tuple[Change, ...]:
    """Return the changes of the function itself, which precede those of objects."""
    applied = objects.applied_revision
    after = {"image": record.image, "code": record.digest, "id": artifact.pinned}
    before, config = None, None
    if applied is not None:
        # An image that has not been built has no exact reference to compare.
        exact = applied.pinned if artifact.pinned else ""
        before = {"image": applied.image, "code": applied.digest, "id": exact}
        config = applied.config
    return (
        make_change(f"function {record.key.name}", config, record.config),
        make_change(REVISION_TARGET, before, after),
    )


def _has_failed(cluster: Cluster, kube_deployment: KubeDeployment, pods: list[Pod]) -> bool:
    """Return True if the current pods cannot recover without a new rollout."""
    return bool(queries.query_rollout_status(cluster, kube_deployment, pods, time.time()).failure)


def _change(name: str, live: Raw | None, after: Raw) -> Change:
    return make_change(
        name,
        without_server_fields(live) if live is not None else None,
        without_server_fields(after),
    )


def unchanged_message(plan: Plan) -> str:
    """Return the progress message for a plan without changes.

    It mentions `--force` for an image named by a tag, which may mean another image by now.
    """
    image = plan.artifact
    if plan.function.spec.disable or image.digest or image.pinned or "@" in image.reference:
        return plan.unchanged_message
    return f"{plan.unchanged_message}; `--force` starts it with what {image.reference} means now"


def deployment_of(manifests: Iterable[Manifest]) -> Manifest:
    """Return the Deployment among the manifests of a function."""
    return next(manifest for manifest in manifests if manifest["kind"] == "Deployment")


def without_server_fields(manifest: Raw) -> Manifest:
    """Return an object without the fields that the server adds, and those of the revision."""
    return kube_manifests.without_server_fields(manifest, _HIDDEN_ANNOTATIONS)


def without_replicas(manifest: Manifest) -> Manifest:
    """Return a Deployment without `spec.replicas`; other objects are returned unchanged."""
    if manifest["kind"] != "Deployment":
        return manifest
    spec = {key: value for key, value in manifest["spec"].items() if key != "replicas"}
    return {**manifest, "spec": spec}
