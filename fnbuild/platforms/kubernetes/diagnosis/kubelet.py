"""Explanations of what the kubelet and the container runtime report.

They cover images that cannot be pulled, Secrets, ConfigMaps and volumes that are missing, and
containers that did not start or have terminated.
"""

from __future__ import annotations

import contextlib
import re
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from fnbuild.builder.image.references import registry_of
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

PULL_FAILURES = (
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "ImageInspectError",
    "RegistryUnavailable",
)
"""The kubelet's reasons for failed image pulls."""

_BACK_OFF = re.compile(r'^Back-off pulling image "[^"]*":? ?(ErrImagePull: )?')
_PULL_PREFIX = re.compile(
    r'^(Error: )?(Failed to pull image "[^"]*": )?(rpc error: code = \w+ desc = )?'
    r"(Error response from daemon: )?"
)
_NETWORK_CAUSE = re.compile(
    r"(connection refused|no such host|i/o timeout|no route to host|network is unreachable"
    r"|TLS handshake timeout|connection reset by peer|context deadline exceeded)"
)

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


@dataclass(frozen=True, slots=True)
class _PullFailure:
    image: str
    secrets: tuple[str, ...]
    namespace: str
    text: str
    place: str

    @property
    def registry(self) -> str:
        """The registry of the image; Docker Hub is the default."""
        return registry_of(self.image)

    @property
    def on_node(self) -> bool:
        """True if the registry's address is a loopback address, which differs between nodes."""
        return self.registry.partition(":")[0] in ("localhost", "127.0.0.1")


def explain_pull_failure(  # noqa: PLR0913 (independent facts)
    image: str,
    messages: list[str],
    *,
    secrets: tuple[str, ...] = (),
    namespace: str = "",
    policy: str = "",
    place: str = "",
) -> PodFinding:
    """Explain a failed image pull.

    `messages` are the kubelet's, newest first; `secrets` are the pull secrets; `policy` is the pull
    policy. `place` is the key that names the image, as in `spec.sidecars`, or "" for the function.
    """
    texts = [_PULL_PREFIX.sub("", _BACK_OFF.sub("", message)).strip() for message in messages]
    text = next((message for message in texts if message and message not in PULL_FAILURES), "")
    failure = _PullFailure(image, secrets, namespace, text, place)
    for mark, explain in _PULL_EXPLANATIONS:
        if mark.search(text):
            finding = explain(failure).with_fatal(fatal=True)
            has_copy = policy == "Always" and explain in _REGISTRY_FAILURES
            return (
                replace(finding, hint=f"{finding.hint}; {_pull_policy_hint(failure)}")
                if has_copy
                else finding
            )
    prefix = f"the image {image} cannot be pulled"
    return PodFinding(f"{prefix}: {text}" if text else prefix, fatal=True)


def _image_not_found(failure: _PullFailure) -> PodFinding:
    if "@" in failure.image and not failure.place:
        # A digest refers to an image that existed at the time of the deploy.
        return PodFinding(
            f"the registry {failure.registry} no longer has the image {failure.image}",
            "deploy the function again from its folder, which builds and pushes the image:"
            " `fnbuild deploy --path FOLDER --platform kube -r REGISTRY`",
        )
    return PodFinding(
        f"the registry {failure.registry} has no image {failure.image}",
        f"correct the name in {failure.place}, or push it there"
        if failure.place
        else "deploy from the folder, which builds and pushes it (`-r REGISTRY`), or correct the"
        " name",
    )


def _not_found_or_denied(failure: _PullFailure) -> PodFinding:
    return PodFinding(
        f"the registry {failure.registry} does not provide the image {failure.image}: it does not"
        " exist, or the registry requires a login",
        f"{_registry_hint(failure)}; {_login_hint(failure)}",
    )


def _registry_hint(failure: _PullFailure) -> str:
    """Return the hint about another registry."""
    if failure.place:
        return f"{failure.place} names the image: correct it, or name one that the cluster can pull"
    return "`-r REGISTRY` names a registry that the cluster can pull from"


def _pull_policy_hint(failure: _PullFailure) -> str:
    """Return the hint about images that the node already has."""
    return (
        f"`imagePullPolicy: IfNotPresent` in {failure.place or 'spec'} runs an image that the nodes"
        " have already"
    )


