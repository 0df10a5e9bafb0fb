"""The rollout of a recorded revision: it serves, or the previous one serves again."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Generic

from fnbuild.errors import FnbuildError, NotReadyError
from fnbuild.platforms import Plan, Progress
from fnbuild.platforms.kubeclient import logs
from fnbuild.platforms.kubeclient.cluster import Cluster, if_allowed
from fnbuild.platforms.kubeclient.function_records import FunctionLease, R, RecordKind
from fnbuild.platforms.kubeclient.objects import Pod
from fnbuild.platforms.kubeclient.pod_failures import Failure, pod_failure
from fnbuild.platforms.kubeclient.secret_store import SecretStore
from fnbuild.platforms.revision_records import failure_prefix, failure_text

_INTERRUPTED = "its deploy was interrupted"
# A container may fail once while its neighbours start.
_FAILURE_SECONDS = 3.0
_DELETE_SECONDS = 60.0
_DELETE_POLL_SECONDS = 0.5


@dataclass(slots=True)
class RevisionRollout(ABC, Generic[R]):
    """The rollout of a planned revision, while the lease is held."""

    cluster: Cluster
    lease: FunctionLease[R]
    record: R
    plan: Plan
    secret_store: SecretStore
    progress: Progress
    _messages: set[str] = field(default_factory=set)
    _old_pods: set[str] = field(default_factory=set)
    _first_failure: float = 0.0

    @abstractmethod
    def list_pods(self) -> list[Pod]:
        """Return the pods of the function."""

    @abstractmethod
    def bring_up(self) -> None:
        """Apply the revision and wait until it serves. Raises `NotReadyError`."""

    @abstractmethod
    def finish(self, previous: R | None) -> None:
        """Remove what only the previous revision needs."""

    @abstractmethod
    def restore(self, previous: R) -> None:
        """Let the previous revision serve again."""

    @abstractmethod
    def remove(self) -> None:
        """Remove what a first deploy has created."""

    def run(self) -> None:
        """Roll out the revision, or go back to the serving one and raise the error."""
        record, lease = self.record, self.lease
        previous = lease.record.serving
        for text in self.plan.explanations:
            self.progress(text)
        self.progress(f"making revision {record.number}")
        earlier = lease.configs()
        # A reference is valid only once its value is stored.
        self.secret_store.save({})
        self._old_pods = {pod.name for pod in self._pods()}
        self.record_start()
        try:
            self.bring_up()
        except BaseException as error:
            self._handle_failure(error, previous)
            raise
        lease.add_revision(self.record, applied=True)
        lease.save()
        self.finish(previous)
        self.secret_store.prune([*lease.configs()], earlier)

    def record_start(self) -> None:
        """Record the revision, so that the record leads to its objects if this process is killed.

        A revision that changes afterwards is recorded again.
        """
        self.lease.add_revision(self.record.with_failure(_INTERRUPTED), applied=False)
        self.lease.save()

    def _handle_failure(self, error: BaseException, previous: R | None) -> None:
        """Record the failure, and leave nothing half-created in the cluster."""
        record = self.record
        failed = record.with_failure(failure_text(record.number, record.name, error))
        if self.plan.options.keep_failed:
            self.lease.add_revision(failed, applied=True)
            _add_hint(error, f"revision {record.number} stays, as `--keep-failed` asks")
            return
        self.lease.add_revision(failed, applied=False)
        try:
            if previous is None:
                self.remove()
            else:
                self.progress(f"going back to revision {previous.number}")
                self.restore(previous)
                _add_hint(error, f"revision {previous.number} goes on serving")
        except FnbuildError as problem:
            _add_hint(error, f"its objects could not be restored: {problem.message}")

    # The pods

    def _pods(self) -> list[Pod]:
        return if_allowed(self.list_pods, [])

    def new_pods(self) -> list[Pod]:
        """Return the pods that the rollout has started."""
        return [pod for pod in self._pods() if pod.name not in self._old_pods]

    def unscheduled_reasons(self) -> list[str]:
        """Return why pods have no node yet."""
        conditions = [pod.condition("PodScheduled") for pod in self.new_pods()]
        return [item.message for item in conditions if item.status == "False"]

    def lasting_failure(self, present: Failure | None) -> Failure | None:
        """Return the failure of new pods or the present one, once it has lasted for a while.

        There is none if the function wants to be waited for.
        """
        failure = pod_failure(self.new_pods()) or present
        if failure is None or self.record.function.spec.wait_readiness_timeout_before_failure:
            self._first_failure = 0.0
            return None
        self._first_failure = self._first_failure or time.monotonic()
        lasts = time.monotonic() - self._first_failure >= _FAILURE_SECONDS
        return failure if lasts else None

    def not_ready_error(self, failure: Failure) -> NotReadyError:
        """Return the error for a failure, with the output of its container."""
        record, detail = self.record, failure.detail or None
        if failure.container:
            output = logs.failure_output(
                self.cluster, record.namespace, failure.pod, failure.container
            )
            detail = output or None
        message = failure_prefix(record.number, record.name) + failure.text
        return NotReadyError(message, detail=detail, hint=failure.hint or None)

    def report(self, texts: Iterable[str]) -> None:
        """Report each text once."""
        for text in texts:
            if text not in self._messages:
                self._messages.add(text)
                self.progress(text)


def end_deletion(
    cluster: Cluster, lease: FunctionLease[R], records: RecordKind[R], pods: Callable[[], list[Pod]]
) -> None:
    """Wait until the pods of a deleted function are gone, and remove its record and its secrets."""
    deadline = time.monotonic() + _DELETE_SECONDS
    while pods() and time.monotonic() < deadline:
        time.sleep(_DELETE_POLL_SECONDS)
    with suppress(FnbuildError):  # without secrets, the right to delete them may be missing
        records.secret_store(cluster, lease.key).delete(needed=False)
    lease.delete_record = True


def _add_hint(error: BaseException, text: str) -> None:
    if isinstance(error, FnbuildError):
        error.hint = f"{text}; {error.hint}" if error.hint else text
