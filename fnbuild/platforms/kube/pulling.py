"""Why a node cannot get an image, from what Docker, containerd and CRI-O say about it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from fnbuild.platforms.kube.findings import Finding

WAITING = (
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "ImageInspectError",
    "RegistryUnavailable",
)
"""The kubelet's reasons that are about images."""

_BACK_OFF = re.compile(r'^Back-off pulling image "[^"]*":? ?(ErrImagePull: )?')
_WRAPPED = re.compile(
    r'^(Error: )?(Failed to pull image "[^"]*": )?(rpc error: code = \w+ desc = )?'
    r"(Error response from daemon: )?"
)
_CAUSE = re.compile(
    r"(connection refused|no such host|i/o timeout|no route to host|network is unreachable"
    r"|TLS handshake timeout|connection reset by peer|context deadline exceeded)"
)


@dataclass(frozen=True, slots=True)
class _Case:
    image: str
    secrets: tuple[str, ...]
    namespace: str
    text: str
    place: str

    @property
    def registry(self) -> str:
        """Where the image is; Docker Hub's images do not say so."""
        first, slash, _ = self.image.partition("/")
        named = slash and (first == "localhost" or "." in first or ":" in first)
        return first if named else "docker.io"

    @property
    def on_node(self) -> bool:
        """Whether the registry's address means another machine on every node."""
        return self.registry.partition(":")[0] in ("localhost", "127.0.0.1")


def cannot_pull(  # noqa: PLR0913 (all that tells)
    image: str,
    messages: list[str],
    *,
    secrets: tuple[str, ...] = (),
    namespace: str = "",
    policy: str = "",
    place: str = "",
) -> Finding:
    """`messages` are the kubelet's, the newest first; `secrets` those with logins that it used.

    `policy` is the container's for pulling. `place` is where the configuration names the image, as
    in `spec.sidecars`, when it is not the function's own.
    """
    texts = [_WRAPPED.sub("", _BACK_OFF.sub("", one)).strip() for one in messages]
    text = next((one for one in texts if one and one not in WAITING), "")
    case = _Case(image, secrets, namespace, text, place)
    for mark, make in _MEANINGS:
        if mark.search(text):
            found = make(case).become(fatal=True)
            there = policy == "Always" and make in _FROM_REGISTRIES
            return replace(found, hint=f"{found.hint}; {_there(case)}") if there else found
    words = f"the image {image} cannot be pulled"
    return Finding(f"{words}: {text}" if text else words, fatal=True)


def _absent(case: _Case) -> Finding:
    if "@" in case.image and not case.place:
        # By a digest it runs what was there when it was deployed.
        return Finding(
            f"the registry {case.registry} no longer has the image {case.image}",
            "deploy the function again from its folder, which builds and pushes the image:"
            " `fnbuild deploy --path FOLDER --platform kube -r REGISTRY`",
        )
    return Finding(
        f"the registry {case.registry} has no image {case.image}",
        f"correct the name in {case.place}, or push it there"
        if case.place
        else "deploy from the folder, which builds and pushes it (`-r REGISTRY`), or correct the"
        " name",
    )


def _absent_or_denied(case: _Case) -> Finding:
    return Finding(
        f"the registry {case.registry} does not give the image {case.image}: there is none of that"
        " name, or it wants a login",
        f"{_elsewhere(case)}; {_login(case)}",
    )


def _elsewhere(case: _Case) -> str:
    """Another registry to pull from."""
    if case.place:
        return f"{case.place} names the image: correct it, or name one that the cluster can pull"
    return "`-r REGISTRY` names a registry that the cluster can pull from"


def _there(case: _Case) -> str:
    """A registry is asked though the node may have the image."""
    return (
        f"`imagePullPolicy: IfNotPresent` in {case.place or 'spec'} runs an image that the nodes"
        " have already"
    )


