"""The plan of a rollout: the changes that a deploy would make in the cluster.

Server-side dry runs show what each object would become, so that rejected objects and conflicting
changes are reported before anything is changed.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import msgspec

from fnbuild.errors import InputError
from fnbuild.function.types import Function, Raw
from fnbuild.platforms import Artifact, Change, Manifest, Plan, PlanOptions
from fnbuild.platforms.base import REVISION_TARGET, as_replacement, make_change, with_new_revision
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubeclient.errors import FieldConflictError, InvalidFieldsError
from fnbuild.platforms.kubernetes import labels as own
from fnbuild.platforms.kubernetes import leases, records
from fnbuild.platforms.kubernetes.diagnosis import queries, rejections
from fnbuild.platforms.kubernetes.diagnosis.rollout_status import desired_replicas, is_rolled_out
from fnbuild.platforms.kubernetes.inventory import FunctionObjects
from fnbuild.platforms.kubernetes.labels import RevisionRecord, key_of, recorded_config, timestamp
from fnbuild.platforms.kubernetes.manifests import scaling
from fnbuild.platforms.kubernetes.manifests.network import service_manifest
from fnbuild.platforms.kubernetes.manifests.rendering import (
    RenderContext,
    prerequisites,
    render_manifests,
    render_portable,
)
from fnbuild.platforms.kubernetes.manifests.warnings import configuration_warnings
from fnbuild.platforms.kubernetes.rollout import replacement
from fnbuild.platforms.kubernetes.rollout.live_objects import (
    LiveObjects,
    object_identity,
    read_live_objects,
)
from fnbuild.platforms.kubernetes.rollout.server_side_apply import apply_manifest
from fnbuild.platforms.kubernetes.secret_store import SecretStore
from fnbuild.platforms.leases import local_owner

PLAN_OPTIONS = frozenset({"force", "overlap", "keep_failed", "monitoring"})
_MAX_THREADS = 6


@dataclass(frozen=True, slots=True)
class Rerun:
    """What makes a revision of a recorded one: whose code it is, and the note of that.

    With another `stamp` than the recorded one's its pods start anew.
    """

    source: int
    note: str
    stamp: str
    overlap: bool


@dataclass(frozen=True, slots=True)
class RolloutPlan:
    """A plan with what it takes to do it.

    `wanted` are the manifests in the order in which they are applied, `unwanted` live objects that
    go when the new revision serves. `scaled` says that one of these, an autoscaler, has set the
    number of pods: until it is gone, that is left alone. `secrets` has the values to which the
    revision refers. `way` is how the pods are
    replaced.
    """

    plan: Plan
    known: FunctionObjects
    made: RevisionRecord
    around: RenderContext
    wanted: tuple[Manifest, ...]
    unwanted: tuple[Raw, ...]
    secrets: SecretStore
    scaled: bool = False
    way: replacement.ReplacementMode = "as-configured"

    @property
    def deployment(self) -> Manifest:
        """The Deployment as it is applied first."""
        manifest = next(one for one in self.wanted if one["kind"] == "Deployment")
        if self.way == "beside":
            manifest = replacement.with_overlap(manifest)
        return without_replicas(manifest) if self.scaled else manifest

    @property
    def provisional(self) -> bool:
        """Return True if the Deployment is to be applied again, as it stays, after the rollout."""
        return self.scaled or self.way == "beside"

    @property
    def forces(self) -> bool:
        """Whether fields that somebody else has changed are taken over."""
        return self.plan.options.force_conflicts

    def changes(self, manifest: Manifest) -> bool:
        """Whether the manifest differs from what is there."""
        return any(
            change.target == change_target(manifest) for change in self.plan.effective_changes
        )


def plan_rollout(  # noqa: PLR0913, PLR0917 (what is there, what is wanted, how)
    cluster: Cluster,
    known: FunctionObjects,
    function: Function,
    artifact: Artifact,
    options: PlanOptions,
    again: Rerun | None = None,
    *,
    preview: bool = False,
) -> RolloutPlan:
    """`preview` tells what a deploy would do whose image is yet to be built.

    Raises `InputError` for what Kubernetes does not take, `NotFoundError` without the namespace,
    `ForbiddenError` without the rights and `ConflictError` where others have changed the objects.
    """
    function = _with_options(function, artifact, options)
    key_of(function)
    leases.require_managed(known)
    live = read_live_objects(cluster, known, function)
    store = SecretStore(cluster, known.key)
    config = store.referring(recorded_config(function))
    made = _new_revision(known, config, artifact, options, again)
    runs = known.deployment
    ill = runs is not None and not is_rolled_out(runs)
    if runs is not None and ill and again is None and _has_failed(cluster, runs, live.pods):
        made = replace(made, stamp=timestamp())
    around = _with_free_node_port(cluster, known, made, live.around)
    wanted = render_manifests(_as_if_built(made, known.made, artifact) if preview else made, around)
    places = {object_identity(one) for one in wanted}
    unwanted = tuple(one for one in live.objects if object_identity(one) not in places)
    scaled = around.replicas is None and any(_is_autoscaler(one) for one in unwanted)
    tried = (without_replicas(one) if scaled else one for one in wanted)
    with ThreadPoolExecutor(_MAX_THREADS) as pool:
        after = list(pool.map(lambda one: _dry_run(cluster, function, one, options), tried))
    replacement = _choose_replacement(cluster, function, live, [one for one, _ in after])
    refusal = replacement.refusal
    steps = (
        *_function_steps(known, made, artifact),
        *(_step(change_target(one), live.found(one), one) for one, _ in after),
        *(Change("delete", change_target(one), without_server_fields(one)) for one in unwanted),
    )
    if again is not None or ill:
        whole = "deployment "
        steps = tuple(as_replacement(one) if one.target.startswith(whole) else one for one in steps)
    warnings = (
        *artifact.warnings,
        *configuration_warnings(function),
        *_image_warnings(function, artifact),
        *_scale_warnings(known, made, again is not None),
        *_budget_warnings(function, around),
        *(text for _, text in after if text),
    )
    if refusal is not None and preview:
        warnings += (f"a deploy would be refused now: {refusal.message}; {refusal.hint}",)
    done = Plan(
        function,
        artifact,
        steps if all(one.verb == "keep" for one in steps) else with_new_revision(steps),
        warnings,
        options,
        manifests=render_portable(made, around, monitoring=options.monitoring),
        needs=prerequisites(made),
        refusal=refusal,
    )
    return RolloutPlan(done, known, made, around, wanted, unwanted, store, scaled, replacement.way)


def _choose_replacement(
    cluster: Cluster, function: Function, live: LiveObjects, after: list[Raw]
) -> replacement.Replacement:
    wanted = next(one for one in after if one["kind"] == "Deployment")
    return replacement.choose_replacement(cluster, function, wanted, live.found(wanted), live.pods)


def _with_free_node_port(
    cluster: Cluster, known: FunctionObjects, made: RevisionRecord, around: RenderContext
) -> RenderContext:
    """A Service that was removed gets its node port again, unless somebody else has it by now."""
    if known.service is not None or not around.node_port:
        return around
    try:
        cluster.apply(service_manifest(made, made.function, around.node_port), dry_run=True)
    except InputError:
        return replace(around, node_port=0)
    return around


def _dry_run(
    cluster: Cluster, function: Function, manifest: Manifest, options: PlanOptions
) -> tuple[Raw, str]:
    """What the object would become, and what is to be said of that."""
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


def _is_autoscaler(one: Raw) -> bool:
    return bool(one["kind"] == "HorizontalPodAutoscaler")


def _with_options(function: Function, artifact: Artifact, options: PlanOptions) -> Function:
    hint = "`--http-trigger-service-type` sets the listen addresses" if options.listen else None
    options.require_supported("Kubernetes", PLAN_OPTIONS, hint)
    spec = msgspec.structs.replace(function.spec, image=artifact.reference)
    return msgspec.structs.replace(function, spec=spec)


def _new_revision(
    known: FunctionObjects,
    config: Raw,
    artifact: Artifact,
    options: PlanOptions,
    again: Rerun | None,
) -> RevisionRecord:
    """The revision that a deploy would make."""
    number = max((one.number for one in records.all_revisions(known)), default=0) + 1
    made = RevisionRecord(
        key=known.key,
        number=number,
        created=timestamp(),
        digest=artifact.digest,
        image=artifact.reference,
        pinned=_pinned_reference(known.made, artifact),
        config=config,
        source=number,
        overlap=options.overlap,
        owner=local_owner(),
    )
    if again is not None:
        return replace(
            made,
            source=again.source,
            note=again.note,
            stamp=again.stamp,
            overlap=again.overlap,
        )
    if options.force:
        return replace(made, stamp=timestamp())
    active = known.made
    if active is not None and (active.config, active.pinned) == (made.config, made.pinned):
        # The same again restarts nothing, behind a restart that was asked for either.
        return replace(made, stamp=active.stamp)
    return made


def _pinned_reference(active: RevisionRecord | None, artifact: Artifact) -> str:
    """The exact reference; of an image that is yet to be built, that of the same code's."""
    if artifact.pinned or not artifact.digest or active is None:
        return artifact.pinned
    same = (active.digest, active.image) == (artifact.digest, artifact.reference)
    return active.pinned if same else ""


