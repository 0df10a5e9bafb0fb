"""The dashboard's tables: operations with their output, function events, and tokens."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from fnbuild.store.database import Store
from fnbuild.store.rows import FunctionConfig

OperationState = Literal["waiting", "running", "done", "failed"]

_MAX_KEPT = 1000
# All but the configuration, which may hold megabytes of code.
_SELECT = (
    "SELECT id, namespace, name, platform, action, actor, owner, state, message, started, ended,"
    " revision, refused FROM operations"
)


@dataclass(frozen=True, slots=True)
class OperationDraft:
    """A change that is to begin. `owner` names the dashboard that makes it; `config` is the
    function as it is wanted, empty where the change has none.
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
    """`started` and `ended` are ISO 8601 times in UTC, `ended` is "" until then.

    `revision` is the function's active one at the end, 0 when there was none. `refused` is 1 when
    it failed because somebody else was at the function.
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
    def under_way(self) -> bool:
        return self.state in ("waiting", "running")


@dataclass(frozen=True, slots=True)
class OutputLineRow:
    """A line of output. `number` counts from 1; `time` is in milliseconds since the epoch."""

    number: int
    time: int
    level: str
    message: str


class OperationTable:
    """The tables of operations in a store."""

    def __init__(self, store: Store):
        self._store = store

    def begin(self, draft: OperationDraft) -> OperationRow | None:
        """Record it as waiting, in place of the one before; None while that one is under way."""
        key = (draft.namespace, draft.name)
        with self._store.transaction() as connection:
            known = self.newest(*key)
            if known is not None and known.under_way:
                return None
            connection.execute("DELETE FROM operations WHERE namespace = ? AND name = ?", key)
            values = asdict(draft) | {"config": json.dumps(draft.config), "started": _now()}
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
            return self.newest(*key)

    def newest(self, namespace: str, name: str) -> OperationRow | None:
        """That of a function, without its configuration."""
        sql = _SELECT + " WHERE namespace = ? AND name = ?"
        rows = self._store.select(sql, (namespace, name))
        return OperationRow(**rows[0]) if rows else None

    def every(self, namespace: str) -> list[OperationRow]:
        """The newest of each function of the namespace, by name, without configurations."""
        sql = _SELECT + " WHERE namespace = ? ORDER BY name"
        return [OperationRow(**one) for one in self._store.select(sql, (namespace,))]

    def under_way(self) -> list[OperationRow]:
        """Those of all dashboards and namespaces that have not ended."""
        sql = _SELECT + " WHERE state IN ('waiting', 'running')"
        return [OperationRow(**one) for one in self._store.select(sql, ())]

    def find(self, number: int) -> OperationRow | None:
        """One by its id; None once the function has a newer one."""
        rows = self._store.select(_SELECT + " WHERE id = ?", (number,))
        return OperationRow(**rows[0]) if rows else None

    def config(self, number: int) -> FunctionConfig:
        """The configuration that an operation was asked to bring; empty for none."""
        rows = self._store.select("SELECT config FROM operations WHERE id = ?", (number,))
        config: FunctionConfig = json.loads(rows[0]["config"]) if rows else {}
        return config

    def run(self, number: int) -> None:
        """Record that it is no longer waiting."""
        with self._store.transaction() as connection:
            connection.execute(
                "UPDATE operations SET state = 'running' WHERE id = ? AND state = 'waiting'",
                (number,),
            )

    def end(
        self,
        number: int,
        state: OperationState,
        message: str,
        revision: int | None,
        *,
        refused: bool = False,
    ) -> bool:
        """Record how it ended; False when it had ended before.

        `revision` is the active one then, None where the function is not there. Of one that is, the
        configuration is no longer kept here.
        """
        with self._store.transaction() as connection:
            cursor = connection.execute(
                "UPDATE operations SET state = ?, message = ?, revision = ?, refused = ?,"
                " ended = ?, config = CASE WHEN ? THEN '{}' ELSE config END"
                " WHERE id = ? AND state IN ('waiting', 'running')",
                (state, message, revision or 0, refused, _now(), revision is not None, number),
            )
            return cursor.rowcount > 0

    def add_lines(self, operation: int, lines: Iterable[OutputLineRow]) -> None:
        """Record output; nothing when the operation is no longer known."""
        with self._store.transaction() as connection:
            connection.executemany(
                "INSERT OR IGNORE INTO operation_lines"
                " SELECT id, ?, ?, ?, ? FROM operations WHERE id = ?",
                [(one.number, one.time, one.level, one.message, operation) for one in lines],
            )

    def lines(self, operation: int, after: int = 0) -> list[OutputLineRow]:
        """Its output, from the line behind number `after` on."""
        sql = (
            "SELECT number, time, level, message FROM operation_lines"
            " WHERE operation = ? AND number > ? ORDER BY number"
        )
        return [OutputLineRow(**row) for row in self._store.select(sql, (operation, after))]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


FunctionEvent = dict[str, Any]


class FunctionEventTable:
    """The table of function events in a store."""

    def __init__(self, store: Store):
        self._store = store

    def every(self, namespace: str) -> dict[str, FunctionEvent]:
        """All of a namespace, by name."""
        sql = "SELECT name, body FROM function_events WHERE namespace = ? ORDER BY name"
        rows = self._store.select(sql, (namespace,))
        return {row["name"]: json.loads(row["body"]) for row in rows}

    def get(self, namespace: str, name: str) -> FunctionEvent | None:
        sql = "SELECT body FROM function_events WHERE namespace = ? AND name = ?"
        rows = self._store.select(sql, (namespace, name))
        return json.loads(rows[0]["body"]) if rows else None

    def add(self, namespace: str, name: str, event: FunctionEvent) -> bool:
        """Keep it; False when there is one of that name."""
        sql = "INSERT OR IGNORE INTO function_events VALUES (?, ?, ?)"
        with self._store.transaction() as connection:
            return connection.execute(sql, (namespace, name, json.dumps(event))).rowcount > 0

    def replace(self, namespace: str, name: str, event: FunctionEvent) -> bool:
        """Put it in place of the one of that name; False when there is none."""
        sql = "UPDATE function_events SET body = ? WHERE namespace = ? AND name = ?"
        with self._store.transaction() as connection:
            return connection.execute(sql, (json.dumps(event), namespace, name)).rowcount > 0

    def delete(self, namespace: str, name: str) -> bool:
        """Forget it; False when there was none."""
        sql = "DELETE FROM function_events WHERE namespace = ? AND name = ?"
        with self._store.transaction() as connection:
            return connection.execute(sql, (namespace, name)).rowcount > 0


@dataclass(frozen=True, slots=True)
class TokenRow:
    """`role` is `read` or `write`; `created` is an ISO 8601 time in UTC."""

    role: str
    digest: str
    created: str


class TokenTable:
    """The table of tokens in a store."""

    def __init__(self, store: Store):
        self._store = store

    def every(self) -> dict[str, TokenRow]:
        """The tokens by role."""
        rows = self._store.select("SELECT * FROM tokens", ())
        return {row["role"]: TokenRow(**row) for row in rows}

    def add(self, role: str, digest: str) -> bool:
        """Record the role's first token; False when there is one."""
        with self._store.transaction() as connection:
            cursor = connection.execute(
                "INSERT OR IGNORE INTO tokens VALUES (?, ?, ?)", (role, digest, _now_in_seconds())
            )
            return cursor.rowcount > 0

    def put(self, role: str, digest: str) -> None:
        """Record the role's token; the one before ends with it."""
        with self._store.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO tokens VALUES (?, ?, ?)", (role, digest, _now_in_seconds())
            )


def _now_in_seconds() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
