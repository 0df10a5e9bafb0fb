"""Explanations of what the kubelet and the container runtime report.

They cover Secrets, ConfigMaps and volumes that are missing, and containers that did not start or
have terminated. Images that cannot be pulled are in `image_pulls`.
"""

from __future__ import annotations

import contextlib
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass, replace

from fnbuild.platforms.kubeclient.kinds import CONFIG_MAP, SECRET, Kind
from fnbuild.platforms.kubeclient.objects import Container, Pod, Termination
from fnbuild.platforms.kubernetes.pod_status import PodFinding

_OBJECT_KINDS = {"secret": "Secret", "configmap": "ConfigMap"}
_VOLUME = re.compile(r'^MountVolume\.\w+ failed for volume "([^"]+)" ?: ?')
_MISSING_OBJECT = re.compile(r'(secret|configmap) "([^"]+)" not found', re.IGNORECASE)
_MISSING_KEY = re.compile(r"couldn't find key (\S+) in (Secret|ConfigMap) [^/\s]+/(\S+)")
_MISSING_VOLUME_KEY = re.compile(r"references non-existent (?:secret|config) key: (\S+)")
_HOST_PATH = re.compile(r"hostPath type check failed: (.+)$")
_MULTI_ATTACH = re.compile(r'Multi-Attach error for volume "([^"]+)"')
_RUNS_AS_ROOT = "container has runAsNonRoot and image will run as root"
_NOT_NUMERIC = "image has non-numeric user"

_CREATE_COMMANDS = {"Secret": "secret generic", "ConfigMap": "configmap"}

_EXEC_FAILURE = re.compile(r'exec: "([^"]+)": (.+?)(?:: unknown)?$')
_RUNTIME_PREFIX = re.compile(
    r"^.*?(?:OCI runtime create failed: |Error response from daemon: )+(?:runc create failed: )?"
    r"(?:unable to start container process: )?"
)
_OUT_OF_MEMORY = "out of memory"
_MEMORY_HINT = "raise spec.resources.limits.memory, or use fewer workers"
_START_FAILURES = ("ContainerCannotRun", "StartError", "RunContainerError", "CreateContainerError")


def explain_mount_failure(message: str, namespace: str) -> PodFinding:
    """Explain the kubelet's event of a failed mount."""
    volume = _VOLUME.match(message)
    place = f"volume {volume[1]}: " if volume else ""
    rest = message[volume.end() :] if volume else message
    if finding := _missing_object(rest, namespace, "spec.volumes"):
        return PodFinding(place + finding.text, finding.hint)
    if key := _MISSING_VOLUME_KEY.search(rest):
        return PodFinding(
            f"{place}the key {key[1]} does not exist in what it mounts",
            "correct the items of spec.volumes, or add the key",
        )
    if folder := _HOST_PATH.search(rest):
        return PodFinding(
            f"{place}{folder[1]} on the node",
            "create it on the node, or set hostPath.type to DirectoryOrCreate",
        )
    if attached := _MULTI_ATTACH.search(rest):
        return PodFinding(
            f"volume {attached[1]} is still attached to another node",
            "it can be on one node at a time: spec.deploymentStrategy `type: Recreate` ends the old"
            " pod first",
        )
    return PodFinding(f"{place}{rest}".rstrip("."))


def explain_config_error(message: str, namespace: str) -> PodFinding:
    """Explain the kubelet's CreateContainerConfigError."""
    if finding := _missing_object(message, namespace, "spec.env or spec.envFrom"):
        return finding
    if key := _MISSING_KEY.search(message):
        name, kind, of = key.groups()
        return PodFinding(
            f"the {kind} {of} has no key {name}",
            f"`kubectl describe {kind.lower()} {of} -n {namespace}` lists its keys; spec.env asks"
            " for it",
        )
    if _RUNS_AS_ROOT in message:
        return PodFinding(
            "the image runs as root, and runAsNonRoot forbids it",
            "a number in spec.securityContext.runAsUser, or `USER` with one in the image",
        )
    if _NOT_NUMERIC in message:
        return PodFinding(
            "the image names its user by a word, so the kubelet cannot tell whether it is root",
            "a number in spec.securityContext.runAsUser",
        )
    return PodFinding(f"its container cannot be created: {message}")


