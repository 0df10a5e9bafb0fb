"""The lease on a function: the right to change it, which an engine's clients share.

A lease is an empty labelled volume. The engine creates a volume of one name only once, so of two
clients that take the same lease one is refused. Labels never change: a renewal is the next volume
in the sequence, and so is a takeover. The engine's clock alone measures the age.

A lease also records how far a change has come (`Stage`). If its holder dies, the next client reads
there what to finish or undo.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from fnbuild.datadir import other_holder
from fnbuild.errors import BusyError, ConflictError, FnbuildError
from fnbuild.function.types import Raw
from fnbuild.platforms.docker.engine import Engine
from fnbuild.platforms.docker.labels import (
    LEASE_LABEL,
    RECORD_LABEL,
    RECORD_NAME_LABEL,
    RECORD_NAMESPACE_LABEL,
    DockerKey,
    record_labels,
)
from fnbuild.platforms.leases import (
    LeaseHolder,
    current_holder,
    decode_holder,
    format_age,
    local_owner,
)

LIFETIME_SECONDS = 60.0
"""Seconds until a lease expires unless it is renewed."""

RENEWAL_SECONDS = 15.0
RECOVERED = "recovered"
"""The participle in the lease of a client that cleans up after another one."""

Stage = Literal["", "switching"]
"""The stage is `switching` from before the old container stops until a container serves again."""

_WAIT_SECONDS = 15.0
_RETRY_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """A lease as the engine has it. `created` is a time of the engine's clock."""

    number: int
    token: str
    holder: LeaseHolder
    stage: Stage
    lifetime: float
    created: float

    def age(self, engine: Engine) -> float:
        """Return the seconds since the holder took the lease; renewals do not reset them."""
        return max(0.0, engine.now() - self.holder.since)

    def is_live(self, engine: Engine) -> bool:
        """Return False if the lease was released or has expired, or if its holder is dead."""
        if self.lifetime <= 0 or self.holder.has_ended:
            return False
        return self.holder.is_this_process or engine.now() < self.created + self.lifetime


def decode_lease(volume: Raw) -> LeaseRecord | None:
    """Read a lease from its volume; None if the volume is not a lease."""
    labels = volume.get("Labels") or {}
    try:
        raw = json.loads(labels.get(LEASE_LABEL, ""))
        return LeaseRecord(
            number=int(raw["number"]),
            token=str(raw["token"]),
            holder=decode_holder(raw["holder"]),
            stage="switching" if raw.get("stage") == "switching" else "",
            lifetime=float(raw["lifetime"]),
            created=datetime.fromisoformat(volume.get("CreatedAt", "")).timestamp(),
        )
    except (ValueError, KeyError, TypeError):
        return None


def newest_lease(records: Iterable[LeaseRecord]) -> LeaseRecord | None:
    """Return the lease with the highest number, which is the valid one."""
    return max(records, key=lambda record: record.number, default=None)


def lease_held_error(engine: Engine, key: DockerKey, record: LeaseRecord) -> BusyError:
    """Return the error for a client that may not change the function now."""
    return BusyError(
        f"{key.name} is {describe_lease(engine, record)}",
        hint="try again when that is done; if that process was killed, its lease ends by itself"
        f" within {LIFETIME_SECONDS:.0f} s, and the next command cleans up",
    )


class Lease:
    """A lease that this process holds. A thread renews it until it is given back."""

    def __init__(
        self, engine: Engine, key: DockerKey, record: LeaseRecord, inherited: Stage | None
    ):
        self.inherited_stage = inherited
        """The stage of a previous holder that died with the lease; None if there was none."""
        self._engine = engine
        self._key = key
        self._record = record
        self._renewed = time.monotonic()
        self._lost = False
        self._is_unfinished = False
        self._lock = threading.Lock()
        self._ended = threading.Event()
        name = f"lease of {key}"
        self._thread = threading.Thread(target=self._renew, name=name, daemon=True)
        self._thread.start()

    @property
    def stage(self) -> Stage:
        return self._record.stage

    def enter_stage(self, stage: Stage) -> None:
        """Record how far the change has come. Raises `ConflictError` if the lease is lost."""
        with self._lock:
            self._check()
            self._replace(replace(self._record, stage=stage))

    def mark_unfinished(self) -> None:
        """Keep the record at the release: the change is neither completed nor undone."""
        with self._lock:
            self._is_unfinished = True

    def clear_stage(self) -> None:
        """Forget the stage: the change was completed or undone."""
        with self._lock:
            self._is_unfinished = False
            self._record = replace(self._record, stage="")

    def check(self) -> None:
        """Raise `ConflictError` if another client may hold the lease by now."""
        with self._lock:
            self._check()

    def release(self) -> None:
        """End the lease. An unfinished change stays recorded for the next client.

        If the engine does not answer, the lease expires without being removed.
        """
        self._ended.set()
        with suppress(FnbuildError), self._lock:
            if self.is_lost:
                return
            if self._record.stage or self._is_unfinished:
                self._replace(replace(self._record, lifetime=0.0))
            else:
                self._engine.remove_volume(_volume_name(self._key, self._record.number))

    @property
    def is_lost(self) -> bool:
        return self._lost or time.monotonic() - self._renewed > LIFETIME_SECONDS

    def _check(self) -> None:
        if self.is_lost:
            raise ConflictError(
                f"the lease on {self._key.name} was lost: this process did not renew it for"
                f" {LIFETIME_SECONDS:.0f} s, and another client may change the function now",
                hint=f"`fnbuild get function {self._key.name}` shows what serves",
            )

    def _renew(self) -> None:
        while not self._ended.wait(RENEWAL_SECONDS):
            # A failed renewal is tried again at the next interval.
            with suppress(FnbuildError), self._lock:
                if self._ended.is_set() or self.is_lost:
                    return
                self._replace(self._record)

    def _replace(self, record: LeaseRecord) -> None:
        record = replace(record, number=self._record.number + 1)
        if not _create_volume(self._engine, self._key, record):
            self._lost = True
            self._check()
        before, self._record = self._record, record
        self._renewed = time.monotonic()
        self._engine.remove_volume(_volume_name(self._key, before.number))


