"""Explanations of images that cannot be pulled, from the messages of the kubelet."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from fnbuild.builder.image.references import registry_of
from fnbuild.platforms.kubernetes.pod_status import PodFinding

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
            if policy == "Always" and explain in _REGISTRY_FAILURES:
                return replace(finding, hint=f"{finding.hint}; {_pull_policy_hint(failure)}")
            return finding
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
