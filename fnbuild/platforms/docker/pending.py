"""Changes of a function by other clients, in progress or interrupted."""

from __future__ import annotations

from datetime import datetime

from fnbuild.builder.processor_settings import readiness_seconds
from fnbuild.datadir import other_holder
from fnbuild.errors import ConfigError
from fnbuild.platforms.docker import leases
from fnbuild.platforms.docker.engine import Engine
from fnbuild.platforms.docker.inventory import Container, Known
from fnbuild.platforms.docker.labels import OWNER
from fnbuild.platforms.leases import local_owner

# The longest time that a deploy takes in addition to the function's readiness.
_MARGIN_SECONDS = 180.0


def is_pending(engine: Engine, known: Known) -> bool:
    """Return True if a client ended in the middle of a change of the function."""
    if known.lease is not None:
        return not leases.is_held(engine, known.key, known.lease)
    if not known.leftovers or other_holder(*known.key) is not None:
        return False
    return foreign_deploy(engine, known) is None


def foreign_deploy(engine: Engine, known: Known) -> Container | None:
    """Return a recent container of a deploy from another data directory without a lease.

    Releases of fnbuild that take no lease may use the same engine.
    """
    if known.lease is not None:
        return None
    foreign = (other for other in known.leftovers if other.labels.get(OWNER) != local_owner())
    return next((container for container in foreign if _is_recent(engine, container)), None)


def _is_recent(engine: Engine, container: Container) -> bool:
    created = (engine.container(container.id) or {}).get("Created", "")
    try:
        age = engine.now() - datetime.fromisoformat(created).timestamp()
        return age < readiness_seconds(container.function) + _MARGIN_SECONDS
    except (ValueError, ConfigError):
        return False


def change_of(engine: Engine, known: Known) -> str:
    """Return text such as "being deployed from HOST:DIR", or "" if no other process changes it."""
    if (holder := other_holder(*known.key)) is not None:
        return f"being {holder.what} by {holder}"
    lease = known.lease
    if lease is None:
        container = foreign_deploy(engine, known)
        return (
            f"being deployed from {container.labels.get(OWNER, 'elsewhere')}" if container else ""
        )
    if lease.holder.is_this_process:
        return ""
    return leases.describe(engine, lease) if leases.is_held(engine, known.key, lease) else ""


def warnings_of(engine: Engine, known: Known) -> tuple[str, ...]:
    """Return a warning, with the remedy, about an interrupted change that is not cleaned up."""
    if not is_pending(engine, known):
        return ()
    name = known.key.name
    return (
        f"a change of {name} was interrupted; `fnbuild redeploy {name}` finishes or undoes it, and"
        " starts the function",
    )
