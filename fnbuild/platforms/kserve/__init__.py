"""Functions as InferenceServices and serving runtimes of KServe."""

from __future__ import annotations

from fnbuild.platforms import ConnectOptions, Platform


def create_platform(options: ConnectOptions) -> Platform:
    """Return the platform of a cluster with KServe. No request is sent."""
    from fnbuild.platforms.kserve.platform import KServePlatform

    return KServePlatform(options)
