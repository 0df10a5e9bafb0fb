"""Image references: the names of functions' images, and the registry that a name refers to.

Functions' images are named as by Nuclio (pkg/processor/build/builder.go):

    nothing given                   nuclio/processor-<function>:latest
    a registry with a path in it    processor-<function>:latest
    a prefix template               nuclio/<prefix>processor:latest
    build.image                     <prefix><image>, with :latest when it has no tag

There are two differences. The port of a registry is no tag: Nuclio splits `host:5000/a:t` wrongly.
And names of functions that no image can have, such as `YOLO_v8`, get a valid and unique name;
Nuclio passes them to Docker, which rejects them.
"""

from __future__ import annotations

import hashlib
import os
import re

from fnbuild import hosts
from fnbuild.errors import InputError
from fnbuild.function.source_text import quoted
from fnbuild.function.types import Function

DEFAULT_REGISTRY = "docker.io"

PREFIX_VARIABLE = "NUCLIO_DASHBOARD_IMAGE_NAME_PREFIX_TEMPLATE"
"""The environment variable with the prefix template, as Nuclio's dashboard reads it: text with
`{{ .ProjectName }}` and `{{ .FunctionName }}`."""

BUILD_TAG_PREFIX = "fnbuild-"
"""The prefix of the immutable tag that each pushed build gets."""

# Characters of an image's id that identify it among the images of its name.
_ID_LENGTH = 16

_WORD = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
# With a dot or a port; otherwise it is the first part of a path.
_HOST = rf"(?:(?:{_WORD}(?:\.{_WORD})+|localhost|\[[0-9a-fA-F:.]+\])(?::[0-9]+)?|{_WORD}:[0-9]+)"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REGISTRY = re.compile(rf"(?:{_HOST}|{_PART})(?:/{_PART})*\Z")
_REFERENCE = re.compile(
    rf"(?P<name>(?:{_HOST}/)?{_PART}(?:/{_PART})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?:@(?P<digest>[A-Za-z][A-Za-z0-9]*(?:[+._-][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}))?\Z"
)
_MAX_NAME_LENGTH = 255
_TEMPLATE_ACTION = re.compile(r"\{\{-?\s*(.*?)\s*-?\}\}")


def registry_of(reference: str) -> str:
    """Return the registry of an image name: its first part, if that looks like a host.

    As in engines (distribution/reference), a host has a dot or a port, or is localhost.
    """
    return explicit_registry(reference) or DEFAULT_REGISTRY


def explicit_registry(reference: str) -> str:
    """Return the registry that an image name begins with, or ""."""
    first, slash, _ = reference.partition("/")
    is_host = "." in first or ":" in first or first == "localhost"
    return first if slash and is_host else ""


def is_local_registry(registry: str) -> bool:
    """Return True if the registry is on this machine, where Docker allows plain HTTP by default."""
    host = registry.removeprefix("[").partition("]")[0] if registry.startswith("[") else registry
    host = host if registry.startswith("[") else host.rpartition(":")[0] or host
    return hosts.is_loopback(host)


def image_name(function: Function) -> str:
    """Return the image's name with its tag, without the registry that it is pushed to.

    Raises `InputError`.
    """
    prefix = _expand_prefix(os.environ.get(PREFIX_VARIABLE, ""), function)
    build = function.spec.build
    if build.image:
        name, key = prefix + build.image.strip(), "spec.build.image"
    else:
        folder = "" if "/" in _without_scheme(build.registry) else "nuclio/"
        default_name = (
            f"{prefix}processor"
            if prefix
            else f"processor-{_name_component(function.metadata.name)}"
        )
        name, key = folder + default_name, PREFIX_VARIABLE if prefix else "metadata.name"
    match = parse_reference(name, key)
    if match["digest"]:
        raise InputError(
            f"{key}: {quoted(name)} has a digest, which an image only gets when it is built",
            hint="use a tag instead: NAME:TAG",
        )
    return name if match["tag"] else f"{name}:latest"


