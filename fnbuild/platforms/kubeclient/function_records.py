"""The record of a function in a ConfigMap: its revisions, and the lease of a change.

Each platform has its own kind of records (`RecordKind`), with its own type of revisions.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from fnbuild.datadir import function_lock, other_holder, remove_lock
from fnbuild.errors import BusyError, ConflictError, FnbuildError
from fnbuild.function.types import Function, Raw
from fnbuild.names import DEFAULT_PROJECT, FUNCTION_LABEL, PROJECT_LABEL
from fnbuild.platforms.base import FunctionKey
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubeclient.errors import StaleError
from fnbuild.platforms.kubeclient.ownership import MANAGED_BY, MANAGER, RECORD
from fnbuild.platforms.kubeclient.secret_store import SecretStore
from fnbuild.platforms.kubeclient.stored_revision import StoredRevision
from fnbuild.platforms.leases import current_holder, decode_holder, local_owner
from fnbuild.platforms.revision_records import RevisionHistory

HISTORY_LIMIT = 10
"""The number of recorded revisions, in addition to the applied one."""

LEASE_SECONDS = 60.0
_RENEWAL_SECONDS = 15.0
_LEASE = "fnbuild.io/deploying"
_APPLIED = "fnbuild.io/revision"
_IMPORT = "function"
_MAX_ATTEMPTS = 5
# A ConfigMap is limited to 1 MiB.
_MAX_RECORD_BYTES = 900_000

R = TypeVar("R", bound=StoredRevision)


@dataclass(frozen=True, slots=True)
class FunctionRecord(Generic[R]):
    """The record of a function; empty for one that fnbuild did not deploy."""

    kind: RecordKind[R]
    key: FunctionKey
    config_map: Raw | None = None

    @property
    def exists(self) -> bool:
        return self.config_map is not None

    @property
    def revisions(self) -> list[R]:
        """The revisions, newest first."""
        data = (self.config_map or {}).get("data") or {}
        texts = [text for name, text in data.items() if name.isdecimal()]
        records = filter(None, map(self.kind.revision_type.from_json, texts))
        return sorted(records, key=lambda record: record.number, reverse=True)

    @property
    def applied(self) -> R | None:
        """The revision whose manifest was applied last, which need not be ready."""
        text = self._annotation(_APPLIED)
        number = int(text) if text.isdecimal() else 0
        return next((record for record in self.revisions if record.number == number), None)

    @property
    def serving(self) -> R | None:
        """The newest revision that became ready."""
        return next((record for record in self.revisions if not record.failed), None)

    @property
    def history(self) -> RevisionHistory[R]:
        return RevisionHistory(self.key.name, self.revisions, self.applied or self.serving)

    @property
    def imported_config(self) -> Raw | None:
        """The configuration of an imported function that has not been deployed."""
        text = ((self.config_map or {}).get("data") or {}).get(_IMPORT)
        return None if text is None else _parse_object(text)

    @property
    def project(self) -> str:
        labels = ((self.config_map or {}).get("metadata") or {}).get("labels") or {}
        return str(labels.get(PROJECT_LABEL) or DEFAULT_PROJECT)

    @property
    def lease(self) -> Raw:
        return _parse_object(self._annotation(_LEASE))

    def is_leased(self, now: float) -> bool:
        """Return True if the lease has not expired at `now`, in seconds since the epoch."""
        until = self.lease.get("until")
        return isinstance(until, int | float) and until > now

    @property
    def ongoing_change(self) -> str:
        """A description of the change by another process, or ""."""
        if not self.is_leased(time.time()):
            return ""
        if self.lease.get("owner") != local_owner():
            return str(decode_holder(self.lease))
        holder = other_holder(*self.kind.lock_key(self.key))
        return f"being {holder.what} by {holder}" if holder is not None else ""

    def _annotation(self, name: str) -> str:
        metadata = (self.config_map or {}).get("metadata") or {}
        return str((metadata.get("annotations") or {}).get(name, ""))


@dataclass(frozen=True, slots=True)
class RecordKind(Generic[R]):
    """The records of one platform, whose `name` is their label and the prefix of their names."""

    name: str
    revision_type: type[R]

    @property
    def selector(self) -> str:
        return f"{RECORD}={self.name}"

    def config_map_name(self, key: FunctionKey) -> str:
        return f"{self.name}-{key.name}"

    def lock_key(self, key: FunctionKey) -> FunctionKey:
        """Return the key of the local lock, which is not that of the other platforms."""
        return FunctionKey(f"{self.name}@{key.namespace}", key.name)

    def secret_owner(self, name: str) -> str:
        """Return the name by which secrets of a function are kept: no function's name has a dot."""
        return f"{name}.{self.name}"

    def secret_store(self, cluster: Cluster, key: FunctionKey) -> SecretStore:
        """Return the secrets of a function, apart from those of the kube platform's functions."""
        return SecretStore(cluster, FunctionKey(key.namespace, self.secret_owner(key.name)))

    def empty(self, key: FunctionKey) -> FunctionRecord[R]:
        """Return the record of a function that fnbuild did not deploy."""
        return FunctionRecord(self, key)

    def with_applied(self, revision: R) -> FunctionRecord[R]:
        """Return a record with one revision, which was applied."""
        annotations = {_APPLIED: str(revision.number)}
        data = {str(revision.number): revision.to_json()}
        config_map: Raw = {"metadata": {"annotations": annotations}, "data": data}
        return FunctionRecord(self, revision.key, config_map)

    def read(self, cluster: Cluster, key: FunctionKey) -> FunctionRecord[R]:
        """Return the record of a function. Raises `ConflictError` for another tool's ConfigMap."""
        name = self.config_map_name(key)
        config_map = cluster.get(kinds.CONFIG_MAP, key.namespace, name)
        if config_map is not None:
            labels = config_map["metadata"].get("labels") or {}
            if labels.get(MANAGED_BY) != MANAGER:
                raise ConflictError(
                    f"ConfigMap {name} in namespace {key.namespace} is not managed by fnbuild",
                    hint="give the function another name, or delete what is there",
                )
        return FunctionRecord(self, key, config_map)

    def read_all(self, cluster: Cluster, namespace: str | None) -> list[FunctionRecord[R]]:
        """Return the records of all functions of a namespace, or of all with None."""
        return [
            FunctionRecord(self, self._key_of(config_map["metadata"]), config_map)
            for config_map in cluster.list(kinds.CONFIG_MAP, namespace, labels=self.selector)
        ]

    def _key_of(self, metadata: Raw) -> FunctionKey:
        name = str(metadata["name"]).removeprefix(f"{self.name}-")
        return FunctionKey(str(metadata["namespace"]), name)

    @contextmanager
    def hold_lease(
        self,
        cluster: Cluster,
        key: FunctionKey,
        participle: str,
        pending: Function | None = None,
    ) -> Iterator[FunctionLease[R]]:
        """Hold the local lock and the lease of a function, and renew the lease.

        `pending` is the function of a first deploy. Raises `BusyError` if another client is
        changing the function.
        """
        lock_key = self.lock_key(key)
        with function_lock(*lock_key, participle):
            lease = self._read_lease(cluster, key, pending)
            lease.acquire(participle)
            try:
                with _renewing(lease):
                    yield lease
            except BaseException:
                # The failure of the block is reported, and the lease expires by itself.
                with suppress(FnbuildError):
                    lease.release()
                raise
            lease.release()
            if lease.delete_record:
                remove_lock(*lock_key)

    def _read_lease(
        self, cluster: Cluster, key: FunctionKey, pending: Function | None
    ) -> FunctionLease[R]:
        record = self.read(cluster, key)
        return FunctionLease(
            cluster,
            record,
            {revision.number: revision for revision in record.revisions},
            record.applied.number if record.applied else 0,
            pending.project if pending is not None else record.project,
            record.imported_config,
        )


