"""The schema of the database, its migrations, and the connection to the file.

A migration is a list of statements. A released migration never changes; new ones are appended.
Statements require SQLite 3.24 only, the version of the oldest systems with Python 3.11.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fnbuild.datadir import make_private_dir
from fnbuild.errors import ConflictError, StoreError

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE projects (
            namespace TEXT NOT NULL, name TEXT NOT NULL,
            description TEXT NOT NULL, owner TEXT NOT NULL,
            PRIMARY KEY (namespace, name)
        )""",
        """CREATE TABLE functions (
            namespace TEXT NOT NULL, name TEXT NOT NULL, project TEXT NOT NULL,
            desired TEXT NOT NULL CHECK (desired IN ('running', 'stopped', 'imported')),
            revision INTEGER NOT NULL, http_port INTEGER NOT NULL, admin_port INTEGER NOT NULL,
            state TEXT NOT NULL, message TEXT NOT NULL, config TEXT NOT NULL,
            updated TEXT NOT NULL,
            PRIMARY KEY (namespace, name)
        )""",
        """CREATE TABLE revisions (
            namespace TEXT NOT NULL, name TEXT NOT NULL, number INTEGER NOT NULL,
            created TEXT NOT NULL,
            state TEXT NOT NULL CHECK (state IN ('active', 'superseded', 'failed')),
            digest TEXT NOT NULL, config TEXT NOT NULL, code TEXT NOT NULL,
            environment TEXT NOT NULL, interpreter TEXT NOT NULL, message TEXT NOT NULL,
            PRIMARY KEY (namespace, name, number),
            FOREIGN KEY (namespace, name) REFERENCES functions ON DELETE CASCADE
        )""",
        # Two processes cannot activate two revisions.
        """CREATE UNIQUE INDEX one_active ON revisions (namespace, name)
            WHERE state = 'active'""",
        """CREATE TABLE audit (
            time TEXT NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL,
            target TEXT NOT NULL, outcome TEXT NOT NULL
        )""",
    ),
    (
        "ALTER TABLE revisions ADD COLUMN origin INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE revisions ADD COLUMN note TEXT NOT NULL DEFAULT ''",
    ),
    (
        """CREATE TABLE operations (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            namespace TEXT NOT NULL, name TEXT NOT NULL, platform TEXT NOT NULL,
            action TEXT NOT NULL, actor TEXT NOT NULL, owner TEXT NOT NULL,
            state TEXT NOT NULL CHECK (state IN ('waiting', 'running', 'done', 'failed')),
            message TEXT NOT NULL, started TEXT NOT NULL, ended TEXT NOT NULL,
            revision INTEGER NOT NULL, config TEXT NOT NULL
        )""",
        "CREATE INDEX operations_of ON operations (namespace, name)",
        # Two dashboards cannot change a function at the same time.
        """CREATE UNIQUE INDEX one_operation ON operations (namespace, name)
            WHERE state IN ('waiting', 'running')""",
        """CREATE TABLE operation_lines (
            operation INTEGER NOT NULL REFERENCES operations (id) ON DELETE CASCADE,
            number INTEGER NOT NULL, time INTEGER NOT NULL,
            level TEXT NOT NULL, message TEXT NOT NULL,
            PRIMARY KEY (operation, number)
        )""",
        """CREATE TABLE function_events (
            namespace TEXT NOT NULL, name TEXT NOT NULL, body TEXT NOT NULL,
            PRIMARY KEY (namespace, name)
        )""",
    ),
    (
        """CREATE TABLE tokens (
            role TEXT PRIMARY KEY CHECK (role IN ('read', 'write')),
            digest TEXT NOT NULL, created TEXT NOT NULL
        )""",
    ),
    # 1 for an operation that failed because another client was changing the function.
    ("ALTER TABLE operations ADD COLUMN refused INTEGER NOT NULL DEFAULT 0",),
    (
        "ALTER TABLE projects ADD COLUMN labels TEXT NOT NULL DEFAULT '{}'",
        "ALTER TABLE projects ADD COLUMN annotations TEXT NOT NULL DEFAULT '{}'",
    ),
    ("ALTER TABLE functions ADD COLUMN grpc_port INTEGER NOT NULL DEFAULT 0",),
)

