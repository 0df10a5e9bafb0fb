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

from fnbuild.builder.processor_settings import start_seconds
from fnbuild.datadir import other_holder
from fnbuild.errors import ConfigError, FnbuildError
from fnbuild.function.types import Function, Raw
from fnbuild.platforms.docker import leases
from fnbuild.platforms.docker.engine import Engine
from fnbuild.platforms.docker.labels import (
    CANDIDATE_LABEL,
    FUNCTION_LABEL,
    GRPC_PORT_LABEL,
    NAMESPACE_LABEL,
    OWNER_LABEL,
    PLATFORM_LABEL,
    PORT_LABEL,
    RECORD_LABEL,
    RECORD_NAME_LABEL,
    RECORD_NAMESPACE_LABEL,
    DockerKey,
    RevisionRecord,
    decode_import,
    decode_nuclio_function,
    decode_revision,
    int_label,
)
from fnbuild.platforms.docker.leases import Lease, LeaseRecord, decode_lease, newest_lease
from fnbuild.platforms.docker.ports import listed_container_name, published_addresses
from fnbuild.platforms.leases import local_owner

# The longest time that a deploy takes in addition to the function's readiness.
_DEPLOY_MARGIN_SECONDS = 180.0
_RETRY_SECONDS = 1.0
_RECORD_PREFIX = "fnbuild-"


@dataclass(frozen=True, slots=True)
class Container:
    """One container of a function. `revision` is None if Nuclio has started it.

    `state` is Docker's: created, running, paused, restarting, removing, exited or dead; `health`
    is "" without a health check. `published` are its addresses and ports on the machine.
    """

    id: str
    name: str
    state: str
    status: str
    labels: dict[str, str]
    revision: RevisionRecord | None
    image: str
    published: tuple[tuple[str, int], ...] = ()
    networks: dict[str, str] = field(default_factory=dict)

    @property
    def is_running(self) -> bool:
        return self.state == "running"

    @property
    def health(self) -> str:
        for word in ("healthy", "unhealthy", "starting"):
            if f"({word})" in self.status or f"(health: {word})" in self.status:
                return word
        return ""

    @property
    def port(self) -> int:
        """The current or last port of the container, 0 for none."""
        return int_label(self.labels, PORT_LABEL) or next((port for _, port in self.published), 0)

    @property
    def grpc_port(self) -> int:
        """The current or last gRPC port of the container, 0 for none."""
        return int_label(self.labels, GRPC_PORT_LABEL)

    @property
    def is_trial(self) -> bool:
        return CANDIDATE_LABEL in self.labels

    @property
    def function(self) -> Function:
        return self.revision.function if self.revision else decode_nuclio_function(self.labels)


@dataclass(slots=True)
class FunctionObjects:
    """The containers, records and leases of one function on the engine.

    `records` are sorted, newest first. `imported` is the configuration of an imported function that
    was never deployed. `held_lease` is the lease while this process changes the function.
    """

    key: DockerKey
    containers: list[Container] = field(default_factory=list)
    records: list[RevisionRecord] = field(default_factory=list)
    imported: Raw | None = None
    leases: list[LeaseRecord] = field(default_factory=list)
    held_lease: Lease | None = None

    @property
    def lease(self) -> LeaseRecord | None:
        """The lease on the function, which may have expired."""
        return newest_lease(self.leases)

    @property
    def transient_containers(self) -> list[Container]:
        """The containers that exist only during a deploy, or after one was killed."""
        return [
            container
            for container in self.containers
            if container.is_trial
            or (container.revision is not None and container.name != self.key.container_name)
        ]

    @property
    def exists(self) -> bool:
        return bool(self.containers or self.records) or self.imported is not None

    @property
    def container(self) -> Container | None:
        """The container that serves, or would serve: a killed deploy leaves more than one."""
        containers = [container for container in self.containers if not container.is_trial]
        return max(containers, key=self._priority, default=None)

    def _priority(self, container: Container) -> tuple[bool, bool, int]:
        number = container.revision.number if container.revision else 0
        return container.is_running, container.name == self.key.container_name, number

    @property
    def is_deployed_by_nuclio(self) -> bool:
        """True if Nuclio has started the container of the function."""
        container = self.container
        return container is not None and container.revision is None

    @property
    def active(self) -> RevisionRecord | None:
        """The revision that serves, or that served until its container was removed."""
        container = self.container
        if container is not None:
            return container.revision
        return next((revision for revision in self.records if not revision.failed), None)

    @property
    def revisions(self) -> list[RevisionRecord]:
        """All revisions, newest first, including a serving one that is not recorded yet."""
        by_number = {revision.number: revision for revision in self.records}
        if (active := self.active) is not None:
            by_number.setdefault(active.number, active)
        return [by_number[number] for number in sorted(by_number, reverse=True)]

    @property
    def port(self) -> int:
        """The current or last port of the function, 0 for none."""
        if (container := self.container) is not None:
            return container.port
        return next((revision.port for revision in self.records if revision.port), 0)

    @property
    def grpc_port(self) -> int:
        """The current or last gRPC port of the function, 0 for none."""
        if (container := self.container) is not None:
            return container.grpc_port
        return next((revision.grpc_port for revision in self.records if revision.grpc_port), 0)

    @property
    def next_number(self) -> int:
        return max((revision.number for revision in self.revisions), default=0) + 1


