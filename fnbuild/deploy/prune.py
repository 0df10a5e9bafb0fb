"""Find and remove the objects that no revision on any platform needs.

Platforms report the images that their revisions need. Several platforms may share an engine or a
registry. So an image is removed only if every platform in use has reported and none needs it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from fnbuild.builder.image import registry
from fnbuild.builder.image.builder import DIGEST_LABEL, FUNCTION_LABEL
from fnbuild.builder.image.engine import ImageMetadata
from fnbuild.builder.image.engines.selection import choose_engine
from fnbuild.builder.image.references import is_build_tag, with_registry
from fnbuild.builder.image.registry import RegistryClient, Repository, repository_of
from fnbuild.datadir import functions_being_changed
from fnbuild.errors import BuildError, FnbuildError, UnavailableError
from fnbuild.platforms import (
    NO_CONNECT_OPTIONS,
    ConnectOptions,
    ImageUse,
    Leftover,
    Platform,
    all_platforms,
    audit,
)

_REVISIONS = "fnbuild-revisions:"
_NO_REVISION = "no revision on record runs it"
# Characters of the id that older releases used as the whole tag.
_OLDER_TAG = 12
# Phrases in the errors of docker, podman and buildah.
_IN_USE = re.compile(r"conflict|in use|is using|being used|dependent child", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class PruneRequest:
    """The scope of a prune. `names` are functions; if empty, all functions.

    `registries` are searched completely, in addition to the repositories of functions on record.
    With `include_user_tagged`, images that only a tag given by the user keeps are included.
    """

    namespace: str
    names: Collection[str] = ()
    registries: Collection[str] = ()
    include_user_tagged: bool = False
    connect: ConnectOptions = NO_CONNECT_OPTIONS


@dataclass(slots=True)
class PruneReport:
    """The objects to remove, and warnings about places that could not be searched."""

    leftovers: list[Leftover] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    kept_by_user_tags: list[str] = field(default_factory=list)
    """The functions of images that no revision needs and a tag given by the user keeps."""


def find_leftovers(platform: Platform, request: PruneRequest) -> PruneReport:
    """List the objects that no revision on any platform in use needs. Changes nothing.

    Raises `UnavailableError` if a registry of the request does not answer.
    """
    report = PruneReport(platform.leftovers())
    if platform.artifact_kind == "image":
        try:
            use = _image_use(platform, request)
        except FnbuildError as error:
            report.warnings.append(f"images stay, since one may be needed: {error.message}")
        else:
            _add_images(report, platform, use, request)
            _add_tags(report, use, request)
    if request.names:
        report.leftovers = [
            leftover for leftover in report.leftovers if leftover.function in request.names
        ]
    return report


def remove_leftover(platform: Platform, leftover: Leftover) -> str:
    """Remove an object; return why it stays, "" if it was removed."""
    if leftover.kind == "image":
        reason = _remove_image(platform, leftover)
    elif leftover.kind == "registry tag":
        reason = _remove_tag(leftover)
    else:
        reason = "" if platform.discard(leftover) else "it is gone, or needed by now"
    if not reason:
        audit.record_change("prune", f"{platform.name} {leftover.name}")
    return reason


def _image_use(platform: Platform, request: PruneRequest) -> ImageUse:
    """Return the images that all platforms in use need.

    Raises the error of a platform that is in use and cannot report them.
    """
    use = ImageUse(changing_functions=frozenset(name for _, name in functions_being_changed()))
    for candidate in all_platforms(request.connect):
        if candidate.artifact_kind != "image":
            continue
        if candidate.name != platform.name and (problems := candidate.problems()):
            if candidate.is_configured():
                raise UnavailableError(f"{candidate.name}: {problems[0]}")
            continue
        use |= candidate.image_use(request.namespace)
    return use


# Images of the engine


def _add_images(
    report: PruneReport, platform: Platform, use: ImageUse, request: PruneRequest
) -> None:
    try:
        images = choose_engine(platform.image_engine).images(DIGEST_LABEL)
    except UnavailableError as error:
        report.warnings.append(f"images of the engine were not looked at: {error.message}")
        return
    for image in images:
        function = image.labels.get(FUNCTION_LABEL, "")
        if _is_needed(image, use) or _may_change(function, use):
            continue
        removable = [
            name for name in image.names if request.include_user_tagged or _is_own_name(name, image)
        ]
        stays = len(removable) < len(image.names)
        if stays and (not request.names or function in request.names):
            report.kept_by_user_tags.append(function)
        if not image.names:
            removable = [*image.digests] or [image.id]
        for name in removable:
            frees_image = not stays and name == removable[-1]
            size = image.size if frees_image else 0
            report.leftovers.append(Leftover("image", name, _NO_REVISION, function, size))


def _is_needed(image: ImageMetadata, use: ImageUse) -> bool:
    digests = {reference.rpartition("@")[2] for reference in image.digests}
    return any(
        reference in (image.id, *image.names) or reference.rpartition("@")[2] in digests
        for reference in use.references
    )


def _may_change(function: str, use: ImageUse) -> bool:
    """Return True if a deploy may be about to run the function's image."""
    return function in use.changing_functions if function else bool(use.changing_functions)


