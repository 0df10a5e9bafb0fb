"""How much code from elsewhere may be, and how long it may take to come."""

from __future__ import annotations

from dataclasses import dataclass

from fnbuild import trees


@dataclass(frozen=True, slots=True)
class SourceLimits:
    """Sizes in bytes, times in seconds.

    Weights of a model are large and hardly shrink when packed, so sizes are generous; `ratio`, of
    the unpacked to the packed size, tells what was made to fill a disk and counts from
    `harmless` bytes on.
    """

    download: int = 16 << 30
    unpacked: int = 32 << 30
    members: int = 200_000
    depth: int = trees.MAX_DEPTH
    ratio: int = 200
    harmless: int = 64 << 20
    silence: float = 60.0
    whole: float = 3600.0


def format_mebibytes(count: int) -> str:
    """A size as people read it: `3.5 MiB`."""
    return f"{count / (1 << 20):.1f} MiB"
