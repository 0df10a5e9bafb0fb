"""The dashboard's tables: operations with their output, function events, and tokens."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from fnbuild.store.database import Store, utc_now
from fnbuild.store.rows import FunctionConfig

OperationState = Literal["waiting", "running", "done", "failed"]

_MAX_KEPT = 1000
# All but the configuration, which may hold megabytes of code.
_SELECT = (
    "SELECT id, namespace, name, platform, action, actor, owner, state, message, started, ended,"
    " revision, refused FROM operations"
)


FunctionEvent = dict[str, Any]


@dataclass(frozen=True, slots=True)
class OperationDraft:
    """A new operation. `owner` is the dashboard that runs it.

    `config` is the desired configuration of the function, empty if the operation has none.
    """

    namespace: str
    name: str
    platform: str
    action: str
    actor: str
    owner: str
    config: FunctionConfig


@dataclass(frozen=True, slots=True)
class OperationRow:
    """An operation: a change of a function through a dashboard.

    `started`, when it was accepted, and `ended` are ISO 8601 times in UTC; `ended` is "" until the
    end. `revision` is the function's active revision at the end, 0 if there was none. `refused` is
    1 if the operation failed because another client was changing the function.
    """

    id: int
    namespace: str
    name: str
    platform: str
    action: str
    actor: str
    owner: str
    state: OperationState
    message: str
    started: str
    ended: str
    revision: int
    refused: int

    @property
    def in_progress(self) -> bool:
        return self.state in ("waiting", "running")


@dataclass(frozen=True, slots=True)
class OutputLineRow:
    """A line of output. `number` counts from 1; `time` is in milliseconds since the epoch."""

    number: int
    time: int
    level: str
    message: str


class OperationTable:
    """The tables of operations and their output.

    Only the newest operation of each function is kept, and a function has at most one operation in
    progress, even with several dashboards. An operation whose dashboard was killed stays `waiting`
    or `running` until another dashboard ends it.
    """

    def __init__(self, store: Store):
        self._store = store

    def add_waiting(self, draft: OperationDraft) -> OperationRow | None:
        """Add a waiting operation in place of the function's last; None if one is in progress."""
        key = (draft.namespace, draft.name)
        with self._store.transaction() as connection:
            previous = self.of_function(*key)
            if previous is not None and previous.in_progress:
                return None
            connection.execute("DELETE FROM operations WHERE namespace = ? AND name = ?", key)
            values = asdict(draft) | {"config": json.dumps(draft.config), "started": utc_now()}
            connection.execute(
                "INSERT INTO operations (namespace, name, platform, action, actor, owner, state,"
                " message, started, ended, revision, config) VALUES (:namespace, :name, :platform,"
                " :action, :actor, :owner, 'waiting', '', :started, '', 0, :config)",
                values,
            )
            connection.execute(
                "DELETE FROM operations WHERE state IN ('done', 'failed') AND id NOT IN"
                " (SELECT id FROM operations ORDER BY id DESC LIMIT ?)",
                (_MAX_KEPT,),
            )
            return self.of_function(*key)

    def of_function(self, namespace: str, name: str) -> OperationRow | None:
        """Return the operation of a function, without its configuration."""
        sql = _SELECT + " WHERE namespace = ? AND name = ?"
        rows = self._store.select(sql, (namespace, name))
        return OperationRow(**rows[0]) if rows else None

    def all(self, namespace: str) -> list[OperationRow]:
        """Return the operations of a namespace sorted by function, without configurations."""
        sql = _SELECT + " WHERE namespace = ? ORDER BY name"
        return [OperationRow(**row) for row in self._store.select(sql, (namespace,))]

    def in_progress(self) -> list[OperationRow]:
        """Return the operations of all dashboards and namespaces that have not ended."""
        sql = _SELECT + " WHERE state IN ('waiting', 'running')"
        return [OperationRow(**row) for row in self._store.select(sql, ())]

    def by_id(self, number: int) -> OperationRow | None:
        """Return an operation by its id; None if the function has a newer one."""
        rows = self._store.select(_SELECT + " WHERE id = ?", (number,))
        return OperationRow(**rows[0]) if rows else None

    def config(self, number: int) -> FunctionConfig:
        """Return the desired configuration of an operation; empty if it has none."""
        rows = self._store.select("SELECT config FROM operations WHERE id = ?", (number,))
        config: FunctionConfig = json.loads(rows[0]["config"]) if rows else {}
        return config

    def mark_running(self, number: int) -> None:
        """Record that a waiting operation is running."""
        sql = "UPDATE operations SET state = 'running' WHERE id = ? AND state = 'waiting'"
        self._store.execute(sql, (number,))

    def end(
        self,
        number: int,
        state: OperationState,
        message: str,
        revision: int | None,
        *,
        refused: bool = False,
    ) -> bool:
        """Record the end of an operation; return False if it had ended before.

        `revision` is the active one, None if the function does not exist. The configuration of an
        existing function is deleted here.
        """
        ended = self._store.execute(
            "UPDATE operations SET state = ?, message = ?, revision = ?, refused = ?,"
            " ended = ?, config = CASE WHEN ? THEN '{}' ELSE config END"
            " WHERE id = ? AND state IN ('waiting', 'running')",
            (state, message, revision or 0, refused, utc_now(), revision is not None, number),
        )
        return ended > 0

    def add_lines(self, operation: int, lines: Iterable[OutputLineRow]) -> None:
        """Record output; ignored if the operation does not exist any more."""
        with self._store.transaction() as connection:
            connection.executemany(
                "INSERT OR IGNORE INTO operation_lines"
                " SELECT id, ?, ?, ?, ? FROM operations WHERE id = ?",
                [(line.number, line.time, line.level, line.message, operation) for line in lines],
            )

    def lines(self, operation: int, after: int = 0) -> list[OutputLineRow]:
        """Return the output of an operation after line `after`."""
        sql = (
            "SELECT number, time, level, message FROM operation_lines"
            " WHERE operation = ? AND number > ? ORDER BY number"
        )
        return [OutputLineRow(**row) for row in self._store.select(sql, (operation, after))]


