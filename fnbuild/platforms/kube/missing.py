"""What a container needs and does not get: Secrets, ConfigMaps, keys of them, volumes, a user."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from fnbuild.platforms.cluster.kinds import CONFIG_MAP, SECRET, Kind
from fnbuild.platforms.kube.findings import Finding
from fnbuild.spec.types import Raw

_KINDS = {"secret": "Secret", "configmap": "ConfigMap"}
_VOLUME = re.compile(r'^MountVolume\.\w+ failed for volume "([^"]+)" ?: ?')
_OBJECT = re.compile(r'(secret|configmap) "([^"]+)" not found', re.IGNORECASE)
_KEY = re.compile(r"couldn't find key (\S+) in (Secret|ConfigMap) [^/\s]+/(\S+)")
_KEY_OF_VOLUME = re.compile(r"references non-existent (?:secret|config) key: (\S+)")
_FOLDER = re.compile(r"hostPath type check failed: (.+)$")
_ATTACHED = re.compile(r'Multi-Attach error for volume "([^"]+)"')
_RUNS_AS_ROOT = "container has runAsNonRoot and image will run as root"
_NOT_NUMERIC = "image has non-numeric user"


def cannot_mount(message: str, namespace: str) -> Finding:
    """What the kubelet's event of a mount that failed means."""
    volume = _VOLUME.match(message)
    place = f"volume {volume[1]}: " if volume else ""
    rest = message[volume.end() :] if volume else message
    if found := _absent(rest, namespace, "spec.volumes"):
        return Finding(place + found.text, found.hint)
    if key := _KEY_OF_VOLUME.search(rest):
        return Finding(
            f"{place}the key {key[1]} does not exist in what it mounts",
            "correct the items of spec.volumes, or add the key",
        )
    if folder := _FOLDER.search(rest):
        return Finding(
            f"{place}{folder[1]} on the node",
            "make it on the node, or let hostPath.type be DirectoryOrCreate",
        )
    if attached := _ATTACHED.search(rest):
        return Finding(
            f"volume {attached[1]} is still attached to another node",
            "it can be on one node at a time: spec.deploymentStrategy `type: Recreate` ends the old"
            " pod first",
        )
    return Finding(f"{place}{rest}".rstrip("."))


def cannot_configure(message: str, namespace: str) -> Finding:
    """What the kubelet's CreateContainerConfigError means."""
    if found := _absent(message, namespace, "spec.env or spec.envFrom"):
        return found
    if key := _KEY.search(message):
        name, kind, of = key.groups()
        return Finding(
            f"the {kind} {of} has no key {name}",
            f"`kubectl describe {kind.lower()} {of} -n {namespace}` lists its keys; spec.env asks"
            " for it",
        )
    if _RUNS_AS_ROOT in message:
        return Finding(
            "the image runs as root, and runAsNonRoot forbids it",
            "a number in spec.securityContext.runAsUser, or `USER` with one in the image",
        )
    if _NOT_NUMERIC in message:
        return Finding(
            "the image names its user by a word, so nobody can tell whether it is root",
            "a number in spec.securityContext.runAsUser",
        )
    return Finding(f"its container cannot be made: {message}")


def _absent(message: str, namespace: str, place: str) -> Finding | None:
    found = _OBJECT.search(message)
    if found is None:
        return None
    return _not_there(_KINDS[found[1].lower()], found[2], namespace, place)


def _not_there(kind: str, name: str, namespace: str, place: str) -> Finding:
    return Finding(
        f"the {kind} {name} does not exist",
        f"`kubectl create {_CREATED[kind]} {name} -n {namespace} …` makes it; {place} asks for it",
    )


@dataclass(frozen=True, slots=True)
class Source:
    """A Secret or a ConfigMap that a volume cannot do without."""

    volume: str
    kind: Kind
    name: str

    def absent(self, namespace: str) -> Finding:
        """What the kubelet says of it at last, which has much else to tell."""
        found = _not_there(self.kind.name, self.name, namespace, "spec.volumes")
        return Finding(f"volume {self.volume}: {found.text}", found.hint)


def sources(pod: Raw) -> Iterator[Source]:
    for volume in pod["spec"].get("volumes") or []:
        for part in (volume, *((volume.get("projected") or {}).get("sources") or [])):
            for field, kind in (("secret", SECRET), ("configMap", CONFIG_MAP)):
                given = part.get(field) or {}
                name = given.get("secretName") or given.get("name")
                if name and not given.get("optional"):
                    yield Source(str(volume["name"]), kind, str(name))


_CREATED = {"Secret": "secret generic", "ConfigMap": "configmap"}
