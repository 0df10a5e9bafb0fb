"""The store: what fnbuild remembers between two commands, in one SQLite file."""

from fnbuild.store.dashboard import OperationDraft as OperationDraft
from fnbuild.store.dashboard import OperationRow as OperationRow
from fnbuild.store.dashboard import OperationState as OperationState
from fnbuild.store.dashboard import OperationTable as OperationTable
from fnbuild.store.dashboard import OutputLineRow as OutputLineRow
from fnbuild.store.database import Store as Store
from fnbuild.store.rows import FunctionRow as FunctionRow
from fnbuild.store.rows import ProjectRow as ProjectRow
from fnbuild.store.rows import RevisionDraft as RevisionDraft
from fnbuild.store.rows import RevisionRow as RevisionRow
