"""The container engine: its API as plain values, through the docker SDK.

The engine also tells where this process runs: on its machine, or in one of its containers. A
dashboard in a container has the engine's socket, but not the addresses and processes of the
machine; functions on its networks answer it directly.
"""

from __future__ import annotations

import ipaddress
import os
import re
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from threading import Event, Thread
from typing import Any

from fnbuild.function.types import Raw
from fnbuild.hosts import is_loopback
from fnbuild.platforms import LogOptions
from fnbuild.platforms.docker.errors import ObjectNotFound, translating_errors

_MOUNT_INFO = Path("/proc/self/mountinfo")
# The engine mounts its files there, from a folder that is named for the container's id.
_ENGINE_FILES = {"/etc/hostname", "/etc/hosts", "/etc/resolv.conf"}
_CONTAINER_FOLDER = re.compile(r"/(?:containers|overlay-containers)/([0-9a-f]{64})/")
_HOST_NETWORK = "host"
_DOCKER_DESKTOP = "Docker Desktop"


def own_container_id(mounts: str | None = None) -> str:
    """Return the id of the container in which this process runs, or "".

    `mounts` is the text of another process's mountinfo.
    """
    try:
        text = _MOUNT_INFO.read_text() if mounts is None else mounts
    except OSError:
        return ""
    for line in text.splitlines():
        # The fourth field is the path within the file system, the fifth the mount point.
        fields = line.split()
        if len(fields) <= 4 or fields[4] not in _ENGINE_FILES:
            continue
        if match := _CONTAINER_FOLDER.search(fields[3]):
            return match[1]
    return ""


def is_in_pod() -> bool:
    """Return True if this process runs in a pod, which has its own network."""
    return bool(os.environ.get("KUBERNETES_SERVICE_HOST"))


def can_reach(container: Raw, address: str) -> bool:
    """Return True if a container has the host's network, or one that contains the address."""
    networks: Raw = (container.get("NetworkSettings") or {}).get("Networks") or {}
    return _HOST_NETWORK in networks or any(
        _contains_address(network, address) for network in networks.values()
    )


def _contains_address(network: Raw, address: str) -> bool:
    try:
        interface = ipaddress.ip_interface(f"{network['IPAddress']}/{network['IPPrefixLen']}")
        return ipaddress.ip_address(address) in interface.network
    except (KeyError, ValueError):
        return False


def reachable_address(container: Raw, internal: Iterable[str], external: Iterable[str]) -> str:
    """Return a function's first address (host:port) that a container can reach, or "".

    A container can reach every external address that is not on the machine's loopback.
    """
    addresses = [address for address in internal if can_reach(container, _host_of(address))]
    addresses += [address for address in external if not is_loopback(_host_of(address))]
    return next(iter(addresses), "")


def _host_of(address: str) -> str:
    return address.rpartition(":")[0].strip("[]")


@dataclass(frozen=True, slots=True)
class CommandResult:
    """The exit status of a command in a container, and its standard output."""

    status: int
    out: bytes


