"""What the configuration asks of the engine for a build: network, time, arguments, flags."""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast, get_args

from fnbuild.build.image.engine import BuildRequest, Network
from fnbuild.errors import UsageError
from fnbuild.spec.types import Build

_TIMEOUT_SECONDS = 3600
_NETWORK_VARIABLE = "NUCLIO_DOCKER_BUILD_NETWORK"


def request_of(build: Build, context: Path, dockerfile: Path) -> BuildRequest:
    """The request, without tags and labels. `UsageError` for a network that nobody knows."""
    return BuildRequest(
        context=context,
        dockerfile=dockerfile,
        tags=(),
        args={name: value for name, value in build.args.items() if value},
        no_cache=build.no_cache,
        network=_network(build),
        flags=tuple(build.flags),
        timeout=_timeout(build),
        pull=not (build.no_base_images_pull or build.offline),
    )


def _network(build: Build) -> Network:
    """The network of RUN lines; the variable is Nuclio's (pkg/dockerclient/shell.go)."""
    if build.offline:
        return "none"
    asked = os.environ.get(_NETWORK_VARIABLE) or "default"
    for known in get_args(Network):
        if asked == known:
            return cast(Network, known)
    raise UsageError(
        f"{_NETWORK_VARIABLE}={asked} is no network of a build",
        hint=f"one of: {', '.join(get_args(Network))}",
    )


def _timeout(build: Build) -> float | None:
    """Nuclio's limit (pkg/processor/build/builder.go): an hour, none where it is not above 0."""
    seconds = build.build_timeout_seconds
    if seconds is None:
        return _TIMEOUT_SECONDS
    return float(seconds) if seconds > 0 else None
