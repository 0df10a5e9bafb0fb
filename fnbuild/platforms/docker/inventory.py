"""The functions on the engine: their containers and records, found by labels.

The module also tells which functions other clients are changing or have left half changed, and
counts the changes that the engine reports.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from fnbuild.builder.processor_settings import readiness_seconds
from fnbuild.datadir import other_holder
from fnbuild.errors import ConfigError, FnbuildError
from fnbuild.function.types import Function, Raw
from fnbuild.platforms.docker import labels as own
from fnbuild.platforms.docker import leases
from fnbuild.platforms.docker.engine import Engine
from fnbuild.platforms.docker.labels import OWNER_LABEL, DockerKey, RevisionRecord
from fnbuild.platforms.docker.leases import Lease, LeaseRecord, decode_lease, newest_lease
from fnbuild.platforms.docker.ports import container_name, published_addresses
from fnbuild.platforms.leases import local_owner


@dataclass(frozen=True, slots=True)
class Container:
    """One container of a function. `made` is None when Nuclio itself has started it.

    `state` is Docker's: created, running, paused, restarting, removing, exited or dead; `health`
    is "" without a health check. `published` are the addresses of the machine where it answers.
    """

    id: str
    name: str
    state: str
    status: str
    labels: dict[str, str]
    made: RevisionRecord | None
    image: str
    published: tuple[tuple[str, int], ...] = ()
    networks: dict[str, str] = field(default_factory=dict)

    @property
    def running(self) -> bool:
        return self.state == "running"

    @property
    def health(self) -> str:
        for word in ("healthy", "unhealthy", "starting"):
            if f"({word})" in self.status or f"(health: {word})" in self.status:
                return word
        return ""

    @property
    def port(self) -> int:
        """The port it has or had, 0 for none."""
        return own.int_label(self.labels, own.PORT_LABEL) or next(
            (port for _, port in self.published), 0
        )

    @property
    def candidate(self) -> bool:
        return own.CANDIDATE_LABEL in self.labels

    @property
    def function(self) -> Function:
        return self.made.function if self.made else own.decode_nuclio_function(self.labels)


@dataclass(slots=True)
class FunctionObjects:
    """All that the engine knows of one function; `recorded` is by number, newest first;
    `imported` is the configuration of a function that has only been imported. `held` is the lease
    while this process changes the function.
    """

    key: DockerKey
    containers: list[Container] = field(default_factory=list)
    recorded: list[RevisionRecord] = field(default_factory=list)
    imported: Raw | None = None
    leases: list[LeaseRecord] = field(default_factory=list)
    held: Lease | None = None

    @property
    def lease(self) -> LeaseRecord | None:
        """The lease on the function, which may be over."""
        return newest_lease(self.leases)

    @property
    def leftovers(self) -> list[Container]:
        """Containers that only a killed deploy leaves."""
        return [
            one
            for one in self.containers
            if one.candidate or (one.made is not None and one.name != self.key.container)
        ]

    @property
    def there(self) -> bool:
        return bool(self.containers or self.recorded) or self.imported is not None

    @property
    def container(self) -> Container | None:
        """The one that serves, or would: a deploy that was killed leaves more than one."""
        some = [one for one in self.containers if not one.candidate]
        return max(some, key=self._claim, default=None)

    def _claim(self, one: Container) -> tuple[bool, bool, int]:
        return one.running, one.name == self.key.container, one.made.number if one.made else 0

    @property
    def foreign(self) -> bool:
        """Whether Nuclio itself runs the function."""
        container = self.container
        return container is not None and container.made is None

    @property
    def active(self) -> RevisionRecord | None:
        """The revision that serves, or did when its container was removed by hand."""
        container = self.container
        if container is not None:
            return container.made
        return next((made for made in self.recorded if not made.failed), None)

    @property
    def all(self) -> list[RevisionRecord]:
        """Every revision, newest first; the one that runs counts before it is recorded too."""
        found = {made.number: made for made in self.recorded}
        if (active := self.active) is not None:
            found.setdefault(active.number, active)
        return [found[number] for number in sorted(found, reverse=True)]

    @property
    def port(self) -> int:
        """The port that the function has or had, 0 for none."""
        if (container := self.container) is not None:
            return container.port
        return next((made.port for made in self.recorded if made.port), 0)

    @property
    def next_number(self) -> int:
        return max((made.number for made in self.all), default=0) + 1


def list_functions(engine: Engine, namespace: str) -> list[FunctionObjects]:
    """All functions of the namespace, by name."""
    found = _group_by_function(
        engine.containers((f"{own.PLATFORM_LABEL}=local", f"{own.NAMESPACE_LABEL}={namespace}")),
        engine.volumes((own.RECORD_LABEL, f"{own.RECORD_NAMESPACE_LABEL}={namespace}")),
    )
    return [known for known in found if known.there]


def read_function(engine: Engine, key: DockerKey) -> FunctionObjects:
    """What there is of one function; nothing when `there` is false."""
    found = _group_by_function(
        engine.containers(
            (f"{own.NAMESPACE_LABEL}={key.namespace}", f"{own.FUNCTION_LABEL}={key.name}")
        ),
        engine.volumes(
            (
                own.RECORD_LABEL,
                f"{own.RECORD_NAMESPACE_LABEL}={key.namespace}",
                f"{own.RECORD_NAME_LABEL}={key.name}",
            )
        ),
    )
    return found[0] if found else FunctionObjects(key)


def list_all_functions(engine: Engine) -> list[FunctionObjects]:
    """All functions of all namespaces, and names that there is only a lease on."""
    return _group_by_function(
        engine.containers((f"{own.PLATFORM_LABEL}=local",)), engine.volumes((own.RECORD_LABEL,))
    )


def _group_by_function(containers: Iterable[Raw], volumes: Iterable[Raw]) -> list[FunctionObjects]:
    found: dict[DockerKey, FunctionObjects] = {}
    for listed in containers:
        labels = listed.get("Labels") or {}
        key = DockerKey(labels.get(own.NAMESPACE_LABEL, ""), labels.get(own.FUNCTION_LABEL, ""))
        if key.namespace and key.name:
            found.setdefault(key, FunctionObjects(key)).containers.append(
                _parse_container(listed, labels)
            )
    for volume in volumes:
        labels = volume.get("Labels") or {}
        kind = labels.get(own.RECORD_LABEL)
        key = DockerKey(
            labels.get(own.RECORD_NAMESPACE_LABEL, ""), labels.get(own.RECORD_NAME_LABEL, "")
        )
        if kind == "lease" and (record := decode_lease(volume)) is not None:
            found.setdefault(key, FunctionObjects(key)).leases.append(record)
        elif kind == "imported":
            found.setdefault(key, FunctionObjects(key)).imported = own.decode_import(labels)
        elif kind == "revision" and (made := own.decode_revision(labels)) is not None:
            found.setdefault(key, FunctionObjects(key)).recorded.append(made)
    for known in found.values():
        known.recorded.sort(key=lambda made: made.number, reverse=True)
    return [found[key] for key in sorted(found)]


def _parse_container(listed: Raw, labels: dict[str, str]) -> Container:
    networks = (listed.get("NetworkSettings") or {}).get("Networks") or {}
    return Container(
        id=str(listed["Id"]),
        name=container_name(listed),
        state=str(listed.get("State", "")),
        status=str(listed.get("Status", "")),
        labels=labels,
        made=own.decode_revision(labels),
        image=str(listed.get("Image", "")),
        published=published_addresses(listed),
        networks={name: str(one.get("IPAddress") or "") for name, one in networks.items()},
    )


# The longest time that a deploy takes in addition to the function's readiness.
_DEPLOY_MARGIN_SECONDS = 180.0


def is_interrupted(engine: Engine, known: FunctionObjects) -> bool:
    """Return True if a client ended in the middle of a change of the function."""
    if known.lease is not None:
        return not leases.is_held(engine, known.key, known.lease)
    if not known.leftovers or other_holder(*known.key) is not None:
        return False
    return find_foreign_deploy(engine, known) is None


def find_foreign_deploy(engine: Engine, known: FunctionObjects) -> Container | None:
    """Return a recent container of a deploy from another data directory without a lease.

    Releases of fnbuild that take no lease may use the same engine.
    """
    if known.lease is not None:
        return None
    foreign = (other for other in known.leftovers if other.labels.get(OWNER_LABEL) != local_owner())
    return next((container for container in foreign if _is_recent(engine, container)), None)


def _is_recent(engine: Engine, container: Container) -> bool:
    created = (engine.container(container.id) or {}).get("Created", "")
    try:
        age = engine.now() - datetime.fromisoformat(created).timestamp()
        return age < readiness_seconds(container.function) + _DEPLOY_MARGIN_SECONDS
    except (ValueError, ConfigError):
        return False


def describe_change(engine: Engine, known: FunctionObjects) -> str:
    """Return text such as "being deployed from HOST:DIR", or "" if no other process changes it."""
    if (holder := other_holder(*known.key)) is not None:
        return f"being {holder.what} by {holder}"
    lease = known.lease
    if lease is None:
        container = find_foreign_deploy(engine, known)
        return (
            f"being deployed from {container.labels.get(OWNER_LABEL, 'elsewhere')}"
            if container
            else ""
        )
    if lease.holder.is_this_process:
        return ""
    return leases.describe_lease(engine, lease) if leases.is_held(engine, known.key, lease) else ""


def interruption_warnings(engine: Engine, known: FunctionObjects) -> tuple[str, ...]:
    """Return a warning, with the remedy, about an interrupted change that is not cleaned up."""
    if not is_interrupted(engine, known):
        return ()
    name = known.key.name
    return (
        f"a change of {name} was interrupted; `fnbuild redeploy {name}` finishes or undoes it, and"
        " starts the function",
    )


_RETRY_SECONDS = 1.0
_RECORD_PREFIX = "fnbuild-"


class ChangeCounter:
    """Listens from the first question on, in a thread that ends with the program."""

    def __init__(self, engine: Callable[[], Engine]):
        self._engine = engine
        self._count = 0
        self._ears: threading.Thread | None = None
        self._began = -_RETRY_SECONDS

    def count(self) -> int:
        """How often something happened until now, as far as it is known. Asks nobody."""
        deaf = self._ears is None or not self._ears.is_alive()
        if deaf and time.monotonic() - self._began >= _RETRY_SECONDS:
            self._began = time.monotonic()
            self._ears = threading.Thread(target=self._listen, name="engine events", daemon=True)
            self._ears.start()
        return self._count

    def _listen(self) -> None:
        try:
            events = self._engine().events()
            # What happened while nobody listened is known to nobody.
            self._count += 1
            for event in events:
                self._count += _is_relevant(event)
        except FnbuildError:
            pass  # the next question tries again


def _is_relevant(event: Raw) -> bool:
    """Whether it may have changed a function. Commands that run in its container do not."""
    actor, action = event.get("Actor") or {}, str(event.get("Action", ""))
    attributes = actor.get("Attributes") or {}
    if event.get("Type") == "volume":
        made = action in ("create", "destroy")
        return made and str(actor.get("ID", "")).startswith(_RECORD_PREFIX)
    return own.PLATFORM_LABEL in attributes and not action.startswith(("exec_", "attach", "top"))
