"""Builds in registries: parse references to them, and remove builds that are not needed.

A registry deletes manifests, not tags, and all tags of a manifest are deleted with it. So a build
is removed only if no other tag, which may be a user's own, refers to it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from fnbuild.build.image import names
from fnbuild.build.image.registry import Place, Registry, place_of
from fnbuild.errors import InputError


@dataclass(frozen=True, slots=True)
class PushedBuild:
    """A build in a registry: its repository, tag and digest."""

    place: Place
    tag: str
    digest: str

    def __str__(self) -> str:
        return f"{self.place}:{self.tag}"


def pushed_build(reference: str, registry: str = "", run_registry: str = "") -> PushedBuild | None:
    """Return the build of an exact reference; None if it is not a pushed build of fnbuild.

    `reference` may have the registry's name on the nodes, `run_registry`. The build has the name
    under which this machine pushed it, with `registry`.
    """
    try:
        parts = names.check_reference(reference, "the image")
        tag, digest, name = parts["tag"] or "", parts["digest"] or "", parts["name"]
        if not digest or not names.is_build_tag(tag):
            return None
        if registry and run_registry:
            name = names.with_registry(registry, names.without_registry(run_registry, name))
        return PushedBuild(place_of(name), tag, digest)
    except InputError:
        return None


def is_needed(build: PushedBuild, references: Collection[str]) -> bool:
    """Return True if a reference is to the build, by its digest or by its tag alone."""
    return any(
        reference.endswith(f"@{build.digest}")
        or ("@" not in reference and reference.endswith(f":{build.tag}"))
        for reference in references
    )


def remove(build: PushedBuild) -> bool:
    """Remove a build from its registry; return False if it stays.

    It stays if another tag refers to it as well, and in a registry that does not allow deletion.
    Raises `UnavailableError` if the registry does not answer.
    """
    registry, repository = Registry(build.place.registry), build.place.repository
    if registry.digest(repository, build.tag) != build.digest:
        return False
    other_tags = (tag for tag in registry.tags(repository) if tag != build.tag)
    if any(registry.digest(repository, tag) == build.digest for tag in other_tags):
        return False
    return registry.delete(repository, build.digest)
