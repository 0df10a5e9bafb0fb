"""The properties of an image and of its build, taken from a function's configuration.

A `Recipe` determines the Dockerfile, a `BuildRequest` the options of the engine: network, timeout,
arguments and flags. Nothing is read or run.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

from fnbuild.builder.directives import PlacedDirective, directives_of
from fnbuild.builder.image.engine import BuildNetwork, BuildRequest
from fnbuild.builder.image.references import parse_reference
from fnbuild.errors import BuildError, InputError, UsageError
from fnbuild.function.function_rules import directive_problem
from fnbuild.function.quantities import parse_duration
from fnbuild.function.source_text import quoted
from fnbuild.function.types import Build, Function

_TIMEOUT_SECONDS = 3600
_NETWORK_VARIABLE = "NUCLIO_DOCKER_BUILD_NETWORK"

DEFAULT_SHELL = ("/bin/sh", "-c")
"""The shell of RUN lines unless image or function name another."""

# Nuclio checks every second. A check starts an interpreter in the image, which would take a few
# percent of a core from the model.
_HEALTH_SECONDS = 10
_MIN_HEALTH_SECONDS = 0.001
_ARGUMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
# Builders support these without an ARG, and keep their values, which often contain a password, out
# of the image's history and the cache keys.
_PROXIES = frozenset(
    name
    for proxy in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
    for name in (proxy, proxy.lower())
)
# The release of Nuclio whose builder serves as the model.
_NUCLIO_LABEL = "1.14.1"


def create_request(build: Build, context: Path, dockerfile: Path) -> BuildRequest:
    """Return the build request, without tags.

    Raises `UsageError` for an unknown network.
    """
    return BuildRequest(
        context=context,
        dockerfile=dockerfile,
        tags=(),
        args={name: value for name, value in build.args.items() if value},
        no_cache=build.no_cache,
        network=_network(build),
        flags=tuple(build.flags),
        timeout=_timeout(build),
        pull=not (build.no_base_images_pull or build.offline),
    )


def _network(build: Build) -> BuildNetwork:
    """Return the network of RUN lines; the variable is Nuclio's (pkg/dockerclient/shell.go)."""
    if build.offline:
        return "none"
    requested = os.environ.get(_NETWORK_VARIABLE) or "default"
    for network in get_args(BuildNetwork):
        if requested == network:
            return cast(BuildNetwork, network)
    raise UsageError(
        f"{_NETWORK_VARIABLE}={requested} is not a build network",
        hint=f"one of: {', '.join(get_args(BuildNetwork))}",
    )


def _timeout(build: Build) -> float | None:
    """Return Nuclio's limit (pkg/processor/build/builder.go): an hour, None if not positive."""
    seconds = build.build_timeout_seconds
    if seconds is None:
        return _TIMEOUT_SECONDS
    return float(seconds) if seconds > 0 else None


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that determines a Dockerfile.

    `args` are names and defaults; a name without a default gets its value only from the engine's
    build arguments. `health_interval` is a Go duration. `shell` is that of the base image.
    `heredocs`: the engine supports them. `requirements` is the path, relative to the code, of a
    requirements.txt that no line of the user's installs. `large`: large files have a layer of their
    own. `grpc`: the image has the packages of the gRPC server. `labels` are names and values.
    """

    base: str
    args: tuple[tuple[str, str], ...] = ()
    pre_copy: tuple[PlacedDirective, ...] = ()
    post_copy: tuple[PlacedDirective, ...] = ()
    health_interval: str = f"{_HEALTH_SECONDS}s"
    shell: tuple[str, ...] = DEFAULT_SHELL
    heredocs: bool = False
    requirements: str | None = None
    large: bool = False
    grpc: bool = False
    labels: tuple[tuple[str, str], ...] = ()


def create_recipe(  # noqa: PLR0913 - independent properties of the build
    function: Function,
    base: str,
    *,
    shell: Sequence[str] = (),
    heredocs: bool = False,
    requirements: str | None = None,
    large: bool = False,
    architecture: str = "amd64",
) -> Recipe:
    """Return the recipe of a function on a base image.

    `shell` is the base image's, empty for the default; `architecture` is the engine's, as Docker
    names it. Raises `BuildError` with the place of a directive that is not allowed in a Dockerfile,
    and `InputError` for other values.
    """
    parse_reference(base, "spec.build.baseImage")
    directives = directives_of(function.spec.build)
    for directive in directives:
        _check_directive(directive)
    text = "\n".join(directive.value for directive in directives)
    return Recipe(
        base,
        _build_arguments(function, text, architecture),
        directives.pre_copy,
        directives.post_copy,
        _health_interval(function),
        tuple(shell) or DEFAULT_SHELL,
        heredocs,
        requirements,
        large,
    )


def _check_directive(directive: PlacedDirective) -> None:
    if problem := directive_problem(directive.kind, directive.value):
        message, hint = problem
        raise BuildError(f"{directive.place}: {message}", hint=hint)


def _build_arguments(
    function: Function, text: str, architecture: str
) -> tuple[tuple[str, str], ...]:
    """Return names and defaults in order, as in Nuclio; empty values are dropped.

    Nuclio's own arguments and proxies are included only if a directive mentions them: an ARG is
    part of the cache key of every RUN after it.
    """
    user_args = function.spec.build.args
    nuclio_args = {
        "NUCLIO_LABEL": _NUCLIO_LABEL,
        "NUCLIO_ARCH": architecture,
        "NUCLIO_BUILD_LOCAL_HANDLER_DIR": "handler",
        "NUCLIO_BUILD_OFFLINE": "true" if function.spec.build.offline else "",
    }
    result = {}
    for name, value in user_args.items():
        if not _ARGUMENT_NAME.match(name):
            raise InputError(
                f"spec.build.args: {quoted(name)} cannot be the name of a build argument",
                hint="letters, digits and '_' make a name; it does not start with a digit",
            )
        if value and (name not in _PROXIES or _is_mentioned(name, text)):
            result[name] = ""
    for name, value in nuclio_args.items():
        if value and name not in user_args and _is_mentioned(name, text):
            result[name] = value
    return tuple(sorted(result.items()))


def _is_mentioned(name: str, text: str) -> bool:
    return re.search(rf"(?<!\w){name}(?!\w)", text) is not None


def _health_interval(function: Function) -> str:
    """Return the attribute `healthCheckInterval`, a Go duration (Nuclio rejects numbers)."""
    key = "spec.platform.attributes.healthCheckInterval"
    value = function.spec.platform.attributes.get("healthCheckInterval")
    if value is None or value == "":
        return f"{_HEALTH_SECONDS}s"
    text = str(value).strip()
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise InputError(f"{key}: {error}") from error
    if seconds < _MIN_HEALTH_SECONDS:
        raise InputError(f"{key}: {text} is too short; Docker takes 1ms and more")
    return text
