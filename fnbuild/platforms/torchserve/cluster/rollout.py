"""Execution of a plan: the archive goes to the store, pods roll out, and back if they fail."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from fnbuild.bridges.torchserve.export import ExportOptions, export_function, next_version
from fnbuild.bridges.torchserve.model_store import (
    CONFIG_PATH,
    STORE_NAME,
    apply_retention,
    archives_to_move,
)
from fnbuild.builder.processor_settings import readiness_seconds
from fnbuild.errors import ConflictError, FnbuildError, PreconditionError
from fnbuild.models.local_files import LocalFile
from fnbuild.models.torchserve_store import TreeStore
from fnbuild.platforms import Artifact, LogRecord, Manifest, Plan, PlanOptions, Progress
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster, if_allowed
from fnbuild.platforms.kubeclient.manifests import object_identity, without_server_fields
from fnbuild.platforms.kubeclient.object_changes import take_over
from fnbuild.platforms.kubeclient.objects import KubeDeployment, Pod
from fnbuild.platforms.kubeclient.pod_failures import Failure
from fnbuild.platforms.kubeclient.revision_rollout import RevisionRollout, end_deletion
from fnbuild.platforms.logs import parse_log_line
from fnbuild.platforms.revision_records import RevisionOrigin
from fnbuild.platforms.torchserve.cluster import servers
from fnbuild.platforms.torchserve.cluster.manifests import (
    CONTAINER,
    config_file,
    log_config_file,
    object_name,
    render_objects,
)
from fnbuild.platforms.torchserve.cluster.planning import (
    ServerPlan,
    check_store,
    live_object,
    obsolete_objects,
    owner_of,
    packed_content,
    plan_deploy,
)
from fnbuild.platforms.torchserve.cluster.records import (
    RECORDS,
    FunctionLease,
    RevisionRecord,
    described_by,
)
from fnbuild.platforms.torchserve.cluster.store import (
    WritableTree,
    open_store,
    write_file,
    write_text,
)
from fnbuild.platforms.torchserve.server_log import has_load_failure, last_line, worker_output

_POLL_SECONDS = 0.5

Undo = Callable[[WritableTree], None]


def apply_plan(cluster: Cluster, lease: FunctionLease, plan: Plan, progress: Progress) -> None:
    """Carry out a plan while the lease is held."""
    # The function may have changed since the plan.
    planned = plan_deploy(cluster, lease.record, plan.function, plan.artifact, plan.options)
    if planned.plan.effective_changes:
        Rollout(cluster, lease, planned, progress).run()
    else:
        progress(plan.unchanged_message)


def rerun_revision(  # noqa: PLR0913, PLR0917 (the revision, its origin, options)
    cluster: Cluster,
    lease: FunctionLease,
    target: RevisionRecord,
    origin: RevisionOrigin,
    options: PlanOptions,
    progress: Progress,
) -> None:
    """Run a recorded revision as a new one."""
    artifact = Artifact("folder", "", target.digest)
    again = (target, origin)
    planned = plan_deploy(cluster, lease.record, target.function, artifact, options, again)
    Rollout(cluster, lease, planned, progress).run()


class Rollout(RevisionRollout[RevisionRecord]):
    """The rollout of a planned revision."""

    def __init__(
        self, cluster: Cluster, lease: FunctionLease, planned: ServerPlan, progress: Progress
    ):
        super().__init__(
            cluster, lease, planned.record, planned.plan, planned.secret_store, progress
        )
        self._planned = planned
        self._undo: list[Undo] = []
        self._foreign: dict[tuple[str, str], Manifest] = {}

    def list_pods(self) -> list[Pod]:
        return servers.list_pods(self.cluster, self.record)

    def bring_up(self) -> None:
        # Two functions may have been deployed to one store at once.
        check_store(self.cluster, self.record)
        with open_store(self.cluster, self.record, self.progress) as tree:
            try:
                self._fill(tree)
            except BaseException:
                # Otherwise it is tried again when the previous revision is restored.
                with suppress(FnbuildError):
                    self._undo_changes(tree)
                raise
        self.record_start()
        deployment, *services = self._planned.manifests(self.record)
        applied = self._apply(deployment)
        self._wait_until_ready(int(applied["metadata"].get("generation") or 0))
        for service in services:
            self._apply(service)

    def _apply(self, manifest: Manifest) -> Manifest:
        live = live_object(self.cluster, manifest)
        if live is not None and owner_of(live) != self.record.name:
            self._foreign[object_identity(manifest)] = without_server_fields(live, ())
            take_over(self.cluster, live)
        return self.cluster.apply(manifest, force=self.plan.options.force_conflicts)

    def _remove_objects(self, manifests: Iterable[Manifest]) -> None:
        """Remove objects; those that were taken over are as before."""
        for manifest in manifests:
            if (original := self._foreign.get(object_identity(manifest))) is not None:
                self.cluster.replace(original)
            else:
                remove_object(self.cluster, manifest)

    # The store

    def _fill(self, tree: WritableTree) -> None:
        """Let the store have the archive and the configuration of the revision."""
        store = TreeStore(tree)
        if not self._planned.packs_archive:
            self._take_back(store)
        elif self.record.server_config:
            self._copy(tree)
        else:
            self._pack(tree, store)
        if self.record.settings.load_models == "all":
            # The store has one more archive until the new revision serves.
            names = [name for name in store.archives() if name.endswith((".mar", ".tar.gz"))]
            keep = self.record.settings.keep
            old = archives_to_move(names, self.record.name, keep, self._needed())
            loaded = [name for name in names if name not in old]
            self.record = replace(self.record, loaded=loaded)
        for path, text in (config_file(self.record), log_config_file()):
            if path not in tree.paths():
                self._undo.append(partial(_remove, path))
                write_text(tree, path, text)

    def _copy(self, tree: WritableTree) -> None:
        """Copy the archives of a tree. Those of the same name may be served, and stay."""
        for name in self.record.archives:
            path = f"{STORE_NAME}/{name}"
            source = Path(self.plan.artifact.reference) / path
            file = LocalFile(path, source, source.stat().st_size)
            stored = tree.stored_sha256(file)
            if not stored:
                self._undo.append(partial(_remove, path))
                write_file(tree, path, source, self.progress)
            elif stored != file.sha256():
                raise ConflictError(
                    f"the model store has another {name}, which may be served now",
                    hint="give the new archive another name, in its configuration as well",
                )

    def _pack(self, tree: WritableTree, store: TreeStore) -> None:
        function = self.plan.function
        stored = [*store.archives(), *store.backups()]
        version = next_version(self.record.name, stored=stored)
        self.record = replace(self.record, **packed_content(function, version))
        path = f"{STORE_NAME}/{self.record.archives[0]}"
        self._undo.append(partial(_remove, path))
        with tempfile.TemporaryDirectory(prefix="fnbuild-") as folder:
            name = self.record.archives[0].removesuffix(".mar")
            options = ExportOptions(export_path=Path(folder), model_name=name, version=version)
            # Pods get the variables from their own specification.
            archive = export_function(
                function.with_spec(env=[]),
                Path(self.plan.artifact.reference),
                options,
                self.progress,
            )
            for warning in archive.warnings:
                self.progress(f"warning: {warning}")
            write_file(tree, path, archive.path, self.progress)

    def _take_back(self, store: TreeStore) -> None:
        """Take archives back from the backup, unless the store has them."""
        for archive in set(self.record.archives).difference(store.archives()):
            if archive not in store.backups():
                raise PreconditionError(
                    f"the model store has no {archive}, neither has its backup",
                    hint=f"deploy {self.record.name} from its folder",
                )
            self.progress(f"taking {archive} back from the backup")
            store.restore(archive)
            self._undo.append(partial(_back_up, archive))

    def _undo_changes(self, tree: WritableTree) -> None:
        while self._undo:
            self._undo[-1](tree)
            self._undo.pop()

    # The pods

    def _wait_until_ready(self, generation: int) -> None:
        function, name = self.record.function, object_name(self.record)
        seconds = readiness_seconds(function)
        deadline = time.monotonic() + seconds
        while True:
            live = self.cluster.get(kinds.DEPLOYMENT, self.record.namespace, name)
            deployment = KubeDeployment(live or {"metadata": {}})
            if deployment.metadata.number("generation") >= generation:
                if deployment.is_rolled_out:
                    return
                if (failure := self.lasting_failure(self._failure(deployment))) is not None:
                    raise self.not_ready_error(failure)
            new_pods = self.new_pods()
            ready = sum(pod.is_ready for pod in new_pods)
            count = f"{ready} of {deployment.desired_replicas} replicas have the model ready"
            reasons = list(dict.fromkeys([count, *self.unscheduled_reasons()]))
            self.report(reasons)
            if time.monotonic() > deadline:
                text = f"it is not ready after {seconds:.0f} s: {'; '.join(reasons)}"
                hint = "a model that takes longer needs a larger spec.readinessTimeoutSeconds"
                late = next((pod.name for pod in new_pods if not pod.is_ready), "")
                raise self.not_ready_error(Failure(text, hint, late, CONTAINER if late else ""))
            time.sleep(_POLL_SECONDS)

    def _failure(self, deployment: KubeDeployment) -> Failure | None:
        """Return a failure of the Deployment, such as an exceeded quota, or of a worker."""
        rejected = deployment.condition("ReplicaFailure")
        if rejected.is_true:
            return Failure(rejected.message)
        for pod in self.new_pods():
            if not pod.is_ready and any(item.is_running for item in pod.container_statuses):
                records = self._log(pod.name)
                if has_load_failure(records):
                    output = worker_output(records, "")
                    return Failure(last_line(output), detail=output)
        return None

    def _log(self, pod: str) -> list[LogRecord]:
        lines = self.cluster.logs(self.record.namespace, pod, container=CONTAINER)
        return if_allowed(lambda: [parse_log_line(line, moment) for moment, line in lines], [])

    # After it

    def finish(self, previous: RevisionRecord | None) -> None:
        self._remove_objects(obsolete_objects(previous, self.record))
        try:
            with open_store(self.cluster, self.record, self.progress) as tree:
                self._tidy(tree)
        except FnbuildError as error:
            self.progress(f"warning: old archives stay in the model store: {error.message}")

    def _tidy(self, tree: WritableTree) -> None:
        """Write the configuration by its common name, and move old archives to the backup."""
        write_text(tree, CONFIG_PATH, config_file(replace(self.record, loaded=[]))[1])
        name, keep = self.record.name, self.record.settings.keep
        for archive in apply_retention(TreeStore(tree), name, keep, self._needed()):
            self.progress(f"moved {archive} to the backup")
        needed = {config_file(item)[0] for item in self.lease.revisions.values()}
        for path in tree.paths():
            if path.startswith(f"config/{name}-") and path not in needed:
                tree.remove(path)

    def _needed(self) -> set[str]:
        """Return the archives of the newest revisions, up to this one."""
        revisions = sorted(self.lease.revisions.values(), key=lambda item: item.number)
        others = [each for each in revisions if not each.failed and each != self.record]
        newest = [*others, self.record][-self.record.settings.keep :]
        return {archive for revision in newest for archive in revision.archives}

    def restore(self, previous: RevisionRecord) -> None:
        for manifest in self._planned.manifests(previous):
            self.cluster.apply(manifest, force=True)
        self._remove_objects(obsolete_objects(self.record, previous))
        self._empty()

    def remove(self) -> None:
        self._remove_objects(self._planned.manifests(self.record))
        self._empty()

    def _empty(self) -> None:
        """Take back what the deploy has changed in the store."""
        if self._undo:
            with open_store(self.cluster, self.record, self.progress) as tree:
                self._undo_changes(tree)


def _remove(path: str, tree: WritableTree) -> None:
    tree.remove(path)


def _back_up(archive: str, tree: WritableTree) -> None:
    TreeStore(tree).back_up(archive)


def remove_object(cluster: Cluster, manifest: Manifest) -> None:
    metadata = manifest["metadata"]
    cluster.delete(kinds.kind_of(manifest), metadata["namespace"], metadata["name"])


def delete_function(cluster: Cluster, lease: FunctionLease) -> None:
    """Delete the objects of a function, and wait until its pods are gone. The store stays."""
    record = described_by(lease.record)
    if record is not None:
        for manifest in render_objects(record):
            if owner_of(live_object(cluster, manifest)) == record.name:
                remove_object(cluster, manifest)
    pods = partial(servers.list_pods, cluster, record) if record is not None else list[Pod]
    end_deletion(cluster, lease, RECORDS, pods)