def _denied(case: _Case) -> Finding:
    if case.secrets:
        names = " and ".join(case.secrets)
        return Finding(
            f"the registry {case.registry} does not accept the login of secret {names} for the"
            f" image {case.image}",
            f"is it for {case.registry}, and still valid? {_login(case)}",
        )
    return Finding(
        f"the registry {case.registry} wants a login for the image {case.image}", _login(case)
    )


def _login(case: _Case) -> str:
    namespace = f" -n {case.namespace}" if case.namespace else ""
    return (
        f"`fnbuild create registry-secret --platform kube{namespace} --registry {case.registry}"
        " --username USER` keeps one that every function there uses; spec.imagePullSecrets names"
        " another"
    )


def _plain(case: _Case) -> Finding:
    return Finding(
        f"the registry {case.registry} speaks plain HTTP, and the nodes ask it by HTTPS",
        "declare it insecure to the nodes' container runtime (`insecure-registries` in Docker's"
        " daemon.json, hosts.toml of containerd), or give it a certificate",
    )


def _untrusted(case: _Case) -> Finding:
    return Finding(
        f"the nodes do not trust the certificate of the registry {case.registry}: {case.text}",
        "install its authority's certificate for the nodes' container runtime",
    )


def _unreachable(case: _Case) -> Finding:
    cause = _CAUSE.search(case.text)
    text = f"the nodes cannot reach the registry {case.registry}"
    hint = (
        "`-r REGISTRY` names where images are pushed, spec.runRegistry another address where the"
        " nodes pull them"
    )
    if case.place:
        hint = _elsewhere(case)
    if case.on_node:
        hint = f"on a node, {case.registry} is the node itself; {hint}"
    return Finding(f"{text}: {cause[1]}" if cause else text, hint)


def _limited(case: _Case) -> Finding:
    return Finding(
        f"the registry {case.registry} allows no more pulls for now: {case.text}",
        f"wait, or log in: {_login(case)}",
    )


def _other_machine(case: _Case) -> Finding:
    return Finding(
        f"the image {case.image} is not made for the node's processor: {case.text}",
        f"{case.place} has to name one for the nodes, linux/amd64 or linux/arm64"
        if case.place
        else "build it for the nodes: build.flags `--platform linux/amd64` or linux/arm64",
    )


def _full(_: _Case) -> Finding:
    return Finding("the node has no disk space left for the image", "`kubectl describe nodes`")


def _name(case: _Case) -> Finding:
    return Finding(f'"{case.image}" is no name of an image', "REGISTRY/NAME:TAG in lower case")


def _never(case: _Case) -> Finding:
    whose = "its " if case.place else "spec."
    return Finding(
        f"the node has no image {case.image}, and {whose}imagePullPolicy Never forbids to pull it",
        "IfNotPresent or Always pulls it",
    )


_FROM_REGISTRIES = (_absent, _absent_or_denied, _denied, _unreachable, _limited)

_MEANINGS: tuple[tuple[re.Pattern[str], Callable[[_Case], Finding]], ...] = tuple(
    (re.compile(mark, re.IGNORECASE), make)
    for mark, make in (
        (r"invalid reference format|couldn't parse image", _name),
        (r"pull policy of Never", _never),
        (r"gave HTTP response to HTTPS client", _plain),
        (r"x509:|certificate", _untrusted),
        (r"toomanyrequests|rate limit", _limited),
        (r"no matching manifest|no match for platform", _other_machine),
        (r"no space left", _full),
        (r"manifest unknown|name unknown|manifest for .* not found|: not found$", _absent),
        (r"repository does not exist or may require|insufficient_scope", _absent_or_denied),
        (
            r"no basic auth credentials|unauthori[sz]ed|authentication required|denied"
            r"|\b401\b|\b403\b|forbidden",
            _denied,
        ),
        (rf"{_CAUSE.pattern}|dial tcp|Client\.Timeout|: EOF", _unreachable),
    )
)
