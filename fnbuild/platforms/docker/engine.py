"""The container engine: its API as plain values, through the docker SDK.

The engine also tells where this process runs: on its machine, or in one of its containers. A
dashboard in a container has the engine's socket, but not the addresses and processes of the
machine; functions on its networks answer it directly.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from threading import Event, Thread
from typing import Any

from fnbuild.function.types import Raw
from fnbuild.platforms.docker.errors import ObjectNotFound, translating_errors

_MOUNT_INFO = Path("/proc/self/mountinfo")
# The engine puts files of its own there, from a folder that is named after the container.
_ENGINE_FILES = {"/etc/hostname", "/etc/hosts", "/etc/resolv.conf"}
_CONTAINER_FOLDER = re.compile(r"/(?:containers|overlay-containers)/([0-9a-f]{64})/")
_HOST_NETWORK = "host"


def own_container_id(mounts: str | None = None) -> str:
    """The id of the container that this process runs in, "" on a machine; `mounts` are those of
    another process, as /proc has them.
    """
    try:
        text = _MOUNT_INFO.read_text() if mounts is None else mounts
    except OSError:
        return ""
    for line in text.splitlines():
        # Behind the numbers stand the place within its file system, and where it is mounted.
        words = line.split()
        if (
            len(words) > 4
            and words[4] in _ENGINE_FILES
            and (found := _CONTAINER_FOLDER.search(words[3]))
        ):
            return found[1]
    return ""


def is_in_pod() -> bool:
    """Whether this is in a pod, whose addresses are no machine's."""
    return bool(os.environ.get("KUBERNETES_SERVICE_HOST"))


def can_reach(home: Raw, address: str) -> bool:
    """Whether a container gets to an address of another one: on a network that both have."""
    networks: Raw = (home.get("NetworkSettings") or {}).get("Networks") or {}
    return _HOST_NETWORK in networks or any(
        _contains_address(one, address) for one in networks.values()
    )


def _contains_address(network: Raw, address: str) -> bool:
    try:
        own = ipaddress.ip_interface(f"{network['IPAddress']}/{network['IPPrefixLen']}")
        return ipaddress.ip_address(address) in own.network
    except (KeyError, ValueError):
        return False


def reachable_address(home: Raw, internal: Iterable[str], external: Iterable[str]) -> str:
    """The first of a function's addresses (host:port) that a container gets to; "" for none.

    A port of the machine is one, unless it is only on the machine's loopback.
    """
    near = [one for one in internal if can_reach(home, _host_of(one))]
    far = [one for one in external if not _is_loopback(_host_of(one))]
    return next(iter([*near, *far]), "")


def _host_of(address: str) -> str:
    return address.rpartition(":")[0].strip("[]")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


_DOCKER_DESKTOP = "Docker Desktop"


@dataclass(frozen=True, slots=True)
class CommandResult:
    """A command that ran in a container, and what it wrote to stdout."""

    status: int
    out: bytes