def list_functions(engine: Engine, namespace: str) -> list[FunctionObjects]:
    """Return the functions of the namespace, sorted by name."""
    functions = _group_by_function(
        engine.containers((f"{PLATFORM_LABEL}=local", f"{NAMESPACE_LABEL}={namespace}")),
        engine.volumes((RECORD_LABEL, f"{RECORD_NAMESPACE_LABEL}={namespace}")),
    )
    return [objects for objects in functions if objects.exists]


def read_function(engine: Engine, key: DockerKey) -> FunctionObjects:
    """Return the objects of one function. If there are none, `exists` is False."""
    functions = _group_by_function(
        engine.containers((f"{NAMESPACE_LABEL}={key.namespace}", f"{FUNCTION_LABEL}={key.name}")),
        engine.volumes(
            (
                RECORD_LABEL,
                f"{RECORD_NAMESPACE_LABEL}={key.namespace}",
                f"{RECORD_NAME_LABEL}={key.name}",
            )
        ),
    )
    return functions[0] if functions else FunctionObjects(key)


def list_all_functions(engine: Engine) -> list[FunctionObjects]:
    """Return the functions of all namespaces, and names that only have a lease."""
    return _group_by_function(
        engine.containers((f"{PLATFORM_LABEL}=local",)), engine.volumes((RECORD_LABEL,))
    )


def _group_by_function(containers: Iterable[Raw], volumes: Iterable[Raw]) -> list[FunctionObjects]:
    functions: dict[DockerKey, FunctionObjects] = {}
    for listed in containers:
        labels = listed.get("Labels") or {}
        key = DockerKey(labels.get(NAMESPACE_LABEL, ""), labels.get(FUNCTION_LABEL, ""))
        if key.namespace and key.name:
            functions.setdefault(key, FunctionObjects(key)).containers.append(
                _parse_container(listed, labels)
            )
    for volume in volumes:
        labels = volume.get("Labels") or {}
        kind = labels.get(RECORD_LABEL)
        key = DockerKey(labels.get(RECORD_NAMESPACE_LABEL, ""), labels.get(RECORD_NAME_LABEL, ""))
        if kind == "lease" and (record := decode_lease(volume)) is not None:
            functions.setdefault(key, FunctionObjects(key)).leases.append(record)
        elif kind == "imported":
            functions.setdefault(key, FunctionObjects(key)).imported = decode_import(labels)
        elif kind == "revision" and (revision := decode_revision(labels)) is not None:
            functions.setdefault(key, FunctionObjects(key)).records.append(revision)
    for objects in functions.values():
        objects.records.sort(key=lambda revision: revision.number, reverse=True)
    return [functions[key] for key in sorted(functions)]


def _parse_container(listed: Raw, labels: dict[str, str]) -> Container:
    networks = (listed.get("NetworkSettings") or {}).get("Networks") or {}
    return Container(
        id=str(listed["Id"]),
        name=listed_container_name(listed),
        state=str(listed.get("State", "")),
        status=str(listed.get("Status", "")),
        labels=labels,
        revision=decode_revision(labels),
        image=str(listed.get("Image", "")),
        published=published_addresses(listed),
        networks={name: str(network.get("IPAddress") or "") for name, network in networks.items()},
    )


