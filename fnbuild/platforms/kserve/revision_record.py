"""The record of a revision, as JSON in the function's ConfigMap."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace

from fnbuild.function.reader import function_from_dict
from fnbuild.function.types import Function, Raw
from fnbuild.platforms import Artifact
from fnbuild.platforms.base import FunctionKey

_MAX_MESSAGE_LENGTH = 16 << 10


@dataclass(frozen=True, slots=True)
class RevisionRecord:
    """A revision of a function.

    `image` is the user's image name, `pinned` an exact reference of the same image or ""; both are
    "" for a model without code. `config` refers to secrets instead of holding them. `source` is the
    revision with the same code. `failure` is the reason why the revision does not serve, if it
    `failed`. A new `stamp` restarts the pods. `pod_revision` is the revision that started the pods,
    or 0 if they do not know it: one that leaves the pods running keeps that of the revision before.
    The names of the fields are keys of the stored JSON.
    """

    namespace: str
    name: str
    number: int
    created: str
    digest: str
    image: str
    pinned: str
    config: Raw
    source: int
    note: str = ""
    owner: str = ""
    stamp: str = ""
    failed: bool = False
    failure: str = ""
    pod_revision: int = 0

    @property
    def key(self) -> FunctionKey:
        return FunctionKey(self.namespace, self.name)

    @property
    def function(self) -> Function:
        return function_from_dict(self.config, f"{self.name} revision {self.number}")

    @property
    def image_reference(self) -> str:
        """The image reference of the container."""
        return self.pinned or self.image

    @property
    def is_built(self) -> bool:
        """True if fnbuild built the image, which therefore has a processor."""
        return bool(self.digest)

    @property
    def artifact(self) -> Artifact:
        return Artifact("image", self.image, self.digest, pinned=self.pinned)

    def with_failure(self, message: str) -> RevisionRecord:
        """Return the record of a revision that did not become ready."""
        return replace(self, failed=True, failure=message[:_MAX_MESSAGE_LENGTH])

    def to_json(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> RevisionRecord | None:
        """Return the record from its JSON, or None: an invalid record must not hide the others."""
        try:
            values = json.loads(text)
            return cls(**{name: values[name] for name in cls.__slots__ if name in values})
        except (ValueError, TypeError, KeyError):
            return None
