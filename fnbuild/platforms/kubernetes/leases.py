"""The lease on a function during a change, and the record that is written when the change ends.

Two concurrent deploys of a function would undo each other. On one machine the lock of the data
directory prevents them; deploys from other machines are kept out by an annotation of the function's
ConfigMap, which only one client can write.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from fnbuild.datadir import function_lock, other_holder, remove_lock
from fnbuild.errors import BusyError, ConflictError, FnbuildError, NotFoundError
from fnbuild.function.secrets import mask_variables
from fnbuild.function.types import Function, Raw
from fnbuild.names import DEFAULT_PROJECT
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubeclient.errors import StaleError
from fnbuild.platforms.kubernetes import endpoints, inventory, labels, records
from fnbuild.platforms.kubernetes.inventory import IMPORTED_KEY, FunctionObjects
from fnbuild.platforms.kubernetes.labels import KubernetesKey, canonical_json
from fnbuild.platforms.kubernetes.revision_record import RevisionRecord, recorded_config
from fnbuild.platforms.leases import current_holder, decode_holder, format_age, local_owner

HISTORY_LIMIT = 10
"""The number of recorded revisions, in addition to the applied one."""

LEASE_SECONDS = 60.0
"""The time until a lease expires that is not renewed, for example because its holder died."""

_RENEWAL_SECONDS = 15.0
# A ConfigMap is limited to 1 MiB.
_MAX_RECORD_BYTES = 900_000
_MAX_ATTEMPTS = 5


@dataclass(slots=True)
class FunctionLease:
    """The exclusive right to change a function, with the record that the change writes.

    `objects` are those of the time of acquisition, `revisions` the recorded revisions by number.
    `pending_function` is the function of a first deploy, which other clients see meanwhile. `save`
    and `release` write the record; with `delete_record`, `release` deletes it instead.
    """

    cluster: Cluster
    objects: FunctionObjects
    revisions: dict[int, RevisionRecord] = field(default_factory=dict)
    imported_config: str = ""
    node_port: int = 0
    delete_record: bool = False
    pending_function: Function | None = None
    _lease: Raw = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(cls, cluster: Cluster, objects: FunctionObjects) -> FunctionLease:
        imported = objects.imported_config
        return cls(
            cluster,
            objects,
            {revision.number: revision for revision in records.recorded_revisions(objects)},
            "" if imported is None else canonical_json(imported),
            endpoints.node_port(objects.service) or objects.node_port,
        )

    def configs(self) -> list[Raw]:
        """Return the configurations of the recorded revisions and of the applied one."""
        revisions = (*self.revisions.values(), self.objects.applied_revision)
        return [revision.config for revision in revisions if revision is not None]

    def record_import(self, config: Raw) -> None:
        """Record an import by its configuration, without secret values."""
        self.imported_config = canonical_json(config)

    def record_revision(self, revision: RevisionRecord) -> None:
        """Record a revision. One that serves replaces an import."""
        self.revisions[revision.number] = revision
        if not revision.failed:
            self.imported_config = ""

    def acquire(self, participle: str) -> None:
        """Write the lease to the cluster, for `LEASE_SECONDS`.

        Raises `BusyError` if another client holds it.
        """
        self._lease = {
            **current_holder(participle, time.time()).to_dict(),
            "until": _expiry(),
        }
        _require_unleased(self.objects)
        try:
            write = self.cluster.replace if self.objects.config_map else self.cluster.create
            self.objects.config_map = write(self._manifest(self._lease_text))
        except ConflictError as error:
            self._read_record()
            _require_unleased(self.objects)
            raise BusyError(
                f"{self.objects.key.name} is being changed by another client",
                hint="try again when that is done",
            ) from error

    def renew(self) -> bool:
        """Extend the lease; return False if it is no longer held."""
        with self._lock:
            renewed = {**self._lease, "until": _expiry()}
            held = self._update(lambda record: _with_lease(record, canonical_json(renewed)))
            if held:
                self._lease = renewed
            return held

    def refresh(self) -> None:
        """Read the function's objects again, which may have changed during a build.

        Raises `BusyError` if the lease was lost in the meantime.
        """
        with self._lock:
            self.objects = inventory.read_function(self.cluster, self.objects.key)
            require_managed(self.objects)
            if self._is_held:
                return
        _require_unleased(self.objects)
        raise BusyError(
            f"the lease on {self.objects.key.name} was removed while it was being"
            f" {self._lease['participle']}",
            hint="nothing was changed; try again",
        )

    def save(self) -> list[RevisionRecord]:
        """Write the record and keep the lease; return the revisions that left the history."""
        with self._lock:
            self._update(lambda _: self._manifest(self._lease_text))
            kept = self._data()
            retired = [
                revision for number, revision in self.revisions.items() if str(number) not in kept
            ]
            for revision in retired:
                del self.revisions[revision.number]
            return retired

    def release(self) -> None:
        """Write the record without the lease; delete it if it is empty or `delete_record` is set.

        The record is left alone if it was deleted or if another client has taken over the lease.
        """
        with self._lock:
            if self.delete_record or not (self.revisions or self.imported_config):
                if self._is_held:
                    key = self.objects.key
                    self.cluster.delete(kinds.CONFIG_MAP, key.namespace, key.object_name)
            else:
                self._update(lambda _: self._manifest(""))

    @property
    def _lease_text(self) -> str:
        return canonical_json(self._lease)

    @property
    def _is_held(self) -> bool:
        """True if the record had this lease when it was last read."""
        return self.objects.annotation(labels.LEASE) == self._lease_text

    def _update(self, change: Callable[[Raw], Raw]) -> bool:
        """Replace the record while the lease is held; return False if it is not."""
        for _ in range(_MAX_ATTEMPTS):
            if self.objects.config_map is None or not self._is_held:
                return False
            try:
                self.objects.config_map = self.cluster.replace(change(self.objects.config_map))
                return True
            except (StaleError, NotFoundError):
                self._read_record()
        raise ConflictError(
            f"the record of {self.objects.key.name} could not be written: another client constantly"
            f" changes ConfigMap {self.objects.key.object_name}"
        )

    def _read_record(self) -> None:
        key = self.objects.key
        self.objects.config_map = self.cluster.get(kinds.CONFIG_MAP, key.namespace, key.object_name)

    def _manifest(self, lease_text: str) -> Raw:
        """Return the ConfigMap to write, with a lease or "" for none."""
        live = self.objects.config_map or {}
        metadata: Raw = dict(live.get("metadata") or {})
        metadata.pop("managedFields", None)
        annotations = dict(metadata.get("annotations") or {})
        annotations.pop(labels.LEASE, None)
        if self.node_port:
            annotations[labels.NODE_PORT] = str(self.node_port)
        metadata |= {
            "name": self.objects.key.object_name,
            "namespace": self.objects.key.namespace,
            "labels": (metadata.get("labels") or {}) | self._labels(changing=bool(lease_text)),
            "annotations": annotations | ({labels.LEASE: lease_text} if lease_text else {}),
        }
        data = self._data() | (self._pending_data() if lease_text else {})
        return kinds.CONFIG_MAP.manifest(metadata, data=data)

    def _labels(self, *, changing: bool) -> dict[str, str]:
        config = self.revisions[max(self.revisions)].config if self.revisions else {}
        if not self.revisions and self.pending_function is not None:
            config = recorded_config(self.pending_function)
        if self.imported_config:
            config = json.loads(self.imported_config)
        user_labels = labels.section(config, "metadata", "labels")
        kind = "imported" if self.imported_config else "revisions"
        return {
            labels.MANAGED_BY: labels.MANAGER,
            labels.RECORD: labels.CHANGING_RECORD if changing else kind,
            labels.FUNCTION: self.objects.key.name,
            labels.PROJECT: user_labels.get(labels.PROJECT) or DEFAULT_PROJECT,
        }

    def _pending_data(self) -> dict[str, str]:
        """Return the configuration of a first deploy; nothing if it is too large."""
        if self.revisions or self.imported_config or self.pending_function is None:
            return {}
        text = canonical_json(
            mask_variables(recorded_config(self.pending_function), secrets_only=True)
        )
        return {inventory.PENDING_KEY: text} if len(text.encode()) < _MAX_RECORD_BYTES else {}

    def _data(self) -> dict[str, str]:
        """Return the applied revision and the newest ones, within the limits of number and size."""
        applied = self.objects.applied_revision
        data = {IMPORTED_KEY: self.imported_config} if self.imported_config else {}
        size = len(self.imported_config.encode())
        for position, number in enumerate(sorted(self.revisions, reverse=True)):
            text = self.revisions[number].to_json()
            size += len(text.encode())
            runs = applied is not None and applied.number == number
            if position == 0 or runs or (position < HISTORY_LIMIT and size < _MAX_RECORD_BYTES):
                data[str(number)] = text
        return data


@contextmanager
def hold_lease(
    cluster: Cluster, key: KubernetesKey, participle: str, pending_function: Function | None = None
) -> Iterator[FunctionLease]:
    """Hold the local lock and the lease of a function, and renew the lease; see `FunctionLease`.

    Raises `BusyError` if another client is changing the function, and `ConflictError` if fnbuild
    does not manage objects of its name. The lease of a killed deploy of this data directory is
    taken over.
    """
    with function_lock(*key, participle):
        objects = inventory.read_function(cluster, key)
        require_managed(objects)
        lease = FunctionLease.of(cluster, objects)
        lease.pending_function = pending_function
        lease.acquire(participle)
        try:
            with _renewing(lease):
                yield lease
        except BaseException as error:
            _release_after(lease, error)
            raise
        lease.release()
        if lease.delete_record:
            remove_lock(*key)


@contextmanager
def _renewing(lease: FunctionLease) -> Iterator[None]:
    """Renew the lease in a thread until the block ends."""
    ended = threading.Event()

    def renew() -> None:
        held = True
        while held and not ended.wait(_RENEWAL_SECONDS):
            # A cluster that is unavailable now may be back before the lease expires.
            with suppress(FnbuildError):
                held = lease.renew()

    name = f"lease on {lease.objects.key}"
    thread = threading.Thread(target=renew, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()


def require_managed(objects: FunctionObjects) -> None:
    """Raise `ConflictError` if fnbuild does not manage all objects of the function."""
    name = objects.key.name
    if not objects.has_unmanaged_objects:
        return
    raise ConflictError(
        f"{' and '.join(objects.unmanaged_objects)} in namespace {objects.key.namespace}"
        f" {'is' if len(objects.unmanaged_objects) == 1 else 'are'} not managed by fnbuild",
        hint=f"`--platform nuclio` changes Nuclio's functions; otherwise give {name} another name,"
        " or delete what is there",
    )


def _release_after(lease: FunctionLease, error: BaseException) -> None:
    """Release the lease after a failure, which remains the reported error."""
    try:
        lease.release()
    except FnbuildError as release_error:
        if isinstance(error, FnbuildError):
            also = f"it is not on record: {release_error.message}"
            error.hint = f"{error.hint}; {also}" if error.hint else also


def describe_ongoing_change(objects: FunctionObjects) -> str:
    """Describe the change by another process, as in "being deployed from HOST:DIR", or return "".

    A lease of this data directory may be left by a killed process: its lock tells.
    """
    if not objects.is_leased(time.time()):
        return ""
    if objects.lease.get("owner") != local_owner():
        return _describe_holder(objects.lease)
    holder = other_holder(*objects.key)
    return f"being {holder.what} by {holder}" if holder is not None else ""


def _describe_holder(lease: Raw) -> str:
    holder = decode_holder(lease)
    age = f" (started {format_age(time.time() - holder.since)} ago)" if holder.since else ""
    return f"{holder}{age}"


def _require_unleased(objects: FunctionObjects) -> None:
    now = time.time()
    if not objects.is_leased(now) or objects.lease.get("owner") == local_owner():
        return
    left = objects.lease["until"] - now
    raise BusyError(
        f"{objects.key.name} is {_describe_holder(objects.lease)}",
        hint=f"try again when that is done; if it was killed, its lease expires in {left:.0f} s",
    )


def _expiry() -> float:
    return round(time.time() + LEASE_SECONDS, 3)


def _with_lease(record: Raw, lease_text: str) -> Raw:
    metadata = {key: value for key, value in record["metadata"].items() if key != "managedFields"}
    annotations = {**(metadata.get("annotations") or {}), labels.LEASE: lease_text}
    return {**record, "metadata": {**metadata, "annotations": annotations}}