_BUSY_SECONDS = 20.0
_RETRY_SECONDS = 0.01


def connect(path: Path) -> sqlite3.Connection:
    """Connect to the database at `path`, which is created or migrated if needed."""
    make_private_dir(path.parent)
    with translating_errors(path):
        _create(path)
        connection = sqlite3.connect(
            path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            connection.row_factory = sqlite3.Row
            _enable_wal(connection)
            # In WAL mode NORMAL keeps the file consistent after kill -9 and power loss. A power
            # loss may lose the last transactions, but never a part of one.
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA foreign_keys = ON")
            _migrate(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


def _create(path: Path) -> None:
    # SQLite gives its -wal and -shm files the mode of the database, so it is set first. An existing
    # file is not opened, since closing it would drop the locks of this process's connections.
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def _enable_wal(connection: sqlite3.Connection) -> None:
    """Switch to WAL mode.

    While another process switches a new database, SQLite fails at once in spite of the timeout.
    """
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if _primary_code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_SECONDS)
        else:
            return


def _schema_version(connection: sqlite3.Connection) -> int:
    table = connection.execute(
        "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'schema'"
    ).fetchone()
    if table is None:
        return 0
    row = connection.execute("SELECT coalesce(max(version), 0) FROM schema").fetchone()
    return int(row[0])


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    newest = len(MIGRATIONS)
    version = _schema_version(connection)
    if version < newest:
        connection.execute("BEGIN IMMEDIATE")
        try:
            version = _schema_version(connection)  # another process may have migrated it meanwhile
            if version == 0:
                connection.execute(
                    "CREATE TABLE IF NOT EXISTS schema"
                    " (version INTEGER PRIMARY KEY, applied TEXT NOT NULL)"
                )
            for number in range(version + 1, newest + 1):
                for statement in MIGRATIONS[number - 1]:
                    connection.execute(statement)
                connection.execute(
                    "INSERT INTO schema VALUES (?, strftime('%Y-%m-%dT%H:%M:%SZ'))", (number,)
                )
            connection.execute("COMMIT")
        except BaseException:
            connection.rollback()
            raise
    if version > newest:
        raise StoreError(
            f"{path} was written by a newer fnbuild (schema {version}; this one supports {newest})",
            hint="update this fnbuild, or set FNBUILD_DATA_DIR to another directory",
        )


@contextmanager
def translating_errors(path: Path) -> Iterator[None]:
    """Translate errors of SQLite and of the file system into errors with a remedy."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise _translate(error, path) from error
    except OSError as error:
        raise StoreError(
            f"cannot open {path}: {error.strerror}",
            hint=f"{path.parent} must be a writable directory",
        ) from error


def _primary_code(error: sqlite3.DatabaseError) -> int:
    """Return SQLite's primary result code, the low byte; 0 for errors that Python itself raises."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _translate(error: sqlite3.DatabaseError, path: Path) -> StoreError | ConflictError:
    code = _primary_code(error)
    if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return StoreError(
            f"{path} is damaged ({error}); nothing was changed or deleted",
            hint=f"restore a backup, or move it away (together with {path.name}-wal and"
            f" {path.name}-shm) and deploy the functions again",
        )
    if code == sqlite3.SQLITE_FULL:
        return StoreError(
            f"no space left on the disk of {path}; nothing was changed",
            hint="free some space, or set FNBUILD_DATA_DIR to a directory on another disk",
        )
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return StoreError(
            f"cannot write to {path} ({error})",
            hint=f"{path.parent} and its files must be writable",
        )
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return ConflictError(
            f"{path} was in use by another process for {_BUSY_SECONDS:.0f} seconds",
            hint="try again; if the error persists, look for a process that hangs",
        )
    return StoreError(f"{path}: {error}")
