"""Values for `fnbuild prune`: objects that can be removed, and images that are in use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Leftover:
    """An object that no revision on record needs.

    `reason` says why it exists; `function` is the name of the function that it was made for, "" if
    that is unknown. `size` is in bytes, 0 if that is unknown.
    """

    kind: Literal["container", "image", "registry tag", "environment", "staging"]
    name: str
    reason: str
    function: str = ""
    size: int = 0


@dataclass(frozen=True, slots=True)
class ImageUse:
    """The images that the revisions on a platform need.

    `references` are names, exact references and ids. `pushed` are the names, without a tag, to
    which this machine pushes. `changing` are the functions that are being deployed now, whose image
    may not be on record yet.
    """

    references: frozenset[str] = frozenset()
    pushed: frozenset[str] = frozenset()
    changing: frozenset[str] = frozenset()

    def __or__(self, other: ImageUse) -> ImageUse:
        return ImageUse(
            self.references | other.references,
            self.pushed | other.pushed,
            self.changing | other.changing,
        )
