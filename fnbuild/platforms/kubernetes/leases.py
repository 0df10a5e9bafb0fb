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
from fnbuild.platforms.kubernetes import endpoints, inventory, records
from fnbuild.platforms.kubernetes import labels as own
from fnbuild.platforms.kubernetes.inventory import IMPORTED_KEY, FunctionObjects
from fnbuild.platforms.kubernetes.labels import (
    KubernetesKey,
    RevisionRecord,
    canonical_json,
    recorded_config,
)
from fnbuild.platforms.leases import current_holder, decode_holder, format_age, local_owner

HISTORY_LIMIT = 10
"""How many revisions stay on record, beside the one that runs."""

LEASE_SECONDS = 60.0
"""Seconds until a claim expires that its holder does not renew, for example after a kill."""

_RENEWAL_SECONDS = 15.0
# The cluster takes a ConfigMap of 1 MiB.
_MAX_RECORD_BYTES = 900_000
_LEASE = inventory.LEASE_ANNOTATION
_MAX_ATTEMPTS = 5


@dataclass(slots=True)
class FunctionLease:
    """The right to change one function, which one deploy has at a time, and its open record.

    `known` is what there was when it was taken, `made` the revisions on record by number, `wanted`
    the function that is to come, for others to see while there is none yet. What is added is
    written by `save`, and when the claim is given back, with `node_port`; with `forget` the record
    goes instead.
    """

    cluster: Cluster
    known: FunctionObjects
    made: dict[int, RevisionRecord] = field(default_factory=dict)
    imported: str = ""
    node_port: int = 0
    forget: bool = False
    wanted: Function | None = None
    _lease: Raw = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(cls, cluster: Cluster, known: FunctionObjects) -> FunctionLease:
        imported = known.imported
        return cls(
            cluster,
            known,
            {made.number: made for made in records.recorded_revisions(known)},
            "" if imported is None else canonical_json(imported),
            endpoints.node_port(known.service) or known.node_port,
        )

    def add_import(self, config: Raw) -> None:
        """Record an import by its configuration, without secret values."""
        self.imported = canonical_json(config)

    def add(self, made: RevisionRecord) -> None:
        """Record a revision; with one that serves, an import is one no more."""
        self.made[made.number] = made
        if not made.failed:
            self.imported = ""

    def take(self, participle: str) -> None:
        """Record in the cluster who changes the function, until `LEASE_SECONDS` from now.

        Raises `BusyError` when somebody else does.
        """
        self._lease = {
            **current_holder(participle, time.time()).to_dict(),
            "until": _expiry(),
        }
        _require_unleased(self.known)
        try:
            write = self.cluster.replace if self.known.record else self.cluster.create
            self.known.record = write(self._manifest(self._text))
        except ConflictError as error:
            self._look_again()
            _require_unleased(self.known)
            raise BusyError(
                f"{self.known.key.name} is being changed by somebody else just now",
                hint="try again when that is done",
            ) from error

    def renew(self) -> bool:
        """Extend the lease; return False if the claim is no longer held."""
        with self._lock:
            noted = {**self._lease, "until": _expiry()}
            held = self._update(lambda record: _with_lease(record, canonical_json(noted)))
            if held:
                self._lease = noted
            return held

    def refresh(self) -> None:
        """Read the function's objects again, which may have changed during a build.

        Raises `BusyError` if the claim was lost in the meantime.
        """
        with self._lock:
            self.known = inventory.read_function(self.cluster, self.known.key)
            require_managed(self.known)
            if self._held:
                return
        _require_unleased(self.known)
        raise BusyError(
            f"the claim on {self.known.key.name} was removed while it was being"
            f" {self._lease['participle']}",
            hint="nothing was changed; try again",
        )

    def save(self) -> list[RevisionRecord]:
        """Write the record and keep the claim; return the revisions that left the history."""
        with self._lock:
            self._update(lambda _: self._manifest(self._text))
            kept = self._data()
            gone = [made for number, made in self.made.items() if str(number) not in kept]
            for made in gone:
                del self.made[made.number]
            return gone

    def give_back(self) -> None:
        """Write the record, without the claim.

        Where somebody has deleted it meanwhile, or taken over because this took too long, the
        record is theirs.
        """
        with self._lock:
            if self.forget or not (self.made or self.imported):
                if self._held:
                    key = self.known.key
                    self.cluster.delete(kinds.CONFIG_MAP, key.namespace, key.object)
            else:
                self._update(lambda _: self._manifest(""))

    @property
    def _text(self) -> str:
        return canonical_json(self._lease)

    @property
    def _held(self) -> bool:
        """Return True if the record had this claim when it was last read."""
        return self.known.record is not None and _lease_of(self.known.record) == self._text

    def _update(self, changed: Callable[[Raw], Raw]) -> bool:
        """Replace the record as long as it has this claim; False when it has not."""
        for _ in range(_MAX_ATTEMPTS):
            if self.known.record is None or not self._held:
                return False
            try:
                self.known.record = self.cluster.replace(changed(self.known.record))
                return True
            except (StaleError, NotFoundError):
                self._look_again()
        raise ConflictError(
            f"the record of {self.known.key.name} could not be written: somebody else writes"
            f" ConfigMap {self.known.key.object} all the time"
        )

    def _look_again(self) -> None:
        key = self.known.key
        self.known.record = self.cluster.get(kinds.CONFIG_MAP, key.namespace, key.object)

    def _manifest(self, claim: str) -> Raw:
        """The record as it is to be written, with the claim or "" for none."""
        live = self.known.record or {}
        metadata: Raw = dict(live.get("metadata") or {})
        metadata.pop("managedFields", None)
        annotations = dict(metadata.get("annotations") or {})
        annotations.pop(_LEASE, None)
        if self.node_port:
            annotations[inventory.NODE_PORT_ANNOTATION] = str(self.node_port)
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                **metadata,
                "name": self.known.key.object,
                "namespace": self.known.key.namespace,
                "labels": (metadata.get("labels") or {}) | self._labels(changing=bool(claim)),
                "annotations": annotations | ({_LEASE: claim} if claim else {}),
            },
            "data": self._data() | (self._coming() if claim else {}),
        }

    def _labels(self, *, changing: bool) -> dict[str, str]:
        config = self.made[max(self.made)].config if self.made else {}
        if not self.made and self.wanted is not None:
            config = recorded_config(self.wanted)
        if self.imported:
            config = json.loads(self.imported)
        labels = (config.get("metadata") or {}).get("labels") or {}
        kind = "imported" if self.imported else "revisions"
        return {
            own.MANAGED_BY: own.MANAGER,
            own.RECORD: inventory.CHANGING_RECORD if changing else kind,
            own.FUNCTION: self.known.key.name,
            own.PROJECT: labels.get(own.PROJECT) or DEFAULT_PROJECT,
        }

    def _coming(self) -> dict[str, str]:
        """What a first deploy is to bring; nothing when it finds no room."""
        if self.made or self.imported or self.wanted is None:
            return {}
        text = canonical_json(mask_variables(recorded_config(self.wanted), secrets_only=True))
        return {inventory.PENDING_KEY: text} if len(text.encode()) < _MAX_RECORD_BYTES else {}

    def _data(self) -> dict[str, str]:
        """The newest revisions, as many as are kept and find room, and the one that runs."""
        active = self.known.made
        data = {IMPORTED_KEY: self.imported} if self.imported else {}
        size = len(self.imported.encode())
        for place, number in enumerate(sorted(self.made, reverse=True)):
            text = self.made[number].to_json()
            size += len(text.encode())
            runs = active is not None and active.number == number
            if place == 0 or runs or (place < HISTORY_LIMIT and size < _MAX_RECORD_BYTES):
                data[str(number)] = text
        return data


