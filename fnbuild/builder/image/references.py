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
import ipaddress
import os
import re

from fnbuild.errors import InputError
from fnbuild.function.source_text import quoted
from fnbuild.function.types import Function
from fnbuild.names import PROJECT_LABEL

DEFAULT_REGISTRY = "docker.io"


def registry_of(reference: str) -> str:
    """The registry of an image name: its first part, when that looks like a host.

    So does the engine read it (distribution/reference): it has a dot or a port, or is localhost.
    """
    first, slash, _ = reference.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return first
    return DEFAULT_REGISTRY


def is_loopback(registry: str) -> bool:
    """Whether the registry is on this machine, where Docker allows plain HTTP unasked."""
    host = registry.removeprefix("[").partition("]")[0] if registry.startswith("[") else registry
    host = host if registry.startswith("[") else host.rpartition(":")[0] or host
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


PREFIX_VARIABLE = "NUCLIO_DASHBOARD_IMAGE_NAME_PREFIX_TEMPLATE"
"""The environment variable with the prefix template, as Nuclio's dashboard reads it."""

BUILD_TAG_PREFIX = "fnbuild-"
"""The prefix of the immutable tag that each pushed build gets."""

# Characters of an image's id that identify it among the images of its name.
_ID_LENGTH = 16

_WORD = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
# With a dot or a port, else it is the first folder of a name.
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


def image_name(function: Function, prefix: str | None = None) -> str:
    """The image's name with its tag, without the registry it is pushed to.

    `prefix` is a template as Nuclio's dashboard takes it: text with `{{ .ProjectName }}` and
    `{{ .FunctionName }}`; None takes that of the environment. Raises `InputError`.
    """
    given = _expand_prefix(
        os.environ.get(PREFIX_VARIABLE, "") if prefix is None else prefix, function
    )
    build = function.spec.build
    if build.image:
        name, key = given + build.image.strip(), "spec.build.image"
    else:
        folder = "" if "/" in _without_scheme(build.registry) else "nuclio/"
        own = (
            f"{given}processor" if given else f"processor-{_name_component(function.metadata.name)}"
        )
        name, key = folder + own, PREFIX_VARIABLE if given else "metadata.name"
    found = parse_reference(name, key)
    if found["digest"]:
        raise InputError(
            f"{key}: {quoted(name)} names a digest, which an image gets when it is built",
            hint="give a tag instead: NAME:TAG",
        )
    return name if found["tag"] else f"{name}:latest"


def with_registry(registry: str, name: str, key: str = "spec.build.registry") -> str:
    """The name by which the registry knows the image. `key` says where the registry was given.

    A name that begins with that registry stays as it is.
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
    whole = f"{bare}/{name}"
    parse_reference(whole, key)
    return whole


def without_registry(registry: str, name: str) -> str:
    """Return the name without its registry; the inverse of `with_registry`."""
    return name.removeprefix(f"{_without_scheme(registry)}/")


def build_tag(reference: str, identity: str) -> str:
    """Return the name of one build: the image's name with a tag made of its id.

    The same build always gets the same tag, and no other build gets it. So a registry or an engine
    keeps the image as long as the tag exists.
    """
    name = parse_reference(reference, "the image")["name"]
    return f"{name}:{BUILD_TAG_PREFIX}{identity.removeprefix('sha256:')[:_ID_LENGTH]}"


def is_build_tag(tag: str) -> bool:
    """Return True for the tags that `build_tag` makes."""
    return re.fullmatch(rf"{BUILD_TAG_PREFIX}[0-9a-f]{{{_ID_LENGTH}}}", tag) is not None


def parse_reference(text: str, key: str) -> re.Match[str]:
    """The parts `name`, `tag` and `digest` of a reference that engines take, else `InputError`."""
    found = _REFERENCE.match(text)
    if found is not None and len(found["name"]) <= _MAX_NAME_LENGTH:
        return found
    hint = "NAME, NAME:TAG or HOST:PORT/NAME:TAG; a name has letters, digits, '.', '_' and '-'"
    name, colon, tag = text.rpartition(":")
    name, tag = (name, colon + tag) if colon and "/" not in tag else (text, "")
    if text != text.lower() and _REFERENCE.match(name.lower() + tag):
        hint = f"names of images are lower-case: {name.lower()}{tag}"
    raise InputError(f"{key}: {quoted(text)} cannot be the name of an image", hint=hint)


def _without_scheme(registry: str) -> str:
    """Without scheme and trailing slash, which no reference can have."""
    return re.sub(r"\Ahttps?://", "", registry.strip()).rstrip("/")


def _name_component(name: str) -> str:
    """A function's name as a part of an image's, which no other function's name becomes.

    Small letters and single separators are left; what had to be changed gets a mark of the whole
    name, so that `Yolo` and `yolo` do not take each other's image.
    """
    if re.fullmatch(_PART, name):
        return name
    small = re.sub(r"[^a-z0-9]*([._-])[^a-z0-9]*", r"\1", name.lower()).strip("._-")
    if not re.fullmatch(_PART, small):
        raise InputError(
            f"metadata.name: {quoted(name)} cannot be made the name of an image",
            hint="letters, digits, '-', '_' and '.' make a name; or set spec.build.image",
        )
    return f"{small}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def _expand_prefix(template: str, function: Function) -> str:
    """The template's text. Of Go's templates only the two values are understood."""
    values = {
        ".ProjectName": _name_component(function.metadata.labels.get(PROJECT_LABEL, "default")),
        ".FunctionName": _name_component(function.metadata.name),
    }

    def value(found: re.Match[str]) -> str:
        if found[1] not in values:
            raise InputError(
                f"{PREFIX_VARIABLE}: {quoted(found[0])} is not understood in {quoted(template)}",
                hint="{{ .ProjectName }} and {{ .FunctionName }} can stand there",
            )
        return values[found[1]]

    return _TEMPLATE_ACTION.sub(value, template)