def _access_denied(failure: _PullFailure) -> PodFinding:
    if failure.secrets:
        names = " and ".join(failure.secrets)
        return PodFinding(
            f"the registry {failure.registry} does not accept the login of secret {names} for the"
            f" image {failure.image}",
            f"is it for {failure.registry}, and still valid? {_login_hint(failure)}",
        )
    return PodFinding(
        f"the registry {failure.registry} requires a login for the image {failure.image}",
        _login_hint(failure),
    )


def _login_hint(failure: _PullFailure) -> str:
    namespace = f" -n {failure.namespace}" if failure.namespace else ""
    return (
        f"`fnbuild create registry-secret --platform kube{namespace} --registry {failure.registry}"
        " --username USER` keeps one that every function there uses; spec.imagePullSecrets names"
        " another"
    )


def _plain_http(failure: _PullFailure) -> PodFinding:
    return PodFinding(
        f"the registry {failure.registry} speaks plain HTTP, and the nodes ask it by HTTPS",
        "declare it insecure to the nodes' container runtime (`insecure-registries` in Docker's"
        " daemon.json, hosts.toml of containerd), or give it a certificate",
    )


def _untrusted_certificate(failure: _PullFailure) -> PodFinding:
    return PodFinding(
        f"the nodes do not trust the certificate of the registry {failure.registry}:"
        f" {failure.text}",
        "install its authority's certificate for the nodes' container runtime",
    )


def _registry_unreachable(failure: _PullFailure) -> PodFinding:
    cause = _NETWORK_CAUSE.search(failure.text)
    text = f"the nodes cannot reach the registry {failure.registry}"
    hint = (
        "`-r REGISTRY` names where images are pushed, spec.runRegistry another address where the"
        " nodes pull them"
    )
    if failure.place:
        hint = _registry_hint(failure)
    if failure.on_node:
        hint = f"on a node, {failure.registry} is the node itself; {hint}"
    return PodFinding(f"{text}: {cause[1]}" if cause else text, hint)


def _rate_limited(failure: _PullFailure) -> PodFinding:
    return PodFinding(
        f"the registry {failure.registry} allows no more pulls for now: {failure.text}",
        f"wait, or log in: {_login_hint(failure)}",
    )


def _wrong_architecture(failure: _PullFailure) -> PodFinding:
    return PodFinding(
        f"the image {failure.image} is not made for the node's processor: {failure.text}",
        f"{failure.place} has to name one for the nodes, linux/amd64 or linux/arm64"
        if failure.place
        else "build it for the nodes: build.flags `--platform linux/amd64` or linux/arm64",
    )


def _disk_full(_: _PullFailure) -> PodFinding:
    return PodFinding("the node has no disk space left for the image", "`kubectl describe nodes`")


def _invalid_image_name(failure: _PullFailure) -> PodFinding:
    return PodFinding(
        f'"{failure.image}" is no name of an image', "REGISTRY/NAME:TAG in lower case"
    )


def _pull_policy_never(failure: _PullFailure) -> PodFinding:
    whose = "its " if failure.place else "spec."
    return PodFinding(
        f"the node has no image {failure.image}, and {whose}imagePullPolicy Never forbids pulling"
        " it",
        "use IfNotPresent or Always",
    )


_REGISTRY_FAILURES = (
    _image_not_found,
    _not_found_or_denied,
    _access_denied,
    _registry_unreachable,
    _rate_limited,
)

_PULL_EXPLANATIONS: tuple[tuple[re.Pattern[str], Callable[[_PullFailure], PodFinding]], ...] = (
    tuple(
        (re.compile(mark, re.IGNORECASE), explain)
        for mark, explain in (
            (r"invalid reference format|couldn't parse image", _invalid_image_name),
            (r"pull policy of Never", _pull_policy_never),
            (r"gave HTTP response to HTTPS client", _plain_http),
            (r"x509:|certificate", _untrusted_certificate),
            (r"toomanyrequests|rate limit", _rate_limited),
            (r"no matching manifest|no match for platform", _wrong_architecture),
            (r"no space left", _disk_full),
            (
                r"manifest unknown|name unknown|manifest for .* not found|: not found$",
                _image_not_found,
            ),
            (r"repository does not exist or may require|insufficient_scope", _not_found_or_denied),
            (
                r"no basic auth credentials|unauthori[sz]ed|authentication required|denied"
                r"|\b401\b|\b403\b|forbidden",
                _access_denied,
            ),
            (rf"{_NETWORK_CAUSE.pattern}|dial tcp|Client\.Timeout|: EOF", _registry_unreachable),
        )
    )
)


def describe_termination(end: Termination, container: Container) -> PodFinding:
    """Describe a termination, as a predicate of the container's name; `container` is its spec."""
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
