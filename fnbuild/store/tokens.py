"""The dashboard's tokens at rest: a digest for each role, from which no token can be had."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from fnbuild.store.database import Store


@dataclass(frozen=True, slots=True)
class TokenRow:
    """`role` is `read` or `write`; `created` is an ISO 8601 time in UTC."""

    role: str
    digest: str
    created: str


class TokenRecords:
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
                "INSERT OR IGNORE INTO tokens VALUES (?, ?, ?)", (role, digest, _now())
            )
            return cursor.rowcount > 0

    def put(self, role: str, digest: str) -> None:
        """Record the role's token; the one before ends with it."""
        with self._store.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO tokens VALUES (?, ?, ?)", (role, digest, _now())
            )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