@contextmanager
def hold_lease(
    cluster: Cluster, key: KubernetesKey, participle: str, wanted: Function | None = None
) -> Iterator[FunctionLease]:
    """Hold the function's lock and its claim in the cluster, which is renewed; see `Claim`.

    Raises `BusyError` when somebody else is changing the function, `ConflictError` when objects of
    its name are none of fnbuild's. What a deploy of this data directory has left that was killed is
    taken over.
    """
    with function_lock(*key, participle):
        known = inventory.read_function(cluster, key)
        require_managed(known)
        claim = FunctionLease.of(cluster, known)
        claim.wanted = wanted
        claim.take(participle)
        try:
            with _renewing(claim):
                yield claim
        except BaseException as error:
            _release_after(claim, error)
            raise
        claim.give_back()
        if claim.forget:
            remove_lock(*key)


@contextmanager
def _renewing(claim: FunctionLease) -> Iterator[None]:
    """Prolong the claim's lease until the block ends, however long that takes."""
    ended = threading.Event()

    def renew() -> None:
        held = True
        while held and not ended.wait(_RENEWAL_SECONDS):
            # A cluster that does not answer now may do so before the lease ends.
            with suppress(FnbuildError):
                held = claim.renew()

    name = f"claim on {claim.known.key}"
    thread = threading.Thread(target=renew, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()


def require_managed(known: FunctionObjects) -> None:
    """Touch nothing that has the function's name and is somebody else's."""
    name = known.key.name
    if not known.foreign:
        return
    raise ConflictError(
        f"{' and '.join(known.strangers)} in namespace {known.key.namespace}"
        f" {'is' if len(known.strangers) == 1 else 'are'} none of fnbuild's",
        hint=f"what Nuclio deployed, `--platform nuclio` changes; else give {name} another name,"
        " or delete what is there",
    )


def _release_after(claim: FunctionLease, error: BaseException) -> None:
    """Give it back while something else has failed already, which is what people are to hear."""
    try:
        claim.give_back()
    except FnbuildError as problem:
        if isinstance(error, FnbuildError):
            also = f"it is not on record: {problem.message}"
            error.hint = f"{error.hint}; {also}" if error.hint else also


def current_change(known: FunctionObjects) -> str:
    """Who else changes the function now, as in "being deployed from HOST:DIR"; "" for nobody and
    for this process.

    A claim of this data directory may be what is left of a process that was killed: its lock tells.
    """
    if not known.claimed(time.time()):
        return ""
    if known.claim.get("owner") != local_owner():
        return _describe_holder(known.claim)
    holder = other_holder(*known.key)
    return f"being {holder.what} by {holder}" if holder is not None else ""


def _describe_holder(claim: Raw) -> str:
    holder = decode_holder(claim)
    age = f" (started {format_age(time.time() - holder.since)} ago)" if holder.since else ""
    return f"{holder}{age}"


def _require_unleased(known: FunctionObjects) -> None:
    now = time.time()
    if not known.claimed(now) or known.claim.get("owner") == local_owner():
        return
    left = known.claim["until"] - now
    raise BusyError(
        f"{known.key.name} is {_describe_holder(known.claim)}",
        hint=f"try again when that is done; if it was killed, its claim ends in {left:.0f} s",
    )


def _expiry() -> float:
    return round(time.time() + LEASE_SECONDS, 3)


def _with_lease(record: Raw, claim: str) -> Raw:
    metadata = {key: value for key, value in record["metadata"].items() if key != "managedFields"}
    annotations = {**(metadata.get("annotations") or {}), _LEASE: claim}
    return {**record, "metadata": {**metadata, "annotations": annotations}}


def _lease_of(record: Raw) -> str:
    return str((record["metadata"].get("annotations") or {}).get(_LEASE, ""))
