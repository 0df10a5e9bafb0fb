"""The stored revisions of functions, as JSON in their records."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from typing import Self

from fnbuild.function.reader import function_from_dict
from fnbuild.function.types import Function, Raw
from fnbuild.platforms.base import FunctionKey

_MAX_MESSAGE_LENGTH = 16 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRevision:
    """A revision of a function; platforms add fields, whose names are keys of the stored JSON.

    `config` refers to secrets instead of holding them. `source` is the revision with the same code.
    `failure` is the reason why the revision does not serve, if it `failed`. A new `stamp` restarts
    the pods.
    """

    namespace: str
    name: str
    number: int
    created: str
    digest: str
    config: Raw
    source: int
    note: str = ""
    owner: str = ""
    stamp: str = ""
    failed: bool = False
    failure: str = ""

    @property
    def key(self) -> FunctionKey:
        return FunctionKey(self.namespace, self.name)

    @property
    def function(self) -> Function:
        return function_from_dict(self.config, f"{self.name} revision {self.number}")

    def with_failure(self, message: str) -> Self:
        """Return the record of a revision that did not become ready."""
        return replace(self, failed=True, failure=message[:_MAX_MESSAGE_LENGTH])

    def to_json(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Self | None:
        """Return the record from its JSON, or None: an invalid record must not hide the others."""
        try:
            values = json.loads(text)
            names = [item.name for item in fields(cls)]
            return cls(**{name: values[name] for name in names if name in values})
        except (ValueError, TypeError, KeyError):
            return None
