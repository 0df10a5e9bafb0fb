"""Limits of the size and the duration of downloads and archives."""

from __future__ import annotations

from dataclasses import dataclass

from fnbuild import trees


@dataclass(frozen=True, slots=True)
class SourceLimits:
    """Sizes in bytes, durations in seconds.

    Weights of a model are large and hardly shrink when packed, so sizes are generous. `ratio`, of
    the unpacked to the packed size, detects archives that are made to fill a disk, and applies from
    `ratio_min_bytes` on.
    """

    download_bytes: int = 16 << 30
    unpacked_bytes: int = 32 << 30
    members: int = 200_000
    depth: int = trees.MAX_DEPTH
    ratio: int = 200
    ratio_min_bytes: int = 64 << 20
    idle_seconds: float = 60.0
    total_seconds: float = 3600.0


DEFAULT_LIMITS = SourceLimits()


def format_mebibytes(count: int) -> str:
    """Return a size such as `3.5 MiB`."""
    return f"{count / (1 << 20):.1f} MiB"
