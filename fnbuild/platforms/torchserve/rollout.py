"""The switch of a server on this machine from one archive to another.

A running server registers the new version beside the old one, which is unregistered when it has
answered its requests: no request is lost. Another configuration of the server itself needs a
restart. In both cases the previous version serves again if the new one fails.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fnbuild.bridges.torchserve.export import model_config, snapshot_settings
from fnbuild.builder.processor_settings import readiness_seconds
from fnbuild.errors import (
    ConflictError,
    FnbuildError,
    NotFoundError,
    NotReadyError,
    PlatformError,
    UnavailableError,
)
from fnbuild.function.types import Function
from fnbuild.platforms import LogRecord, Progress, function_log
from fnbuild.platforms.torchserve import keeper
from fnbuild.platforms.torchserve.configuration import ServedModel
from fnbuild.platforms.torchserve.management import ManagementClient, ModelVersion
from fnbuild.platforms.torchserve.server import LocalServer, ServerState
from fnbuild.platforms.torchserve.server_log import has_load_failure, last_line, worker_output
from fnbuild.runtime.torchserve import BUSY_LOCK_VARIABLE

_QUIET_SECONDS = 0.3
_LAST_LINES_SECONDS = 2.0
_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Rollout:
    """A switch to `target`; `previous` serves now, None if nothing does."""

    function: Function
    server: LocalServer
    target: ServerState
    previous: ServerState | None
    progress: Progress

    def run(self) -> None:
        """Switch to the target; `finish` ends the previous version.

        Raises `NotReadyError`, and the previous version serves then.
        """
        previous = self.previous
        if (
            previous is None
            or not self.target.config.enable_model_api
            or self.target.at_start != previous.at_start
            or not self._answers()
        ):
            self._restart()
        else:
            self._replace(previous)

    def _answers(self) -> bool:
        try:
            self.server.management.models()
        except FnbuildError:
            return False
        return self.server.is_kept

    # Without a restart

    def _replace(self, previous: ServerState) -> None:
        client = self.server.management
        [model] = self.target.models
        self.progress(f"registering {model.file}")
        try:
            self._register(client, model)
            self.server.configure(self.target)
            client.set_default(model.name, model.version)
        except BaseException:
            # TorchServe also keeps a model whose requirements could not be installed.
            with suppress(OSError):
                self.server.configure(previous)
            with suppress(FnbuildError):
                client.unregister(model.name, model.version)
            raise

    def finish(self) -> None:
        """Unregister the previous version, and those that interrupted deploys have left."""
        client = self.server.management
        served = {(model.name, model.version) for model in self.target.models}
        for name in sorted({model.name for model in self.target.models}):
            for version in client.describe(name):
                if (name, version.model_version) not in served:
                    self._retire(client, version)

    def _register(self, client: ManagementClient, model: ServedModel) -> None:
        settings = snapshot_settings(model_config(self.function), model.file)
        start = self._log_end()
        try:
            client.register(model.name, settings)
        except ConflictError:  # it was registered by `loadModels: all` or `fnbuild torchserve`
            least, most = settings.min_workers, settings.max_workers
            client.scale(model.name, model.version, least, most, readiness_seconds(self.function))
        except UnavailableError as error:
            raise self._late_error(start, model.version) from error
        except PlatformError as error:
            raise self._failure(start, model.version) from error

    def _retire(self, client: ManagementClient, version: ModelVersion) -> None:
        """Unregister a version once it has answered its requests."""
        name = version.model_version
        self.progress(f"draining version {name}")
        try:
            self._drain(client, version)
            client.unregister(version.model_name, name)
        except FnbuildError as error:
            self.progress(f"warning: version {name} is still registered: {error.message}")

    def _drain(self, client: ManagementClient, version: ModelVersion) -> None:
        """Wait until the version has had no request for a moment.

        A request is in the version's queue, or waits for others of its batch, or holds the lock of
        its worker.
        """
        workers = {worker.pid for worker in version.workers}
        quiet = _QUIET_SECONDS + version.max_batch_delay / 1000
        deadline = time.monotonic() + version.response_timeout + quiet
        busy_lock = Path(self.target.variables[BUSY_LOCK_VARIABLE])
        last_busy = time.monotonic()
        while time.monotonic() < min(deadline, last_busy + quiet):
            [now] = client.describe(version.model_name, version.model_version)
            if now.job_queue_status.pending_requests or workers & lock_holders(busy_lock):
                last_busy = time.monotonic()
            time.sleep(_POLL_SECONDS)

    # With a restart

    def _restart(self) -> None:
        if self.server.process is not None:
            self.progress("warning: the server restarts, so requests fail for some seconds")
        self.server.configure(self.target)
        try:
            self._start(self.target)
        except BaseException:
            self.server.stop()
            if self.previous is None:
                Path(self.target.config_path).unlink(missing_ok=True)
            else:
                self.progress("starting the previous version again")
                with suppress(FnbuildError, OSError):
                    self.server.configure(self.previous)
                    self._start(self.previous)
            raise

    def _start(self, state: ServerState) -> None:
        files = ", ".join(model.file for model in state.models)
        self.progress(f"starting TorchServe with {files}")
        start = self._log_end()
        self.server.start()
        self._wait_until_ready(state, start)

    def resume(self) -> None:
        """Start a keeper for the target, and its server unless it still runs."""
        start = self._log_end()
        self.progress(f"starting the server of {self.function.metadata.name}")
        self.server.keep()
        self._wait_until_ready(self.target, start)

    def _wait_until_ready(self, state: ServerState, start: int) -> None:
        """Wait for the workers of all models; the server has logged to `start` before."""
        deadline = time.monotonic() + readiness_seconds(self.function)
        for model in state.models:
            while not self._is_ready(model):
                if keeper.read_restarts(self.server.folder).count:
                    output = function_log.last_messages(self.server.log, start)
                    raise NotReadyError("TorchServe ended while it started", detail=output or None)
                waits = self.function.spec.wait_readiness_timeout_before_failure
                if not waits and has_load_failure(self._logged(start)):
                    raise self._failure(start)
                if time.monotonic() > deadline:
                    raise self._late_error(start, model.version)
                time.sleep(_POLL_SECONDS)

    def _is_ready(self, model: ServedModel) -> bool:
        try:
            versions = self.server.management.describe(model.name, model.version)
        except (NotFoundError, UnavailableError):
            return False
        return all(version.is_ready for version in versions)

    def _late_error(self, start: int, version: str) -> NotReadyError:
        return NotReadyError(
            f"its workers were not ready within {readiness_seconds(self.function):g} s",
            detail=worker_output(self._logged(start), version) or None,
            hint="a model that takes longer needs a larger spec.readinessTimeoutSeconds",
        )

    def _failure(self, start: int, version: str = "") -> NotReadyError:
        """Return the error for workers that failed, with their output; "" is any version."""
        deadline = time.monotonic() + _LAST_LINES_SECONDS
        output, before = worker_output(self._logged(start), version), None
        # TorchServe reports the failure before it has logged the last lines.
        while output != before and time.monotonic() < deadline:
            time.sleep(_QUIET_SECONDS)
            output, before = worker_output(self._logged(start), version), output
        return NotReadyError(last_line(output), detail=output or None)

    def _log_end(self) -> int:
        self.server.log.touch(mode=0o600)
        return self.server.log.stat().st_size

    def _logged(self, start: int) -> Iterator[LogRecord]:
        return (record for record, _ in function_log.records_after(self.server.log, start))


def lock_holders(path: Path) -> set[int]:
    """Return the ids of the processes that hold a lock (flock) on the file."""
    try:
        inode = str(path.stat().st_ino)
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return set()
    entries = (line.split() for line in lines)
    return {
        int(entry[4])
        for entry in entries
        if entry[1] == "FLOCK" and entry[5].rpartition(":")[2] == inode
    }