def _is_own_name(name: str, image: ImageMetadata) -> bool:
    """Return True if fnbuild gave the name, to a revision or to a build."""
    tag, identity = name.rpartition(":")[2], image.id.removeprefix("sha256:")
    return name.startswith(_REVISIONS) or is_build_tag(tag) or tag == identity[:_OLDER_TAG]


def _remove_image(platform: Platform, leftover: Leftover) -> str:
    try:
        removed = choose_engine(platform.image_engine).remove(leftover.name)
    except BuildError as error:
        used = _IN_USE.search(error.message) is not None
        return "a container or another image uses it" if used else error.message
    return "" if removed else "it is gone, or has a name by now"


# Tags of registries


def _add_tags(report: PruneReport, use: ImageUse, request: PruneRequest) -> None:
    places = {repository_of(name) for name in use.repositories}
    clients: dict[str, RegistryClient] = {}
    for name in request.registries:
        places |= set(_catalog(name))
    for place in sorted(places, key=str):
        client = clients.setdefault(place.registry, RegistryClient(place.registry))
        try:
            report.leftovers += _tags_of(client, place, use)
        except UnavailableError as error:
            report.warnings.append(f"{place} was not looked at: {error.message}")


def _catalog(name: str) -> Iterator[Repository]:
    """Yield the repositories of a registry, or those below a path of it."""
    below = repository_of(with_registry(name, "x"))
    prefix = below.name.removesuffix("x")
    for repository in RegistryClient(below.registry).repositories():
        if repository.startswith(prefix):
            yield Repository(below.registry, repository)


def _tags_of(client: RegistryClient, place: Repository, use: ImageUse) -> Iterator[Leftover]:
    digests = {tag: client.digest(place.name, tag) for tag in client.tags(place.name)}
    user_digests = {digest for tag, digest in digests.items() if not is_build_tag(tag)}
    for tag, digest in digests.items():
        build = registry.parse_pushed_build(f"{place}:{tag}@{digest}") if digest else None
        if (
            build is None
            or digest in user_digests
            or registry.is_build_referenced(build, use.references)
        ):
            continue
        labels = client.labels(place.name, digest)
        function = labels.get(FUNCTION_LABEL, "")
        if DIGEST_LABEL in labels and not _may_change(function, use):
            name = f"{build}@{digest}"
            yield Leftover("registry tag", name, _NO_REVISION, function)


def _remove_tag(leftover: Leftover) -> str:
    build = registry.parse_pushed_build(leftover.name)
    if build is not None and registry.remove_build(build):
        return ""
    return "the registry removes nothing, or another tag means it by now"