@dataclass(slots=True)
class FunctionLease(Generic[R]):
    """The exclusive right to change a function, with the record that the change writes.

    With `delete_record`, the record is deleted when the change ends.
    """

    cluster: Cluster
    record: FunctionRecord[R]
    revisions: dict[int, R] = field(default_factory=dict)
    applied: int = 0
    project: str = DEFAULT_PROJECT
    imported_config: Raw | None = None
    delete_record: bool = False
    _holder: Raw = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def key(self) -> FunctionKey:
        return self.record.key

    def configs(self) -> list[Raw]:
        """Return the configurations of the recorded revisions."""
        return [record.config for record in self.revisions.values()]

    def add_revision(self, revision: R, *, applied: bool) -> None:
        """Record a revision. One that serves replaces an import."""
        self.revisions[revision.number] = revision
        self.project = revision.function.project
        if applied:
            self.applied = revision.number
        if not revision.failed:
            self.imported_config = None

    def acquire(self, participle: str) -> None:
        """Write the lease. Raises `BusyError` if another client holds it."""
        _require_unleased(self.record)
        self._holder = current_holder(participle, time.time()).to_dict()
        try:
            self._write(leased=True)
        except ConflictError as error:
            raise BusyError(
                f"{self.key.name} is being changed by another client", hint="try again"
            ) from error

    def save(self) -> None:
        """Write the record while the change goes on, and extend the lease."""
        self._write(leased=True)

    def release(self) -> None:
        """Write the record without the lease, or delete it."""
        if self.delete_record or not (self.revisions or self.imported_config):
            with self._lock:
                name = self.record.kind.config_map_name(self.key)
                self.cluster.delete(kinds.CONFIG_MAP, self.key.namespace, name)
            return
        self._write(leased=False)

    def _write(self, *, leased: bool) -> None:
        """Write the ConfigMap. Other clients may label it meanwhile, but not change its data."""
        with self._lock:
            for attempt in range(_MAX_ATTEMPTS):
                live = self.record.config_map
                write = self.cluster.create if live is None else self.cluster.replace
                try:
                    written = write(self._manifest(live, leased=leased))
                except StaleError:
                    fresh = self.record.kind.read(self.cluster, self.key)
                    is_taken = fresh.lease.get("started") != self._holder.get("started")
                    if attempt + 1 == _MAX_ATTEMPTS or (fresh.is_leased(time.time()) and is_taken):
                        raise
                    self.record = fresh
                else:
                    self.record = replace(self.record, config_map=written)
                    return

    def _manifest(self, live: Raw | None, *, leased: bool) -> Raw:
        metadata: Raw = dict((live or {}).get("metadata") or {})
        metadata.pop("managedFields", None)
        annotations = {_APPLIED: str(self.applied)}
        if leased:
            until = round(time.time() + LEASE_SECONDS, 3)
            annotations[_LEASE] = json.dumps({**self._holder, "until": until})
        labels = {
            MANAGED_BY: MANAGER,
            RECORD: self.record.kind.name,
            FUNCTION_LABEL: self.key.name,
            PROJECT_LABEL: self.project,
        }
        metadata |= {
            "name": self.record.kind.config_map_name(self.key),
            "namespace": self.key.namespace,
            "labels": labels,
            "annotations": annotations,
        }
        return kinds.CONFIG_MAP.manifest(metadata, data=self._data())

    def _data(self) -> dict[str, str]:
        """Return the applied revision and the newest ones, within the limits."""
        data: dict[str, str] = {}
        if self.imported_config is not None:
            data[_IMPORT] = json.dumps(self.imported_config)
        size = 0
        for position, number in enumerate(sorted(self.revisions, reverse=True)):
            text = self.revisions[number].to_json()
            size += len(text.encode())
            needed = position == 0 or number == self.applied
            if needed or (position < HISTORY_LIMIT and size < _MAX_RECORD_BYTES):
                data[str(number)] = text
        return data


@contextmanager
def _renewing(lease: FunctionLease[R]) -> Iterator[None]:
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(_RENEWAL_SECONDS):
            # A cluster that is unavailable now may be back before the lease expires.
            with suppress(FnbuildError):
                lease.save()

    thread = threading.Thread(target=renew, name=f"lease on {lease.key}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _require_unleased(record: FunctionRecord[R]) -> None:
    if not record.is_leased(time.time()) or record.lease.get("owner") == local_owner():
        return
    left = record.lease["until"] - time.time()
    raise BusyError(
        f"{record.key.name} is {decode_holder(record.lease)}",
        hint=f"try again when that is done; if it was killed, its lease expires in {left:.0f} s",
    )


def _parse_object(text: str) -> Raw:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