class Engine:
    """One engine. Every method raises errors of fnbuild; `host` is its address.

    `close` ends its connections, as the end of the object does.
    """

    def __init__(self, api: Any, host: str):
        self._api = api
        self.host = host
        self.close = weakref.finalize(self, api.close)

    @property
    def local(self) -> bool:
        """Whether it runs on this machine, so that its addresses and processes are this one's."""
        here = self.host.startswith("unix:") and not self.desktop
        return here and self.home is None and not is_in_pod()

    @cached_property
    def home(self) -> Raw | None:
        """The container of this engine that this process runs in; None when it is in none."""
        own = own_container_id()
        return self.container(own) if own else None

    def reaches(self, address: str) -> bool:
        """Whether this process gets to a container at this address of the engine's networks."""
        if self.home is not None:
            return can_reach(self.home, address)
        return self.local

    @cached_property
    def info(self) -> Raw:
        with translating_errors("tell about itself", self.host):
            info: Raw = self._api.info()
        return info

    def now(self) -> float:
        """The time by the engine's clock, in seconds since the epoch."""
        with translating_errors("tell the time", self.host):
            text = str(self._api.info().get("SystemTime", ""))
        try:
            return datetime.fromisoformat(text).timestamp()
        except ValueError:
            return time.time()

    @property
    def desktop(self) -> bool:
        """Whether it runs in a virtual machine of Docker Desktop."""
        return str(self.info.get("OperatingSystem")) == _DOCKER_DESKTOP

    @property
    def version(self) -> str:
        return str(self.info.get("ServerVersion", ""))

    def events(self) -> Iterator[Raw]:
        """What happens to containers and volumes from now on, until the engine ends."""
        kinds = {"type": ["container", "volume"]}
        with translating_errors("tell what happens", self.host):
            stream: Iterator[Raw] = self._api.events(filters=kinds, decode=True)

        def read() -> Iterator[Raw]:
            with translating_errors("tell what happens", self.host):
                yield from stream

        return read()

    # Containers

    def containers(self, labels: Iterable[str] = ()) -> list[Raw]:
        """What runs and what does not, as the engine lists it, with all of these labels."""
        with translating_errors("list its containers", self.host):
            found: list[Raw] = self._api.containers(all=True, filters={"label": [*labels]})
        return found

    def container(self, name: str) -> Raw | None:
        """All about one container by its name or id; None when there is none."""
        with (
            contextlib.suppress(ObjectNotFound),
            translating_errors(f"show container {name}", self.host),
        ):
            found: Raw = self._api.inspect_container(name)
            return found
        return None

    def create(self, name: str, config: Raw) -> str:
        """Create a container from a body of the engine's API; its id."""
        with translating_errors(f"create container {name}", self.host):
            return str(self._api.create_container_from_config(config, name)["Id"])

    def put(self, container: str, archive: bytes) -> None:
        """Unpack a tar archive at the root of a container's file system."""
        with translating_errors("put the configuration into the container", self.host):
            self._api.put_archive(container, "/", archive)

    def get(self, container: str, path: str) -> Iterator[bytes] | None:
        """A folder of a container as a tar archive, in pieces; None when it is not there."""
        with (
            contextlib.suppress(ObjectNotFound),
            translating_errors(f"read {path} of the container", self.host),
        ):
            pieces: Iterator[bytes] = self._api.get_archive(container, path)[0]
            return pieces
        return None

    def start(self, container: str) -> None:
        with translating_errors("start the container", self.host):
            self._api.start(container)

    def stop(self, container: str, seconds: int | None = None) -> None:
        """Stop it; what it has in hand gets the container's own time, or this many seconds."""
        with (
            contextlib.suppress(ObjectNotFound),
            translating_errors("stop the container", self.host),
        ):
            if seconds is None:
                found = self._api.inspect_container(container)
                seconds = int(found.get("Config", {}).get("StopTimeout") or 10)
            self._api.stop(container, timeout=seconds)

    def rename(self, container: str, name: str) -> None:
        with translating_errors(f"rename the container to {name}", self.host):
            self._api.rename(container, name)

    def remove(self, container: str) -> None:
        """Remove it, running or not, with the volumes that have no name of their own."""
        with (
            contextlib.suppress(ObjectNotFound),
            translating_errors("remove the container", self.host),
        ):
            self._api.remove_container(container, v=True, force=True)

    def execute(self, container: str, command: Sequence[str]) -> CommandResult | None:
        """Run a command in a running container; None when it does not run."""
        from docker import errors

        with (
            contextlib.suppress(ObjectNotFound),
            translating_errors("run a command in the container", self.host),
        ):
            try:
                made = self._api.exec_create(container, [*command], stderr=False)
                out: bytes = self._api.exec_start(made["Id"])
                status = self._api.exec_inspect(made["Id"])["ExitCode"]
            except errors.APIError as error:
                if error.status_code == 409:
                    return None
                raise
            return CommandResult(-1 if status is None else int(status), out)
        return None

    def processes(self, container: str) -> list[int]:
        """The processes of a running container, by their numbers on the engine's machine."""
        with (
            contextlib.suppress(ObjectNotFound),
            translating_errors("list the processes of the container", self.host),
        ):
            found: Raw = self._api.top(container, "-eo pid")
            return [int(row[0]) for row in found.get("Processes") or []]
        return []

    def logs(
        self,
        container: str,
        *,
        follow: bool,
        since: float | None,
        tail: int | None,
        until: Event | None = None,
    ) -> Iterator[bytes]:
        """Return an iterator over pieces of the log, oldest first, with the engine's timestamps.

        A piece is not a line yet. The engine has been asked on return. The pieces end when `until`
        is set.
        """
        moment = since if since is not None and since > 0 else None
        doing = "read the log of the container"
        with contextlib.suppress(ObjectNotFound), translating_errors(doing, self.host):
            pieces = self._api.logs(
                container,
                stream=True,
                follow=follow,
                timestamps=True,
                since=moment,
                tail="all" if tail is None else tail,
            )
            if follow and until is not None:
                # The engine may be silent for long; only an end of the connection is heard.
                Thread(target=_close_when_set, args=(until, pieces), daemon=True).start()
            return self._pieces(pieces, doing)
        return iter(())

    def _pieces(self, pieces: Any, doing: str) -> Iterator[bytes]:
        with contextlib.suppress(ObjectNotFound), translating_errors(doing, self.host):
            try:
                yield from pieces
            finally:
                pieces.close()
                # The stream's own end leaves the descriptor open if it was not read to its end.
                pieces._response.close()

    # Images

    def image(self, reference: str) -> Raw | None:
        """All about an image; None when the engine does not have it."""
        from docker import errors

        with (
            translating_errors(f"show image {reference}", self.host),
            contextlib.suppress(errors.ImageNotFound),
        ):
            found: Raw = self._api.inspect_image(reference)
            return found
        return None

    def pull(self, reference: str) -> None:
        from docker import errors

        with translating_errors(f"pull {reference}", self.host):
            repository, tag = split_reference(reference)
            try:
                for line in self._api.pull(repository, tag=tag, stream=True, decode=True):
                    if "error" in line:
                        raise errors.APIError(line["error"], explanation=line["error"])
            except errors.NotFound as error:
                raise errors.APIError(str(error), explanation=error.explanation) from error

    def tag(self, image: str, target: str) -> None:
        repository, tag = split_reference(target)
        with translating_errors(f"tag the image as {target}", self.host):
            self._api.tag(image, repository, tag)

    def untag(self, reference: str) -> bool:
        """Take a name from an image, which goes with its last one unless something uses it."""
        from docker import errors

        with (
            contextlib.suppress(ObjectNotFound),
            translating_errors(f"remove image {reference}", self.host),
        ):
            try:
                self._api.remove_image(reference)
            except errors.ImageNotFound:
                return False
            except errors.APIError as error:
                if error.status_code == 409:  # a container uses it
                    return False
                raise
            return True
        return False

    # Volumes and networks

    def volumes(self, labels: Iterable[str]) -> list[Raw]:
        with translating_errors("list its volumes", self.host):
            answer: Raw = self._api.volumes(filters={"label": [*labels]})
        found: list[Raw] = answer.get("Volumes") or []
        return found

    def add_volume(self, name: str, labels: Mapping[str, str]) -> bool:
        """Make an empty volume; False when there is one of that name with other labels."""
        with translating_errors(f"make volume {name}", self.host):
            made: Raw = self._api.create_volume(name, labels=dict(labels))
        return bool(made.get("Labels") == dict(labels))

    def remove_volume(self, name: str) -> None:
        from docker import errors

        with (
            translating_errors(f"remove volume {name}", self.host),
            contextlib.suppress(errors.NotFound),
        ):
            self._api.remove_volume(name)

    def networks(self) -> dict[str, Raw]:
        """All networks by name."""
        with translating_errors("list its networks", self.host):
            return {one["Name"]: one for one in self._api.networks()}

    def join(self, container: str, network: str, alias: str) -> None:
        """Connect the container to one more network, where it is found by `alias` too, if any."""
        with translating_errors(f"connect the container to network {network}", self.host):
            self._api.connect_container_to_network(
                container, network, aliases=[alias] if alias else None
            )


def _close_when_set(end: Event, pieces: Any) -> None:
    end.wait()
    with contextlib.suppress(OSError):
        pieces.close()


def split_reference(reference: str) -> tuple[str, str | None]:
    """Repository and tag (or digest) of an image reference; `latest` without one."""
    if "@" in reference:
        repository, _, digest = reference.partition("@")
        return repository, digest
    head, slash, last = reference.rpartition("/")
    name, colon, tag = last.partition(":")
    return head + slash + name, tag if colon else "latest"
