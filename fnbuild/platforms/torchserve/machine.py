"""TorchServe on this machine: a server for each function, which a keeper starts again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import cast

from fnbuild import trees
from fnbuild.errors import FnbuildError, UnauthorizedError, UnavailableError
from fnbuild.function.reader import function_from_dict
from fnbuild.function.types import Function
from fnbuild.platforms import (
    ALL_RECORDS,
    Deployment,
    Finding,
    FunctionKey,
    FunctionState,
    LogOptions,
    LogRecord,
    Progress,
    Reservation,
    Restarts,
    Statistics,
    function_log,
)
from fnbuild.platforms.addresses import LOOPBACK
from fnbuild.platforms.checks import Check, run_checks
from fnbuild.platforms.stored_platform import StoredPlatform, active_revision, should_run
from fnbuild.platforms.torchserve import keeper, layout, machine_deploys
from fnbuild.platforms.torchserve.configuration import ServedModel
from fnbuild.platforms.torchserve.layout import server_of
from fnbuild.platforms.torchserve.machine_deploys import PLATFORM_NAME
from fnbuild.platforms.torchserve.management import (
    ManagedPlatform,
    ManagementClient,
    ModelVersion,
    parse_statistics,
    worker_statuses,
)
from fnbuild.platforms.torchserve.server import LocalServer, find_python
from fnbuild.platforms.torchserve.server_log import with_levels, worker_output
from fnbuild.store import FunctionRow, RevisionRow


class MachinePlatform(StoredPlatform, ManagedPlatform):
    """The platform that runs functions by TorchServe servers on this machine."""

    name = PLATFORM_NAME
    authentication = "absent"

    def may_be_probed(self) -> bool:
        return layout.records_path().exists()

    # Records and deploys

    open_store = staticmethod(layout.open_records)
    folder_key = staticmethod(layout.folder_key)
    plan_in = staticmethod(machine_deploys.plan)
    deploy_in = staticmethod(machine_deploys.deploy)

    @contextmanager
    def reserve(self, function: Function, progress: Progress) -> Iterator[Reservation]:
        with self.locked_store(FunctionKey.of(function), "deployed") as store:
            progress("deploying to TorchServe on this machine; `--kubeconfig` names a cluster")
            yield Reservation(partial(self.apply_in, store))

    # Queries

    def to_deployment(self, row: FunctionRow, revision: RevisionRow | None) -> Deployment:
        deployment = Deployment(
            function=function_from_dict(row.config, f"{row.namespace}/{row.name}"),
            platform=PLATFORM_NAME,
            state=cast("FunctionState", row.state),
            message=row.message,
            revision=row.revision,
            replicas=(0, int(row.desired == "running")),
        )
        if revision is None or row.desired != "running":
            return deployment
        return _with_live_state(deployment)

    def examine(
        self,
        namespace: str,  # noqa: ARG002 - the checks are the same for all
        *,
        areas: Collection[str] = (),
        image: str = "",  # noqa: ARG002 - it runs folders
        architecture: str = "",  # noqa: ARG002
    ) -> Iterator[Finding]:
        def check() -> Iterator[Finding]:
            yield Finding(PLATFORM_NAME, "ok", f"TorchServe is at {find_python('')}")

        if areas or self.may_be_probed():
            yield from run_checks([Check(PLATFORM_NAME, check)], areas)

    def request_headers(self, deployment: Deployment) -> dict[str, str]:
        token = server_of(FunctionKey.of(deployment.function)).token("inference")
        return {"Authorization": f"Bearer {token}"} if token else {}

    def logs(
        self, namespace: str, name: str, options: LogOptions = ALL_RECORDS
    ) -> Iterator[LogRecord]:
        return with_levels(super().logs(namespace, name, options))

    def restarts(self, namespace: str) -> dict[str, Restarts]:
        with self.open_store() as store:
            keys = [FunctionKey(row.namespace, row.name) for row in store.functions(namespace)]
        counts = {key.name: keeper.read_restarts(server_of(key).folder) for key in keys}
        return {
            name: Restarts(restarts.count, "the server ended", restarts.time)
            for name, restarts in counts.items()
            if restarts.count
        }

    def statistics(self, deployment: Deployment) -> dict[str, Statistics]:
        key = FunctionKey.of(deployment.function)
        server = server_of(key)
        try:
            metrics = server.metrics()
        except FnbuildError:
            return {}
        model = deployment.url.rpartition("/")[2]
        restarts = keeper.read_restarts(server.folder).count
        workers = Counter(worker.state for worker in deployment.workers)
        return {key.name: parse_statistics(metrics, model, restarts, workers)}

    @contextmanager
    def management(
        self, namespace: str, name: str, participle: str = ""
    ) -> Iterator[list[ManagementClient]]:
        key = FunctionKey(namespace, name)
        with self.open_store() as store:
            self.require_function(store, key)
        server = server_of(key)
        with self.lock(key, participle) if participle else nullcontext():
            yield [replace(server.management, replica=name)] if server.process else []

    # Deletion

    def delete(self, namespace: str, name: str, *, image: bool = False) -> bool:  # noqa: ARG002 - there are none here
        key = FunctionKey(namespace, name)
        with self.open_store() as store:
            if store.function(*key) is None and not layout.function_folder(key).is_dir():
                return False
        with self.locked_store(key, "deleted") as store:
            server_of(key).stop()
            deleted = store.delete_function(*key)
            trees.try_remove(layout.function_folder(key))
        return deleted

    # All functions

    def functions_to_restore(self) -> list[FunctionKey]:
        with self.open_store() as store:
            rows = [row for row in store.functions() if should_run(row)]
        keys = [FunctionKey(row.namespace, row.name) for row in rows]
        return [key for key in keys if not server_of(key).is_kept]

    def restore(self, progress: Progress, function: FunctionKey | None = None) -> tuple[str, ...]:
        if function is None:
            keys = self.functions_to_restore()
            return tuple(name for key in keys for name in self.restore(progress, key))
        with self.locked_store(function, "started again", must_exist=True) as store:
            row = self.require_function(store, function)
            revision = active_revision(store, row)
            if revision is None or not should_run(row) or server_of(function).is_kept:
                return ()
            machine_deploys.resume(revision, progress)
        return (function.name,)


def _with_live_state(deployment: Deployment) -> Deployment:
    server = server_of(FunctionKey.of(deployment.function))
    configured = server.state
    if configured is None:
        message = f"its server was removed; `fnbuild redeploy {deployment.name}` makes it again"
        return replace(deployment, state="stopped", message=message)
    model, port = configured.models[0], configured.config.port("inference_address")
    state, message, version = _live_state(server, deployment.name, configured.models)
    serves = state != "stopped"
    url = (f"{LOOPBACK}:{port}/predictions/{model.name}",) if serves else ()
    workers = version.workers if version is not None else []
    return replace(
        deployment,
        state=state,
        message=message,
        http_port=port if serves else 0,
        internal_urls=url,
        external_urls=url,
        replicas=(int(any(worker.is_ready for worker in workers)), 1),
        workers=worker_statuses(workers),
        details={
            "archive": model.file,
            "store": str(layout.store_folder(deployment.function).root),
            "tokens": str(server.folder / "key_file.json"),
        },
    )


def _live_state(
    server: LocalServer, name: str, models: Sequence[ServedModel]
) -> tuple[FunctionState, str, ModelVersion | None]:
    """Return the state, its reason, and the version that serves the requests of the function."""
    redeploy = f"`fnbuild redeploy {name}`"
    try:
        version = server.management.describe(models[0].name, "")[0]
    except FnbuildError as error:
        if isinstance(error, UnauthorizedError) or not isinstance(error, UnavailableError):
            return "unhealthy", f"{error.message}; {redeploy} repairs that", None
        if server.process is None and not server.is_kept:
            return "stopped", f"its server does not run; {redeploy} starts it", None
        if keeper.read_restarts(server.folder).count:
            return "unhealthy", "its server ended, and is started again", None
        return "building", error.message, None
    deployed = {model.version for model in models if model.name == version.model_name}
    messages = []
    if version.model_version not in deployed:
        messages.append(
            f"version {version.model_version} was made the default; {redeploy} ends that"
        )
    if not version.is_ready:
        messages.append(f"{version.ready_workers} of {version.min_workers} workers are ready")
        records = (record for record, _ in function_log.records_after(server.log, 0))
        messages += filter(None, [worker_output(records, version.model_version)[-2000:]])
    return "ready" if version.is_ready else "unhealthy", "\n".join(messages), version
