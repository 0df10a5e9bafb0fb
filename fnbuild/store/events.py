"""Function events: requests that somebody keeps with a function, to send them again.

What is kept is the client's own object; only whose it is has to be known here.
"""

from __future__ import annotations

import json
from typing import Any

from fnbuild.store.database import Store

Event = dict[str, Any]


class FunctionEvents:
    """The table of function events in a store."""

    def __init__(self, store: Store):
        self._store = store

    def every(self, namespace: str) -> dict[str, Event]:
        """All of a namespace, by name."""
        sql = "SELECT name, body FROM function_events WHERE namespace = ? ORDER BY name"
        rows = self._store.select(sql, (namespace,))
        return {row["name"]: json.loads(row["body"]) for row in rows}

    def one(self, namespace: str, name: str) -> Event | None:
        sql = "SELECT body FROM function_events WHERE namespace = ? AND name = ?"
        rows = self._store.select(sql, (namespace, name))
        return json.loads(rows[0]["body"]) if rows else None

    def add(self, namespace: str, name: str, event: Event) -> bool:
        """Keep it; False when there is one of that name."""
        sql = "INSERT OR IGNORE INTO function_events VALUES (?, ?, ?)"
        with self._store.transaction() as connection:
            return connection.execute(sql, (namespace, name, json.dumps(event))).rowcount > 0

    def replace(self, namespace: str, name: str, event: Event) -> bool:
        """Put it in place of the one of that name; False when there is none."""
        sql = "UPDATE function_events SET body = ? WHERE namespace = ? AND name = ?"
        with self._store.transaction() as connection:
            return connection.execute(sql, (json.dumps(event), namespace, name)).rowcount > 0

    def delete(self, namespace: str, name: str) -> bool:
        """Forget it; False when there was none."""
        sql = "DELETE FROM function_events WHERE namespace = ? AND name = ?"
        with self._store.transaction() as connection:
            return connection.execute(sql, (namespace, name)).rowcount > 0