class FunctionEventTable:
    """The table of function events: requests that users save with a function to send them again.

    An event is stored as the client sends it.
    """

    def __init__(self, store: Store):
        self._store = store

    def all(self, namespace: str) -> dict[str, FunctionEvent]:
        """Return the events of a namespace by name."""
        sql = "SELECT name, body FROM function_events WHERE namespace = ? ORDER BY name"
        rows = self._store.select(sql, (namespace,))
        return {row["name"]: json.loads(row["body"]) for row in rows}

    def get(self, namespace: str, name: str) -> FunctionEvent | None:
        sql = "SELECT body FROM function_events WHERE namespace = ? AND name = ?"
        rows = self._store.select(sql, (namespace, name))
        return json.loads(rows[0]["body"]) if rows else None

    def add(self, namespace: str, name: str, event: FunctionEvent) -> bool:
        """Add an event; return False if it exists."""
        sql = "INSERT OR IGNORE INTO function_events VALUES (?, ?, ?)"
        return self._store.execute(sql, (namespace, name, json.dumps(event))) > 0

    def replace(self, namespace: str, name: str, event: FunctionEvent) -> bool:
        """Replace an event; return False if it does not exist."""
        sql = "UPDATE function_events SET body = ? WHERE namespace = ? AND name = ?"
        return self._store.execute(sql, (json.dumps(event), namespace, name)) > 0

    def delete(self, namespace: str, name: str) -> bool:
        """Delete an event; return False if it does not exist."""
        sql = "DELETE FROM function_events WHERE namespace = ? AND name = ?"
        return self._store.execute(sql, (namespace, name)) > 0


@dataclass(frozen=True, slots=True)
class TokenRow:
    """The digest of a token. `role` is `read` or `write`; `created` is an ISO 8601 time in UTC."""

    role: str
    digest: str
    created: str


class TokenTable:
    """The table of tokens: one digest per role, from which the token cannot be derived."""

    def __init__(self, store: Store):
        self._store = store

    def all(self) -> dict[str, TokenRow]:
        """Return the tokens by role."""
        rows = self._store.select("SELECT * FROM tokens", ())
        return {row["role"]: TokenRow(**row) for row in rows}

    def add(self, role: str, digest: str) -> bool:
        """Add the first token of a role; return False if it has one."""
        values = (role, digest, _now_in_seconds())
        return self._store.execute("INSERT OR IGNORE INTO tokens VALUES (?, ?, ?)", values) > 0

    def put(self, role: str, digest: str) -> None:
        """Set the token of a role; the previous token becomes invalid."""
        values = (role, digest, _now_in_seconds())
        self._store.execute("INSERT OR REPLACE INTO tokens VALUES (?, ?, ?)", values)


def _now_in_seconds() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