def _as_if_built(
    made: RevisionRecord, active: RevisionRecord | None, artifact: Artifact
) -> RevisionRecord:
    """With an exact reference where a build will give one: nothing shall be told to change that
    will not.
    """
    unbuilt = artifact.digest and not artifact.id and not made.pinned
    return replace(made, pinned=made.image) if unbuilt and (not active or active.pinned) else made


def _function_steps(
    known: FunctionObjects, made: RevisionRecord, artifact: Artifact
) -> tuple[Change, ...]:
    """What changes in words of functions, before the objects."""
    active = known.made
    after = {"image": made.image, "code": made.digest, "id": artifact.pinned}
    before, config = None, None
    if active is not None:
        # An image that is yet to be built has no exact reference to compare.
        exact = active.pinned if artifact.pinned else ""
        before = {"image": active.image, "code": active.digest, "id": exact}
        config = active.config
    return (
        make_change(f"function {made.key.name}", config, made.config),
        make_change(REVISION_TARGET, before, after),
    )


def _has_failed(cluster: Cluster, deployment: Raw, pods: list[Raw]) -> bool:
    """Whether what runs will not get better by itself, so that only new pods may."""
    return bool(queries.query_rollout_status(cluster, deployment, pods, time.time()).failure)


def _step(name: str, live: Raw | None, after: Raw) -> Change:
    return make_change(
        name,
        without_server_fields(live) if live is not None else None,
        without_server_fields(after),
    )


