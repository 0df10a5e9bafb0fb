"""The store: what fnbuild remembers between two commands, in one SQLite file."""

from fnbuild.store.dashboard import (
    OperationDraft,
    OperationRow,
    OperationState,
    OperationTable,
    OutputLineRow,
)
from fnbuild.store.database import Store
from fnbuild.store.rows import (
    AuditRow,
    DesiredState,
    FunctionChanges,
    FunctionConfig,
    FunctionRow,
    ProjectRow,
    RevisionDraft,
    RevisionRow,
    RevisionState,
)

__all__ = [
    "AuditRow",
    "DesiredState",
    "FunctionChanges",
    "FunctionConfig",
    "FunctionRow",
    "OperationDraft",
    "OperationRow",
    "OperationState",
    "OperationTable",
    "OutputLineRow",
    "ProjectRow",
    "RevisionDraft",
    "RevisionRow",
    "RevisionState",
    "Store",
]
