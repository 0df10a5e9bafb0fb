"""How a function is told from all others, on every platform."""

from __future__ import annotations

from typing import NamedTuple


class Key(NamedTuple):
    """One function among all namespaces. Platforms add the names of what they make of it."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"