class Engine:
    """One container engine at the address `host`. All methods raise errors of fnbuild.

    `close` closes its connections. They are closed with the object, too.
    """

    def __init__(self, api: Any, host: str):
        self._api = api
        self.host = host
        self.close = weakref.finalize(self, api.close)

    def _translating(self, action: str) -> AbstractContextManager[None]:
        return translating_errors(action, self.host)

    @property
    def is_local(self) -> bool:
        """True if the engine shares the addresses and processes of this machine."""
        has_socket = self.host.startswith("unix:") and not self.is_docker_desktop
        return has_socket and self.own_container is None and not is_in_pod()

    @cached_property
    def own_container(self) -> Raw | None:
        """The container of this engine in which this process runs, or None."""
        container = own_container_id()
        return self.container(container) if container else None

    def can_reach(self, address: str) -> bool:
        """Return True if this process can reach an address of the engine's networks."""
        if self.own_container is not None:
            return can_reach(self.own_container, address)
        return self.is_local

    @cached_property
    def info(self) -> Raw:
        with self._translating("report its configuration"):
            info: Raw = self._api.info()
        return info

    def now(self) -> float:
        """Return the time of the engine's clock, in seconds since the epoch."""
        with self._translating("report its time"):
            text = str(self._api.info().get("SystemTime", ""))
        try:
            return datetime.fromisoformat(text).timestamp()
        except ValueError:
            return time.time()

    @property
    def is_docker_desktop(self) -> bool:
        """True if the engine runs in a virtual machine of Docker Desktop."""
        return str(self.info.get("OperatingSystem")) == _DOCKER_DESKTOP

    @property
    def version(self) -> str:
        return str(self.info.get("ServerVersion", ""))

    def events(self) -> Iterator[Raw]:
        """Return an iterator over the events of containers and volumes from now on."""
        filters = {"type": ["container", "volume"]}
        with self._translating("report its events"):
            stream: Iterator[Raw] = self._api.events(filters=filters, decode=True)

        def read() -> Iterator[Raw]:
            with self._translating("report its events"):
                yield from stream

        return read()

    # Containers

    def containers(self, labels: Iterable[str] = ()) -> list[Raw]:
        """Return the list entries of the containers with all of these labels, in any state."""
        with self._translating("list its containers"):
            containers: list[Raw] = self._api.containers(all=True, filters={"label": [*labels]})
        return containers

    def container(self, name: str) -> Raw | None:
        """Return the details of a container by its name or id; None if it does not exist."""
        with suppress(ObjectNotFound), self._translating(f"show container {name}"):
            container: Raw = self._api.inspect_container(name)
            return container
        return None

    def create(self, name: str, config: Raw) -> str:
        """Create a container from a body of the engine's API, and return its id."""
        with self._translating(f"create container {name}"):
            return str(self._api.create_container_from_config(config, name)["Id"])

    def upload_archive(self, container: str, archive: bytes) -> None:
        """Extract a tar archive to the root of a container's file system."""
        with self._translating("write the configuration to the container"):
            self._api.put_archive(container, "/", archive)

    def download_archive(self, container: str, path: str) -> Iterator[bytes] | None:
        """Return a folder of a container as chunks of a tar archive; None if it does not exist."""
        with suppress(ObjectNotFound), self._translating(f"read {path} of the container"):
            chunks: Iterator[bytes] = self._api.get_archive(container, path)[0]
            return chunks
        return None

    def start(self, container: str) -> None:
        with self._translating("start the container"):
            self._api.start(container)

    def stop(self, container: str) -> None:
        """Stop the container within its own stop timeout."""
        with suppress(ObjectNotFound), self._translating("stop the container"):
            details = self._api.inspect_container(container)
            seconds = int(details.get("Config", {}).get("StopTimeout") or 10)
            self._api.stop(container, timeout=seconds)

    def rename(self, container: str, name: str) -> None:
        with self._translating(f"rename the container to {name}"):
            self._api.rename(container, name)

    def remove(self, container: str) -> None:
        """Remove the container in any state, with its anonymous volumes."""
        with suppress(ObjectNotFound), self._translating("remove the container"):
            self._api.remove_container(container, v=True, force=True)

    def execute(self, container: str, command: Sequence[str]) -> CommandResult | None:
        """Run a command in a container. Return None if the container is not running."""
        from docker import errors

        with suppress(ObjectNotFound), self._translating("run a command in the container"):
            try:
                process = self._api.exec_create(container, [*command], stderr=False)["Id"]
                out: bytes = self._api.exec_start(process)
                status = self._api.exec_inspect(process)["ExitCode"]
            except errors.APIError as error:
                if error.status_code == 409:
                    return None
                raise
            return CommandResult(-1 if status is None else int(status), out)
        return None

    def processes(self, container: str) -> list[int]:
        """Return the process ids of a running container, as on the engine's machine."""
        with suppress(ObjectNotFound), self._translating("list the processes of the container"):
            table: Raw = self._api.top(container, "-eo pid")
            return [int(row[0]) for row in table.get("Processes") or []]
        return []

    def logs(self, container: str, options: LogOptions) -> Iterator[bytes]:
        """Return an iterator over chunks of the log, oldest first, with the engine's timestamps.

        A chunk may end within a line. The request is sent before this method returns.
        """
        start = options.since if options.since is not None and options.since > 0 else None
        action = "read the log of the container"
        with suppress(ObjectNotFound), self._translating(action):
            chunks = self._api.logs(
                container,
                stream=True,
                follow=options.follow,
                timestamps=True,
                since=start,
                tail="all" if options.tail is None else options.tail,
            )
            if options.follow:
                # A read of a silent log only ends when its connection is closed.
                Thread(target=_close_when_set, args=(options.stop, chunks), daemon=True).start()
            return self._read_chunks(chunks, action)
        return iter(())

    def _read_chunks(self, chunks: Any, action: str) -> Iterator[bytes]:
        with suppress(ObjectNotFound), self._translating(action):
            try:
                yield from chunks
            finally:
                chunks.close()
                # Closing a stream that was not read to its end leaves the descriptor open.
                chunks._response.close()

    # Images

    def image(self, reference: str) -> Raw | None:
        """Return the details of an image; None if the engine does not have it."""
        from docker import errors

        with self._translating(f"show image {reference}"), suppress(errors.ImageNotFound):
            image: Raw = self._api.inspect_image(reference)
            return image
        return None

    def pull(self, reference: str) -> None:
        from docker import errors

        with self._translating(f"pull {reference}"):
            repository, tag = split_reference(reference)
            try:
                for line in self._api.pull(repository, tag=tag, stream=True, decode=True):
                    if "error" in line:
                        raise errors.APIError(line["error"], explanation=line["error"])
            except errors.NotFound as error:
                raise errors.APIError(str(error), explanation=error.explanation) from error

    def tag(self, image: str, target: str) -> None:
        repository, tag = split_reference(target)
        with self._translating(f"tag the image as {target}"):
            self._api.tag(image, repository, tag)

    def untag(self, reference: str) -> bool:
        """Remove a tag of an image, and the image with its last tag unless it is in use."""
        from docker import errors

        with suppress(ObjectNotFound), self._translating(f"remove image {reference}"):
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
        with self._translating("list its volumes"):
            response: Raw = self._api.volumes(filters={"label": [*labels]})
        volumes: list[Raw] = response.get("Volumes") or []
        return volumes

    def add_volume(self, name: str, labels: Mapping[str, str]) -> bool:
        """Create an empty volume. Return False if the name has a volume with other labels."""
        with self._translating(f"create volume {name}"):
            volume: Raw = self._api.create_volume(name, labels=dict(labels))
        return bool(volume.get("Labels") == dict(labels))

    def remove_volume(self, name: str) -> None:
        from docker import errors

        with self._translating(f"remove volume {name}"), suppress(errors.NotFound):
            self._api.remove_volume(name)

    def networks(self) -> dict[str, Raw]:
        """Return all networks by name."""
        with self._translating("list its networks"):
            return {network["Name"]: network for network in self._api.networks()}

    def connect_network(self, container: str, network: str, alias: str) -> None:
        """Connect the container to another network, with a DNS alias unless that is ""."""
        with self._translating(f"connect the container to network {network}"):
            self._api.connect_container_to_network(
                container, network, aliases=[alias] if alias else None
            )


def _close_when_set(event: Event, chunks: Any) -> None:
    event.wait()
    with suppress(OSError):
        chunks.close()


def split_reference(reference: str) -> tuple[str, str | None]:
    """Return the repository and the tag or digest of an image reference; the default is latest."""
    if "@" in reference:
        repository, _, digest = reference.partition("@")
        return repository, digest
    head, slash, last = reference.rpartition("/")
    name, colon, tag = last.partition(":")
    return head + slash + name, tag if colon else "latest"
