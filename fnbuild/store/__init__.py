"""What fnbuild remembers between two commands: the store, its rows, and the lock of a function."""

from fnbuild.datadir import data_dir, function_dir, lock, revision_dir
from fnbuild.store.database import Store
from fnbuild.store.operations import (
    LineRow,
    OperationDraft,
    OperationRecords,
    OperationRow,
    OperationState,
)
from fnbuild.store.rows import (
    AuditRow,
    Config,
    Desired,
    FunctionChanges,
    FunctionRow,
    ProjectRow,
    RevisionDraft,
    RevisionRow,
    RevisionState,
)

__all__ = [
    "AuditRow",
    "Config",
    "Desired",
    "FunctionChanges",
    "FunctionRow",
    "LineRow",
    "OperationDraft",
    "OperationRecords",
    "OperationRow",
    "OperationState",
    "ProjectRow",
    "RevisionDraft",
    "RevisionRow",
    "RevisionState",
    "Store",
    "data_dir",
    "function_dir",
    "lock",
    "revision_dir",
]
