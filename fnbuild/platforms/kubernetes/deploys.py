"""Deploys and reruns of revisions: plan, roll out, record, and remove what leaves the history."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from fnbuild.errors import FnbuildError
from fnbuild.function.secrets import secret_variables
from fnbuild.platforms import Deployment, Plan, PlanOptions, Progress
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubernetes import endpoints, function_state, images, inventory, leases
from fnbuild.platforms.kubernetes.leases import FunctionLease
from fnbuild.platforms.kubernetes.revision_record import RevisionRecord
from fnbuild.platforms.kubernetes.rollout import execution, planning
from fnbuild.platforms.kubernetes.rollout.execution import Rollout
from fnbuild.platforms.kubernetes.rollout.planning import Rerun, RolloutPlan


def apply_plan(
    cluster: Cluster, lease: FunctionLease, plan: Plan, progress: Progress
) -> Deployment:
    """Carry out a plan while the lease is held."""
    lease.refresh()
    previous = execution.record_applied_revision(lease)
    # The function may have changed since the plan, and during a build.
    rollout_plan = planning.plan_rollout(
        cluster, lease.objects, plan.function, plan.artifact, plan.options
    )
    if rollout_plan.plan.effective_changes:
        _roll_out(cluster, lease, rollout_plan, previous, progress)
    else:
        progress(planning.unchanged_message(plan))
        rollout_plan.secret_store.save(rollout_plan.revision.labels())
        lease.save()
    return _deployment_after_rollout(cluster, rollout_plan)


def rerun_revision(
    cluster: Cluster,
    target: RevisionRecord,
    rerun: Rerun,
    options: PlanOptions,
    progress: Progress,
) -> Deployment:
    """Run a recorded revision as a new one."""
    with leases.hold_lease(cluster, target.key, rerun.participle) as lease:
        previous = execution.record_applied_revision(lease)
        rollout_plan = planning.plan_rollout(
            cluster, lease.objects, target.function, target.artifact, options, rerun
        )
        _roll_out(cluster, lease, rollout_plan, previous, progress)
    return _deployment_after_rollout(cluster, rollout_plan)


def _roll_out(
    cluster: Cluster,
    lease: FunctionLease,
    rollout_plan: RolloutPlan,
    previous: RevisionRecord | None,
    progress: Progress,
) -> None:
    """Run a new revision, record the outcome, and remove what leaves the history."""
    earlier = lease.configs()
    migrated = {
        number: replace(revision, config=rollout_plan.secret_store.with_references(revision.config))
        for number, revision in lease.revisions.items()
    }
    # A reference is valid only once its value is stored.
    rollout_plan.secret_store.save(rollout_plan.revision.labels())
    lease.revisions.update(migrated)
    try:
        Rollout(cluster, lease, rollout_plan, previous, progress).run()
    except FnbuildError:
        with suppress(FnbuildError):  # the reason of the failure comes first
            images.remove_retired_builds(cluster, lease.save(), progress)
        raise
    images.remove_retired_builds(cluster, lease.save(), progress)
    recorded = [revision.config for revision in lease.revisions.values()]
    rollout_plan.secret_store.prune([*recorded, rollout_plan.revision.config], earlier)
    if any(any(secret_variables(config)) for config in earlier):
        execution.delete_idle_replica_sets(cluster, lease.objects.key)


def _deployment_after_rollout(cluster: Cluster, rollout_plan: RolloutPlan) -> Deployment:
    """Return the state after a deploy, once requests reach new pods only."""
    objects = inventory.existing_function(cluster, rollout_plan.objects.key)
    deployment = function_state.to_deployment(cluster, objects)
    if rollout_plan.plan.effective_changes:
        endpoints.wait_for_new_pods(cluster, deployment)
    return replace(deployment, warnings=(*rollout_plan.plan.warnings, *deployment.warnings))
