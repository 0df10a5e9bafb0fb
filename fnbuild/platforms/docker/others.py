"""Who else changes a function of an engine just now: on this machine, or from elsewhere.

The lock of the data directory tells of those who share it. A deploy from elsewhere is seen by its
container, which stands beside the one that serves.
"""

from __future__ import annotations

import socket
from datetime import UTC, datetime

from fnbuild.build.processor import readiness_seconds
from fnbuild.datadir import data_dir, other_holder
from fnbuild.errors import ConfigError
from fnbuild.platforms.docker.engine import Engine
from fnbuild.platforms.docker.inventory import Container, Known
from fnbuild.platforms.docker.labels import OWNER

# What a deploy of another machine takes beside the readiness of the function, in seconds.
_FOREIGN_SECONDS = 180.0


def owner() -> str:
    """Who makes containers here: the machine and the data directory."""
    return f"{socket.gethostname()}:{data_dir()}"


def change_of(engine: Engine, known: Known) -> str:
    """As in "being deployed from HOST:DIR"; "" for nobody and for this process."""
    if (holder := other_holder(*known.key)) is not None:
        return f"being {holder.what} by {holder}"
    one = of_deploy(engine, known)
    return f"being deployed from {one.labels.get(OWNER) or 'elsewhere'}" if one is not None else ""


def of_deploy(engine: Engine, known: Known) -> Container | None:
    """The container of a deploy that may still be under way and is not of this data directory."""
    serving = known.container
    for one in known.containers:
        # The one that takes over has the function's own name when its deploy is done.
        done = one is serving and (one.made is None or one.name == known.key.container)
        if not done and one.labels.get(OWNER) != owner() and _recent(engine, one):
            return one
    return None


def _recent(engine: Engine, container: Container) -> bool:
    created = (engine.container(container.id) or {}).get("Created", "")
    try:
        age = (datetime.now(UTC) - datetime.fromisoformat(created)).total_seconds()
        return age < readiness_seconds(container.function) + _FOREIGN_SECONDS
    except (ValueError, ConfigError):
        return False