def with_registry(registry: str, name: str, key: str = "spec.build.registry") -> str:
    """Return the image's name in the registry. `key` is the configuration key of the registry.

    A name that begins with that registry is unchanged.
    """
    bare = _without_scheme(registry)
    if not bare:
        return name
    if not _REGISTRY.match(bare):
        raise InputError(
            f"{key}: {quoted(registry)} is not the name of a registry",
            hint="HOST, HOST:PORT or HOST/PATH; the path has lower-case letters only",
        )
    if name.startswith(f"{bare}/"):
        return name
    full_name = f"{bare}/{name}"
    parse_reference(full_name, key)
    return full_name


def without_registry(registry: str, name: str) -> str:
    """Return the name without its registry; the inverse of `with_registry`."""
    return name.removeprefix(f"{_without_scheme(registry)}/")


def immutable_reference(reference: str, identity: str) -> str:
    """Return a reference that never leads to another image: its tag is derived from the image's id.

    The same build always gets the same tag, and no other build gets it. So a registry or an engine
    keeps the image as long as the tag exists.
    """
    name = parse_reference(reference, "the image")["name"]
    return f"{name}:{BUILD_TAG_PREFIX}{identity.removeprefix('sha256:')[:_ID_LENGTH]}"


def is_build_tag(tag: str) -> bool:
    """Return True for a tag, without the image's name, as in an `immutable_reference`."""
    return re.fullmatch(rf"{BUILD_TAG_PREFIX}[0-9a-f]{{{_ID_LENGTH}}}", tag) is not None


def parse_reference(text: str, key: str) -> re.Match[str]:
    """Return the parts `name`, `tag` and `digest` of a reference. Raises `InputError`."""
    match = _REFERENCE.match(text)
    if match is not None and len(match["name"]) <= _MAX_NAME_LENGTH:
        return match
    hint = "NAME, NAME:TAG or HOST:PORT/NAME:TAG; a name has letters, digits, '.', '_' and '-'"
    name, colon, tag = text.rpartition(":")
    name, tag = (name, colon + tag) if colon and "/" not in tag else (text, "")
    if text != text.lower() and _REFERENCE.match(name.lower() + tag):
        hint = f"image names are lower-case: {name.lower()}{tag}"
    raise InputError(f"{key}: {quoted(text)} is not a valid image name", hint=hint)


def _without_scheme(registry: str) -> str:
    """Return the registry without scheme and trailing slash, which references cannot have."""
    return re.sub(r"\Ahttps?://", "", registry.strip()).rstrip("/")


def _name_component(name: str) -> str:
    """Return a function's name as a valid and unique part of an image name.

    Lower-case letters and single separators remain; a name that had to be changed gets a hash of
    the whole name, so that `Yolo` and `yolo` have different images.
    """
    if re.fullmatch(_PART, name):
        return name
    lower = re.sub(r"[^a-z0-9]*([._-])[^a-z0-9]*", r"\1", name.lower()).strip("._-")
    if not re.fullmatch(_PART, lower):
        raise InputError(
            f"metadata.name: {quoted(name)} cannot be turned into an image name",
            hint="use letters, digits, '-', '_' and '.', or set spec.build.image",
        )
    return f"{lower}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def _expand_prefix(template: str, function: Function) -> str:
    """Return the expanded template. Only two values of Go's templates are supported."""
    values = {
        ".ProjectName": _name_component(function.project),
        ".FunctionName": _name_component(function.metadata.name),
    }

    def value(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise InputError(
                f"{PREFIX_VARIABLE}: {quoted(match[0])} is not supported in {quoted(template)}",
                hint="{{ .ProjectName }} and {{ .FunctionName }} are supported",
            )
        return values[match[1]]

    return _TEMPLATE_ACTION.sub(value, template)