def acquire(
    engine: Engine, key: DockerKey, participle: str, timeout: float = _WAIT_SECONDS
) -> Lease:
    """Take the lease. Raises `BusyError` while another client holds it.

    A client that only cleans up is waited for. The caller holds the function's lock, so a lease of
    this data directory belongs to a process that has ended.
    """
    deadline = time.monotonic() + timeout
    while True:
        before = _list_leases(engine, key)
        current = newest_lease(before)
        if current is None or current.holder.owner == local_owner() or not current.is_live(engine):
            break
        if current.holder.participle != RECOVERED or time.monotonic() > deadline:
            raise lease_held_error(engine, key, current)
        time.sleep(_RETRY_SECONDS)
    return _take(engine, key, participle, before)


def is_held(engine: Engine, key: DockerKey, record: LeaseRecord) -> bool:
    """Return True if a process that may be alive holds the lease."""
    if not record.is_live(engine):
        return False
    holder = record.holder
    # The lock of this data directory ends with its process.
    is_ours = holder.owner == local_owner() and not holder.is_this_process
    return not is_ours or other_holder(*key) is not None


def describe_lease(engine: Engine, record: LeaseRecord) -> str:
    """Return text such as "being deployed from HOST:DIR by process 12 (started 40 s ago)"."""
    return f"{record.holder} (started {format_age(record.age(engine))} ago)"


def _take(engine: Engine, key: DockerKey, participle: str, before: Sequence[LeaseRecord]) -> Lease:
    current = newest_lease(before)
    record = LeaseRecord(
        number=current.number + 1 if current else 1,
        token=secrets.token_hex(8),
        holder=current_holder(participle, engine.now()),
        stage=current.stage if current else "",
        lifetime=LIFETIME_SECONDS,
        created=0.0,
    )
    taken = _create_volume(engine, key, record)
    present = _list_leases(engine, key)
    rivals = [
        other
        for other in present
        if other.token != record.token and other not in before and other.is_live(engine)
    ]
    if not taken or rivals:
        if taken:
            engine.remove_volume(_volume_name(key, record.number))
        rival = newest_lease(rivals)
        if rival is None:
            raise BusyError(f"{key.name} is being changed by another client", hint="try again")
        raise lease_held_error(engine, key, rival)
    for old in before:
        engine.remove_volume(_volume_name(key, old.number))
    return Lease(engine, key, record, current.stage if current else None)


def _list_leases(engine: Engine, key: DockerKey) -> list[LeaseRecord]:
    labels = (
        f"{RECORD_LABEL}=lease",
        f"{RECORD_NAMESPACE_LABEL}={key.namespace}",
        f"{RECORD_NAME_LABEL}={key.name}",
    )
    records = (decode_lease(volume) for volume in engine.volumes(labels))
    return [record for record in records if record is not None]


def _create_volume(engine: Engine, key: DockerKey, record: LeaseRecord) -> bool:
    text = json.dumps(
        {
            "number": record.number,
            "token": record.token,
            "holder": record.holder.to_dict(),
            "stage": record.stage,
            "lifetime": record.lifetime,
        }
    )
    labels = record_labels("lease", *key) | {LEASE_LABEL: text}
    return engine.add_volume(_volume_name(key, record.number), labels)


def _volume_name(key: DockerKey, number: int) -> str:
    return key.record_name(f"lease-{number}")