def _scale_warnings(known: FunctionObjects, made: RevisionRecord, again: bool) -> tuple[str, ...]:
    """A warning of a number of pods that somebody has set by hand and that is undone."""
    live, active = known.deployment, known.made
    if live is None or active is None or known.hpa is not None:
        return ()
    now, number = desired_replicas(live), scaling.deployment_replicas(made.function, None)
    if (
        number is None
        or now == number
        or number != scaling.deployment_replicas(active.function, None)
    ):
        return ()
    keeps = f"`--replicas {now}` keeps them"
    if again:
        keeps = f"`fnbuild update function {known.key.name} --replicas {now}` brings them back"
    return (f"somebody has scaled it to {now}; this makes it {number}: {keeps}",)


def _budget_warnings(function: Function, around: RenderContext) -> tuple[str, ...]:
    """A warning that several replicas get no disruption budget."""
    if around.budget is not None or scaling.replica_bounds(function)[1] < 2:
        return ()
    return (
        "this user may not read poddisruptionbudgets.policy: the replicas get no disruption budget,"
        " and draining nodes may end all of them at once",
    )


def unchanged_message(plan: Plan) -> str:
    """Return the progress message for a plan without changes.

    It mentions `--force` for an image named by a tag, which may mean another image by now.
    """
    if plan.function.spec.disable:
        return "nothing has changed, and the function is still disabled"
    exact = plan.artifact.digest or plan.artifact.pinned or "@" in plan.artifact.reference
    more = f"; `--force` starts it with what {plan.artifact.reference} means now"
    return f"nothing has changed, and the function runs{'' if exact else more}"


def _image_warnings(function: Function, artifact: Artifact) -> tuple[str, ...]:
    """Return a warning for an image that only the engine of this machine has."""
    spec = function.spec
    if not artifact.digest or spec.run_registry or spec.build.registry:
        return ()
    first, slash, _ = artifact.reference.partition("/")
    if slash and (first == "localhost" or "." in first or ":" in first):
        return ()
    return (
        f"the image {artifact.reference} is only in this machine's engine, which the nodes may not"
        " share: `-r REGISTRY` pushes it to where they can pull it",
    )


# What the cluster and its clients write into metadata, which nobody has asked for.
_SERVER_FIELDS = (
    "managedFields",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "selfLink",
)
_HIDDEN_ANNOTATIONS = (
    *own.REVISION_ANNOTATIONS,
    own.CONFIG,  # told as the function
    "deployment.kubernetes.io/revision",
    "kubectl.kubernetes.io/last-applied-configuration",
)


def change_target(manifest: Raw) -> str:
    """What a change calls an object: `deployment nuclio-NAME`."""
    return f"{str(manifest['kind']).lower()} {manifest['metadata']['name']}"


def without_server_fields(manifest: Raw) -> Manifest:
    """An object without what the cluster alone knows of it: what somebody would write."""
    metadata = {
        key: value for key, value in manifest["metadata"].items() if key not in _SERVER_FIELDS
    }
    annotations = metadata.pop("annotations", None) or {}
    kept = {key: text for key, text in annotations.items() if key not in _HIDDEN_ANNOTATIONS}
    if kept:
        metadata["annotations"] = kept
    rest = {key: value for key, value in manifest.items() if key not in ("metadata", "status")}
    return {
        "apiVersion": rest.pop("apiVersion", ""),
        "kind": rest.pop("kind", ""),
        "metadata": metadata,
        **rest,
    }


def without_replicas(manifest: Manifest) -> Manifest:
    """A Deployment that leaves the number of its pods to others; anything else as it is."""
    if manifest["kind"] != "Deployment":
        return manifest
    spec = {key: value for key, value in manifest["spec"].items() if key != "replicas"}
    return {**manifest, "spec": spec}
