"""Who changes a function just now, and the record that is written when the change is done.

Two deploys of one function at the same time would undo one another. On one machine the lock of the
data directory stands between them; deploys from elsewhere see an annotation on the function's
ConfigMap, which only one of them can write.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from fnbuild.datadir import data_dir, drop_lock, lock, other_holder
from fnbuild.errors import BusyError, ConflictError, FnbuildError
from fnbuild.platforms.cluster import kinds
from fnbuild.platforms.cluster.api import Cluster
from fnbuild.platforms.cluster.faults import StaleError
from fnbuild.platforms.kube import addresses, inventory, records
from fnbuild.platforms.kube import labels as own
from fnbuild.platforms.kube.inventory import IMPORTED, Known
from fnbuild.platforms.kube.labels import Key, Made, config_of
from fnbuild.platforms.kube.texts import text_of
from fnbuild.platforms.projects import DEFAULT
from fnbuild.spec.types import Function, Raw

KEPT = 10
"""How many revisions stay on record, beside the one that runs."""

# The cluster takes a ConfigMap of 1 MiB.
_LARGEST = 900_000
_CLAIM = inventory.CLAIM
_TRIES = 5


def owner() -> str:
    """Who changes functions: the machine and the data directory, whose lock others there see."""
    return f"{socket.gethostname()}:{data_dir()}"


@dataclass(slots=True)
class Claim:
    """The right to change one function, which one deploy has at a time, and its open record.

    `known` is what there was when it was taken, `made` the revisions on record by number, `wanted`
    the function that is to come, for others to see while there is none yet. What is added is
    written when the claim is given back, with `node_port`; with `forget` the record goes instead.
    """

    cluster: Cluster
    known: Known
    made: dict[int, Made] = field(default_factory=dict)
    imported: str = ""
    node_port: int = 0
    forget: bool = False
    wanted: Function | None = None
    _text: str = ""

    @classmethod
    def of(cls, cluster: Cluster, known: Known) -> Claim:
        imported = known.imported
        return cls(
            cluster,
            known,
            {made.number: made for made in records.recorded(known)},
            "" if imported is None else text_of(imported),
            addresses.node_port(known.service) or known.node_port,
        )

    def add_import(self, function: Function) -> None:
        self.imported = text_of(config_of(function))

    def add(self, made: Made) -> None:
        """Record a revision; with one that serves, an import is one no more."""
        self.made[made.number] = made
        if not made.failed:
            self.imported = ""

    def take(self, participle: str, seconds: float) -> None:
        """Note in the cluster who changes the function, until `seconds` from now.

        Raises `BusyError` when somebody else does.
        """
        claim = {
            "owner": owner(),
            "process": os.getpid(),
            "participle": participle,
            "until": round(time.time() + seconds, 3),
        }
        self._text = text_of(claim)
        _refuse_another(self.known)
        try:
            self._write(self._text)
        except ConflictError as error:
            self._look_again()
            _refuse_another(self.known)
            raise BusyError(
                f"{self.known.key.name} is being changed by somebody else just now",
                hint="try again when that is done",
            ) from error

    def give_back(self) -> None:
        """Write the record, without the claim.

        Where somebody has deleted it meanwhile, or taken over because this took too long, the
        record is theirs.
        """
        for _ in range(_TRIES):
            if self.known.record is None or _claim(self.known.record) != self._text:
                return
            try:
                if self.forget or not (self.made or self.imported):
                    key = self.known.key
                    self.cluster.delete(kinds.CONFIG_MAP, key.namespace, key.object)
                else:
                    self._write("")
                return
            except StaleError:
                self._look_again()
        raise ConflictError(
            f"the record of {self.known.key.name} could not be written: somebody else writes"
            f" ConfigMap {self.known.key.object} all the time"
        )

    def _look_again(self) -> None:
        key = self.known.key
        self.known.record = self.cluster.get(kinds.CONFIG_MAP, key.namespace, key.object)

    def _write(self, claim: str) -> None:
        live = self.known.record or {}
        metadata: Raw = dict(live.get("metadata") or {})
        metadata.pop("managedFields", None)
        annotations = dict(metadata.get("annotations") or {})
        annotations.pop(_CLAIM, None)
        if self.node_port:
            annotations[inventory.NODE_PORT] = str(self.node_port)
        manifest = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                **metadata,
                "name": self.known.key.object,
                "namespace": self.known.key.namespace,
                "labels": (metadata.get("labels") or {}) | self._labels(changing=bool(claim)),
                "annotations": annotations | ({_CLAIM: claim} if claim else {}),
            },
            "data": self._data() | (self._coming() if claim else {}),
        }
        write = self.cluster.replace if live else self.cluster.create
        self.known.record = write(manifest)

    def _labels(self, *, changing: bool) -> dict[str, str]:
        config = self.made[max(self.made)].config if self.made else {}
        if not self.made and self.wanted is not None:
            config = config_of(self.wanted)
        if self.imported:
            config = json.loads(self.imported)
        labels = (config.get("metadata") or {}).get("labels") or {}
        kind = "imported" if self.imported else "revisions"
        return {
            own.MANAGED_BY: own.MANAGER,
            own.RECORD: inventory.CHANGING if changing else kind,
            own.FUNCTION: self.known.key.name,
            own.PROJECT: labels.get(own.PROJECT) or DEFAULT,
        }

    def _coming(self) -> dict[str, str]:
        """What a first deploy is to bring; nothing when it finds no room."""
        if self.made or self.imported or self.wanted is None:
            return {}
        text = text_of(config_of(self.wanted))
        return {inventory.WANTED: text} if len(text.encode()) < _LARGEST else {}

    def _data(self) -> dict[str, str]:
        """The newest revisions, as many as are kept and find room, and the one that runs."""
        active = self.known.made
        data = {IMPORTED: self.imported} if self.imported else {}
        size = len(self.imported.encode())
        for place, number in enumerate(sorted(self.made, reverse=True)):
            text = self.made[number].to_json()
            size += len(text.encode())
            runs = active is not None and active.number == number
            if place == 0 or runs or (place < KEPT and size < _LARGEST):
                data[str(number)] = text
        return data


@contextmanager
def claimed(
    cluster: Cluster, key: Key, participle: str, seconds: float, wanted: Function | None = None
) -> Iterator[Claim]:
    """Hold the function's lock and its claim in the cluster; see `Claim`.

    Raises `BusyError` when somebody else is changing the function, `ConflictError` when objects of
    its name are none of fnbuild's. What a deploy of this data directory has left that was killed is
    taken over.
    """
    with lock(*key, participle):
        known = inventory.function(cluster, key)
        refuse_foreign(known)
        claim = Claim.of(cluster, known)
        claim.wanted = wanted
        claim.take(participle, seconds)
        try:
            yield claim
        except BaseException as error:
            _give_back_behind(claim, error)
            raise
        claim.give_back()
        if claim.forget:
            drop_lock(*key)


def refuse_foreign(known: Known) -> None:
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


def _give_back_behind(claim: Claim, error: BaseException) -> None:
    """Give it back while something else has failed already, which is what people are to hear."""
    try:
        claim.give_back()
    except FnbuildError as problem:
        if isinstance(error, FnbuildError):
            also = f"it is not on record: {problem.message}"
            error.hint = f"{error.hint}; {also}" if error.hint else also


def change_of(known: Known) -> str:
    """Who else changes the function now, as in "being deployed from HOST:DIR"; "" for nobody and
    for this process.

    A claim of this data directory may be what is left of a process that was killed: its lock tells.
    """
    if not known.claimed(time.time()):
        return ""
    if known.claim.get("owner") != owner():
        return _by_another(known.claim)
    holder = other_holder(*known.key)
    return f"being {holder.what} by {holder}" if holder is not None else ""


def _by_another(claim: Raw) -> str:
    return f"being {claim.get('participle', 'changed')} from {claim.get('owner', 'elsewhere')}"


def _refuse_another(known: Known) -> None:
    now = time.time()
    if not known.claimed(now) or known.claim.get("owner") == owner():
        return
    left = known.claim["until"] - now
    raise BusyError(
        f"{known.key.name} is {_by_another(known.claim)}",
        hint=f"try again when that is done; if it was killed, its claim ends in {left:.0f} s",
    )


def _claim(record: Raw) -> str:
    return str((record["metadata"].get("annotations") or {}).get(_CLAIM, ""))
