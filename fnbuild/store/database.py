"""The store: projects, functions, revisions and the audit log in one SQLite file.

Every method is one transaction. Several processes may have the file open; the transaction of a
killed process is rolled back.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, Unpack

from fnbuild.datadir import data_dir, revision_dir
from fnbuild.errors import NotFoundError, StoreError
from fnbuild.store.rows import (
    AuditRow,
    FunctionChanges,
    FunctionRow,
    ProjectRow,
    RevisionDraft,
    RevisionRow,
)
from fnbuild.store.schema import connect, translating_errors

_UNFINISHED = "the deploy ended before the revision was ready"


def utc_now() -> str:
    """Return the current time in ISO 8601, in UTC with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Store:
    """An open database. Threads may share it; each process opens its own."""

    def __init__(self, path: Path):
        self.path = path
        self._guard = threading.RLock()
        self._connection = connect(path)

    @classmethod
    def open(cls) -> Self:
        """Open the store of the data directory."""
        return cls(data_dir() / "fnbuild.db")

    def close(self) -> None:
        with self._guard:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # Projects

    def projects(self, namespace: str) -> list[ProjectRow]:
        """Return the recorded projects sorted by name; `default` only if it was recorded."""
        sql = "SELECT * FROM projects WHERE namespace = ? ORDER BY name"
        return [self._project(row) for row in self.select(sql, (namespace,))]

    def add_project(self, project: ProjectRow) -> bool:
        """Add the project; return False if it exists."""
        values = _project_values(project)
        names, marks = ", ".join(values), ", ".join(f":{name}" for name in values)
        sql = f"INSERT OR IGNORE INTO projects ({names}) VALUES ({marks})"  # noqa: S608  our names
        return self.execute(sql, values) > 0

    def update_project(self, project: ProjectRow) -> bool:
        """Update the project; return False if it does not exist."""
        sql = (
            "UPDATE projects SET description = :description, owner = :owner, labels = :labels,"
            " annotations = :annotations WHERE namespace = :namespace AND name = :name"
        )
        return self.execute(sql, _project_values(project)) > 0

    def delete_project(self, namespace: str, name: str) -> bool:
        """Delete the project but not its functions; return False if it does not exist."""
        sql = "DELETE FROM projects WHERE namespace = ? AND name = ?"
        return self.execute(sql, (namespace, name)) > 0

    # Functions

    def functions(self, namespace: str | None = None) -> list[FunctionRow]:
        """Return the functions of one or all namespaces, sorted by namespace and name."""
        sql = "SELECT * FROM functions WHERE ? IN (namespace, '') ORDER BY namespace, name"
        return [self._function(row) for row in self.select(sql, (namespace or "",))]

    def function(self, namespace: str, name: str) -> FunctionRow | None:
        sql = "SELECT * FROM functions WHERE namespace = ? AND name = ?"
        rows = self.select(sql, (namespace, name))
        return self._function(rows[0]) if rows else None

    def put_function(self, function: FunctionRow) -> None:
        """Insert or replace the function."""
        values = asdict(function) | {"config": _dump(function.config), "updated": utc_now()}
        names = ", ".join(values)
        marks = ", ".join(f":{name}" for name in values)
        changes = ", ".join(f"{name} = excluded.{name}" for name in values)
        self.execute(
            f"INSERT INTO functions ({names}) VALUES ({marks})"  # noqa: S608  our own names
            f" ON CONFLICT (namespace, name) DO UPDATE SET {changes}",
            values,
        )

    def update_function(
        self, namespace: str, name: str, **changes: Unpack[FunctionChanges]
    ) -> FunctionRow:
        """Update fields and return the new row; raise `NotFoundError` if it does not exist."""
        values: dict[str, Any] = {**changes, "updated": utc_now()}
        if "config" in changes:
            values["config"] = _dump(changes["config"])
        assignments = ", ".join(f"{field} = :{field}" for field in values)
        sql = f"UPDATE functions SET {assignments}"  # noqa: S608  names of a TypedDict
        with self.transaction():
            self.execute(
                f"{sql} WHERE namespace = :namespace AND name = :name",
                {**values, "namespace": namespace, "name": name},
            )
            row = self.function(namespace, name)
        if row is None:
            raise NotFoundError(f"there is no function {name} in namespace {namespace}")
        return row

    def delete_function(self, namespace: str, name: str) -> bool:
        """Delete the function and its revisions; return False if it does not exist."""
        sql = "DELETE FROM functions WHERE namespace = ? AND name = ?"
        return self.execute(sql, (namespace, name)) > 0

    # Revisions

    def revisions(self, namespace: str, name: str) -> list[RevisionRow]:
        """Return the revisions of the function, newest first."""
        sql = "SELECT * FROM revisions WHERE namespace = ? AND name = ? ORDER BY number DESC"
        return [self._revision(row) for row in self.select(sql, (namespace, name))]

    def revision(self, namespace: str, name: str, number: int) -> RevisionRow | None:
        sql = "SELECT * FROM revisions WHERE namespace = ? AND name = ? AND number = ?"
        rows = self.select(sql, (namespace, name, number))
        return self._revision(rows[0]) if rows else None

    def next_revision_number(self, namespace: str, name: str) -> int:
        """Return the number of the next revision. The caller holds the function's lock."""
        sql = "SELECT coalesce(max(number), 0) + 1 AS n FROM revisions"
        rows = self.select(f"{sql} WHERE namespace = ? AND name = ?", (namespace, name))
        return int(rows[0]["n"])

    def add_revision(self, namespace: str, name: str, draft: RevisionDraft) -> RevisionRow:
        """Add a revision with the next number, and the function if it is new.

        The revision is `failed` until it is activated, so the record is correct after a deploy that
        was killed.
        """
        with self.transaction() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO functions (namespace, name, project, desired, revision,"
                " http_port, admin_port, state, message, config, updated) VALUES"
                " (?, ?, 'default', 'running', 0, 0, 0, 'building', '', ?, ?)",
                (namespace, name, _dump(draft.config), utc_now()),
            )
            number = self.next_revision_number(namespace, name)
            code = draft.code or str(revision_dir(namespace, name, number) / "code")
            values = (
                namespace,
                name,
                number,
                utc_now(),
                "failed",
                draft.digest,
                _dump(draft.config),
            )
            connection.execute(
                "INSERT INTO revisions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, '')",
                (*values, code, draft.environment, draft.interpreter, _UNFINISHED),
            )
            row = self.revision(namespace, name, number)
        assert row is not None
        return row

    def record_origin(self, namespace: str, name: str, number: int, origin: int, note: str) -> None:
        """Record which revision this one runs again, with a note about the reason."""
        self.execute(
            "UPDATE revisions SET origin = ?, note = ?"
            " WHERE namespace = ? AND name = ? AND number = ?",
            (origin, note, namespace, name, number),
        )

    def activate_revision(
        self, namespace: str, name: str, number: int, **changes: Unpack[FunctionChanges]
    ) -> FunctionRow:
        """Activate the revision and supersede the previous one, in one transaction.

        `changes` are updates of the function in the same transaction.
        """
        key = (namespace, name)
        with self.transaction():
            self.execute(
                "UPDATE revisions SET state = 'superseded'"
                " WHERE namespace = ? AND name = ? AND state = 'active'",
                key,
            )
            activated = self.execute(
                "UPDATE revisions SET state = 'active', message = ''"
                " WHERE namespace = ? AND name = ? AND number = ?",
                (*key, number),
            )
            if not activated:
                raise NotFoundError(f"{name} has no revision {number}")
            changes["revision"] = number
            return self.update_function(namespace, name, **changes)

    def fail_revision(self, namespace: str, name: str, number: int, message: str) -> None:
        """Record why a revision did not become ready, or is not active any more."""
        self.execute(
            "UPDATE revisions SET state = 'failed', message = ?"
            " WHERE namespace = ? AND name = ? AND number = ?",
            (message, namespace, name, number),
        )

    def environment_pythons(self) -> set[str]:
        """Return the paths of the Pythons in the environments of all recorded revisions."""
        sql = "SELECT DISTINCT environment FROM revisions WHERE environment != ''"
        return {row["environment"] for row in self.select(sql, ())}

    def prune_revisions(self, namespace: str, name: str, keep: int) -> list[RevisionRow]:
        """Delete all but the newest `keep` revisions and the active one; return the deleted ones.

        The caller removes their folders.
        """
        with self.transaction() as connection:
            revisions = self.revisions(namespace, name)[keep:]
            old = [row for row in revisions if row.state != "active"]
            connection.executemany(
                "DELETE FROM revisions WHERE namespace = ? AND name = ? AND number = ?",
                [(namespace, name, row.number) for row in old],
            )
        return old

    # Audit

    def add_audit_entry(self, actor: str, action: str, target: str, outcome: str) -> None:
        """Add an entry to the audit log."""
        values = (utc_now(), actor, action, target, outcome)
        self.execute("INSERT INTO audit VALUES (?, ?, ?, ?, ?)", values)

    def audit(self, limit: int = 100) -> list[AuditRow]:
        """Return the newest entries of the audit log, newest first."""
        sql = "SELECT * FROM audit ORDER BY rowid DESC LIMIT ?"
        return [AuditRow(**row) for row in self.select(sql, (limit,))]

    @property
    def change_counter(self) -> int:
        """A number that changes when another connection has changed the database."""
        return int(self.select("PRAGMA data_version", ())[0]["data_version"])

    # For tables in other modules

    def select(self, sql: str, values: tuple[Any, ...]) -> list[dict[str, Any]]:
        """Return the rows of a query."""
        with self._guard, translating_errors(self.path):
            return [dict(row) for row in self._connection.execute(sql, values)]

    def execute(self, sql: str, values: tuple[Any, ...] | dict[str, Any]) -> int:
        """Run a statement as one transaction; return the number of changed rows."""
        with self.transaction() as connection:
            return connection.execute(sql, values).rowcount

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Run the block as one transaction."""
        with self._guard, translating_errors(self.path):
            connection = self._connection
            if connection.in_transaction:  # nested calls share the outer transaction
                yield connection
                return
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                connection.rollback()
                raise

    # Decoding

    def _project(self, row: dict[str, Any]) -> ProjectRow:
        texts = {key: self._load(row[key]) for key in ("labels", "annotations")}
        return ProjectRow(**(row | texts))

    def _function(self, row: dict[str, Any]) -> FunctionRow:
        return FunctionRow(**(row | {"config": self._load(row["config"])}))

    def _revision(self, row: dict[str, Any]) -> RevisionRow:
        row = row | {"config": self._load(row["config"]), "code": Path(row["code"])}
        return RevisionRow(**row)

    def _load(self, text: str) -> dict[str, Any]:
        try:
            value = json.loads(text)
        except ValueError as error:
            raise StoreError(f"{self.path} contains a configuration that is not JSON") from error
        if not isinstance(value, dict):
            raise StoreError(f"{self.path} contains a configuration that is not an object")
        return value


def _project_values(project: ProjectRow) -> dict[str, str]:
    texts = {"labels": _dump(project.labels), "annotations": _dump(project.annotations)}
    return asdict(project) | texts


def _dump(config: dict[str, Any]) -> str:
    return json.dumps(config, ensure_ascii=False, separators=(",", ":"))
