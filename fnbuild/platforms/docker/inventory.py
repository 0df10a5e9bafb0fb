"""What the engine has: the containers and the records of functions, found by their labels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from fnbuild.platforms.docker import labels as own
from fnbuild.platforms.docker.engine import Engine
from fnbuild.platforms.docker.labels import Key, Made
from fnbuild.platforms.docker.leases import Lease, LeaseRecord, newest, record_from
from fnbuild.platforms.docker.ports import live, name_of
from fnbuild.spec.types import Function, Raw


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
    made: Made | None
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
        return own.number(self.labels, own.PORT) or next((port for _, port in self.published), 0)

    @property
    def candidate(self) -> bool:
        return own.CANDIDATE in self.labels

    @property
    def function(self) -> Function:
        return self.made.function if self.made else own.nuclio_function(self.labels)


@dataclass(slots=True)
class Known:
    """All that the engine knows of one function; `recorded` is by number, newest first;
    `imported` is the configuration of a function that has only been imported. `held` is the lease
    while this process changes the function.
    """

    key: Key
    containers: list[Container] = field(default_factory=list)
    recorded: list[Made] = field(default_factory=list)
    imported: Raw | None = None
    leases: list[LeaseRecord] = field(default_factory=list)
    held: Lease | None = None

    @property
    def lease(self) -> LeaseRecord | None:
        """The lease on the function, which may be over."""
        return newest(self.leases)

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
    def active(self) -> Made | None:
        """The revision that serves, or did when its container was removed by hand."""
        container = self.container
        if container is not None:
            return container.made
        return next((made for made in self.recorded if not made.failed), None)

    @property
    def all(self) -> list[Made]:
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


def functions(engine: Engine, namespace: str) -> list[Known]:
    """All functions of the namespace, by name."""
    found = _known(
        engine.containers((f"{own.PLATFORM}=local", f"{own.NAMESPACE}={namespace}")),
        engine.volumes((own.RECORD, f"{own.RECORD_NAMESPACE}={namespace}")),
    )
    return [known for known in found if known.there]


def function(engine: Engine, key: Key) -> Known:
    """What there is of one function; nothing when `there` is false."""
    found = _known(
        engine.containers((f"{own.NAMESPACE}={key.namespace}", f"{own.FUNCTION}={key.name}")),
        engine.volumes(
            (own.RECORD, f"{own.RECORD_NAMESPACE}={key.namespace}", f"{own.RECORD_NAME}={key.name}")
        ),
    )
    return found[0] if found else Known(key)


def everywhere(engine: Engine) -> list[Known]:
    """All functions of all namespaces, and names that there is only a lease on."""
    return _known(engine.containers((f"{own.PLATFORM}=local",)), engine.volumes((own.RECORD,)))


def _known(containers: Iterable[Raw], volumes: Iterable[Raw]) -> list[Known]:
    found: dict[Key, Known] = {}
    for listed in containers:
        labels = listed.get("Labels") or {}
        key = Key(labels.get(own.NAMESPACE, ""), labels.get(own.FUNCTION, ""))
        if key.namespace and key.name:
            found.setdefault(key, Known(key)).containers.append(_container(listed, labels))
    for volume in volumes:
        labels = volume.get("Labels") or {}
        kind = labels.get(own.RECORD)
        key = Key(labels.get(own.RECORD_NAMESPACE, ""), labels.get(own.RECORD_NAME, ""))
        if kind == "lease" and (record := record_from(volume)) is not None:
            found.setdefault(key, Known(key)).leases.append(record)
        elif kind == "imported":
            found.setdefault(key, Known(key)).imported = own.imported_from(labels)
        elif kind == "revision" and (made := own.made_from(labels)) is not None:
            found.setdefault(key, Known(key)).recorded.append(made)
    for known in found.values():
        known.recorded.sort(key=lambda made: made.number, reverse=True)
    return [found[key] for key in sorted(found)]


def _container(listed: Raw, labels: dict[str, str]) -> Container:
    networks = (listed.get("NetworkSettings") or {}).get("Networks") or {}
    return Container(
        id=str(listed["Id"]),
        name=name_of(listed),
        state=str(listed.get("State", "")),
        status=str(listed.get("Status", "")),
        labels=labels,
        made=own.made_from(labels),
        image=str(listed.get("Image", "")),
        published=live(listed),
        networks={name: str(one.get("IPAddress") or "") for name, one in networks.items()},
    )
