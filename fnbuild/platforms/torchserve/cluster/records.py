"""The records of functions that TorchServe serves in a cluster."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from fnbuild.function.torchserve_settings import TorchServeSettings, torchserve_settings
from fnbuild.platforms.kubeclient import function_records
from fnbuild.platforms.kubeclient.function_records import RecordKind
from fnbuild.platforms.kubeclient.stored_revision import StoredRevision


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionRecord(StoredRevision):
    """A revision of a function.

    `archives` are its files in the model store. `models` are the names by which clients call them,
    first that of the function. A tree of archives has a `server_config` of its own. `loaded` are
    the files that `loadModels: all` stands for.
    """

    version: str
    archives: list[str]
    models: list[str]
    server_config: str = ""
    loaded: list[str] = field(default_factory=list)

    @property
    def settings(self) -> TorchServeSettings:
        return torchserve_settings(self.function)


FunctionRecord: TypeAlias = function_records.FunctionRecord[RevisionRecord]
FunctionLease: TypeAlias = function_records.FunctionLease[RevisionRecord]

RECORDS = RecordKind("torchserve", RevisionRecord)


def described_by(record: FunctionRecord) -> RevisionRecord | None:
    """Return the revision that describes the function: the applied one, or the newest."""
    return record.applied or next(iter(record.revisions), None)
