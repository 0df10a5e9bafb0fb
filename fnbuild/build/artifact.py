"""What the build stage hands to a platform."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Artifact:
    """What the build stage made: a folder with the code, or an image reference.

    `digest` is the hash of the code (hex); equal digests mean equal code. `id` is the engine's id
    of an image, where the reference may mean another one by now; `pinned` is a reference that never
    will, for platforms whose machines fetch the image themselves.
    """

    kind: Literal["folder", "image"]
    reference: str
    digest: str
    warnings: tuple[str, ...] = ()
    id: str = ""
    pinned: str = ""