def container_state(engine: Engine, container: str) -> Raw:
    """Return the engine's details of the state of a container; empty if it does not exist."""
    state: Raw = (engine.container(container) or {}).get("State") or {}
    return state


def is_interrupted(engine: Engine, objects: FunctionObjects) -> bool:
    """Return True if a client ended in the middle of a change of the function."""
    if objects.lease is not None:
        return not leases.is_held(engine, objects.key, objects.lease)
    if not objects.transient_containers or other_holder(*objects.key) is not None:
        return False
    return find_unleased_deploy(engine, objects) is None


def find_unleased_deploy(engine: Engine, objects: FunctionObjects) -> Container | None:
    """Return a recent container of a deploy from another data directory without a lease.

    Releases of fnbuild that take no lease may use the same engine.
    """
    if objects.lease is not None:
        return None
    unleased = (
        other
        for other in objects.transient_containers
        if other.labels.get(OWNER_LABEL) != local_owner()
    )
    return next((container for container in unleased if _is_recent(engine, container)), None)


def _is_recent(engine: Engine, container: Container) -> bool:
    created = (engine.container(container.id) or {}).get("Created", "")
    try:
        age = engine.now() - datetime.fromisoformat(created).timestamp()
        return age < start_seconds(container.function) + _DEPLOY_MARGIN_SECONDS
    except (ValueError, ConfigError):
        return False


def describe_ongoing_change(engine: Engine, objects: FunctionObjects) -> str:
    """Return text such as "being deployed from HOST:DIR", or "" if no other process changes it."""
    if (holder := other_holder(*objects.key)) is not None:
        return f"being {holder.what} by {holder}"
    lease = objects.lease
    if lease is None:
        container = find_unleased_deploy(engine, objects)
        return (
            f"being deployed from {container.labels.get(OWNER_LABEL, 'elsewhere')}"
            if container
            else ""
        )
    if lease.holder.is_this_process:
        return ""
    return (
        leases.describe_lease(engine, lease) if leases.is_held(engine, objects.key, lease) else ""
    )


def interruption_warnings(engine: Engine, objects: FunctionObjects) -> tuple[str, ...]:
    """Return a warning, with the remedy, about an interrupted change that is not cleaned up."""
    if not is_interrupted(engine, objects):
        return ()
    name = objects.key.name
    return (
        f"a change of {name} was interrupted; `fnbuild redeploy {name}` finishes or undoes it, and"
        " starts the function",
    )


class ChangeCounter:
    """A count of the engine's events about functions.

    A daemon thread reads the events. It starts with the first call of `count`.
    """

    def __init__(self, engine: Callable[[], Engine]):
        self._engine = engine
        self._count = 0
        self._thread: threading.Thread | None = None
        self._started = -_RETRY_SECONDS

    def count(self) -> int:
        """Return the number of events so far, without waiting for the engine."""
        is_reading = self._thread is not None and self._thread.is_alive()
        if not is_reading and time.monotonic() - self._started >= _RETRY_SECONDS:
            self._started = time.monotonic()
            self._thread = threading.Thread(target=self._read, name="engine events", daemon=True)
            self._thread.start()
        return self._count

    def _read(self) -> None:
        try:
            events = self._engine().events()
            # Events before the connection are unknown, so they count as one.
            self._count += 1
            for event in events:
                self._count += _is_relevant(event)
        except FnbuildError:
            pass  # the next call of `count` connects again


def _is_relevant(event: Raw) -> bool:
    """Return True if the event may have changed a function; commands in a container do not."""
    actor, action = event.get("Actor") or {}, str(event.get("Action", ""))
    attributes = actor.get("Attributes") or {}
    if event.get("Type") == "volume":
        changed = action in ("create", "destroy")
        return changed and str(actor.get("ID", "")).startswith(_RECORD_PREFIX)
    return PLATFORM_LABEL in attributes and not action.startswith(("exec_", "attach", "top"))
