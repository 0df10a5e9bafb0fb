"""The artifact of a build, which platforms deploy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Artifact:
    """The result of a build: a folder with the code, or an image.

    `digest` is the hash of the code (hex); equal digests mean equal code. `id` is the engine's id
    of an image; the reference may refer to another image by now. `pinned` is an immutable
    reference, for platforms whose machines pull the image themselves.
    """

    kind: Literal["folder", "image"]
    reference: str
    digest: str
    warnings: tuple[str, ...] = ()
    id: str = ""
    pinned: str = ""