def _missing_object(message: str, namespace: str, place: str) -> PodFinding | None:
    match = _MISSING_OBJECT.search(message)
    if match is None:
        return None
    return _missing_object_finding(_OBJECT_KINDS[match[1].lower()], match[2], namespace, place)


def _missing_object_finding(kind: str, name: str, namespace: str, place: str) -> PodFinding:
    return PodFinding(
        f"the {kind} {name} does not exist",
        f"`kubectl create {_CREATE_COMMANDS[kind]} {name} -n {namespace} …` makes it; {place} asks"
        " for it",
    )


@dataclass(frozen=True, slots=True)
class VolumeReference:
    """A Secret or a ConfigMap that a volume requires."""

    volume: str
    kind: Kind
    name: str

    def missing_finding(self, namespace: str) -> PodFinding:
        """Return the finding that the kubelet reports eventually, with a delay."""
        finding = _missing_object_finding(self.kind.name, self.name, namespace, "spec.volumes")
        return PodFinding(f"volume {self.volume}: {finding.text}", finding.hint)


def volume_references(pod: Pod) -> Iterator[VolumeReference]:
    for volume in pod.spec.items_of("volumes"):
        for source in (volume, *volume.section("projected").items_of("sources")):
            for field, kind in (("secret", SECRET), ("configMap", CONFIG_MAP)):
                reference = source.section(field)
                name = reference.text("secretName") or reference.text("name")
                if name and not reference.get("optional"):
                    yield VolumeReference(volume.text("name"), kind, name)


def explain_termination(end: Termination, container: Container) -> PodFinding:
    """Explain a termination, as a predicate of the container's name; `container` is its spec."""
    status = end.exit_code
    if end.out_of_memory:
        return PodFinding(
            f"was killed because it ran {_OUT_OF_MEMORY} ({_memory_limit(container)})", _MEMORY_HINT
        )
    if end.reason in _START_FAILURES or "OCI runtime" in end.message:
        return explain_start_failure(end.message)
    if status in (126, 127):
        return PodFinding(f"ended with exit status {status}: its program could not be run")
    if status > 128:
        with contextlib.suppress(ValueError):
            return PodFinding(f"was ended by {signal.Signals(status - 128).name}")
    return PodFinding(f"ended with exit status {status}")


def with_memory_limit(finding: PodFinding, container: Container) -> PodFinding:
    """Add the memory limit to a processor's report of a killed worker."""
    if _OUT_OF_MEMORY not in finding.text:
        return finding
    return replace(finding, text=f"{finding.text} ({_memory_limit(container)})", hint=_MEMORY_HINT)


def explain_start_failure(message: str) -> PodFinding:
    """Explain the container runtime's error for a container that could not be started."""
    if match := _EXEC_FAILURE.search(message):
        program, cause = match.groups()
        absent = "no such file" in cause or "not found" in cause
        return PodFinding(
            f"did not start: the image has no program {program}"
            if absent
            else f"did not start: {program}: {cause}",
            "build it with `fnbuild build`, or deploy from the folder"
            if program.endswith("processor")
            else "",
        )
    return PodFinding(
        f"did not start: {_RUNTIME_PREFIX.sub('', message).removesuffix(': unknown')}"
    )


def _memory_limit(container: Container) -> str:
    """Describe the memory limit that was reached, for parentheses."""
    limit = container.limits.get("memory")
    if not limit:
        return "it has no limit, so the node has no more"
    return f"spec.resources.limits.memory lets it have {limit} in all"
