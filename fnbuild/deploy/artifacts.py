"""From a function that was read to what its platform runs: a staged folder, or an image."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from fnbuild import trees
from fnbuild.builder import staging
from fnbuild.datadir import data_dir
from fnbuild.errors import FnbuildError, PreconditionError, Report, UnavailableError
from fnbuild.function.files import display_path
from fnbuild.function.reader import LoadedFunction
from fnbuild.function.types import Function
from fnbuild.platforms import Artifact, Deployment, Plan, Platform, Progress

# What makes images is imported on use: most deploys on this machine make none.
if TYPE_CHECKING:
    from fnbuild.builder.image.builder import BuiltImage
    from fnbuild.builder.image.engine import Engine

# These platforms run what this machine's engine has; the others' machines fetch it from a registry.
PLATFORM_ENGINES = {"local": "docker"}
"""Which engine makes the images of a platform; for one that is not here, any will do."""


def prebuilt(image: str, current: Deployment | None) -> Artifact | None:
    """An image that is there already and shall run, None for none.

    The one that runs exactly, as `current` has it, keeps its name and the digest of its code.
    """
    if not image:
        return None
    known = current.details if current is not None else {}
    if image != known.get("pinned"):
        return Artifact("image", image, "")
    name, digest = str(known.get("image") or image), str(known.get("digest", ""))
    return Artifact("image", name, digest, pinned=image)


def planned_artifact(
    loaded: LoadedFunction, ready: Artifact | None, platform: Platform, *, exactly: bool = False
) -> Artifact:
    """What `made` would give, as far as that is known before: nothing is copied or built.

    With `exactly`, an image that was built and pushed from the same code before is asked for.
    """
    if platform.artifact_kind == "folder":
        _reject_image(ready, platform)
        return Artifact("folder", str(loaded.folder), staging.code_digest(loaded))
    if ready is not None:
        return ready
    reference, digest = _image_reference(loaded.function, platform), staging.code_digest(loaded)
    pinned = _pushed_reference(loaded.function, reference, digest) if exactly else ""
    return Artifact("image", reference, digest, pinned=pinned)


def unpushed_image_warnings(plan: Plan, platform: Platform) -> tuple[str, ...]:
    """Return a warning if manifests refer to an image that was not pushed yet."""
    artifact = plan.artifact
    fetched = platform.artifact_kind == "image" and platform.name not in PLATFORM_ENGINES
    if not fetched or not artifact.digest or artifact.pinned:
        return ()
    if not plan.function.spec.build.registry:
        return ()  # nothing will push it; the platform has its own warning for that
    return (
        f"the image {artifact.reference} was not pushed from this code yet: manifests that name it"
        " cannot run before `fnbuild build` or a deploy with the same `-r` pushes it",
    )


def _pushed_reference(function: Function, reference: str, digest: str) -> str:
    """Return the exact reference of the pushed image, "" unless it contains this code."""
    from fnbuild.builder.image import references
    from fnbuild.builder.image.builder import DIGEST_LABEL
    from fnbuild.builder.image.engines.selection import choose_engine

    registry = function.spec.build.registry
    if not registry:
        return ""
    target = references.with_registry(registry, references.image_name(function))
    try:
        facts = choose_engine().inspect(target)
    except UnavailableError:
        return ""
    if facts is None or facts.labels.get(DIGEST_LABEL) != digest:
        return ""
    name = references.parse_reference(target, "the image")["name"]
    tag = references.build_tag(reference, facts.id)
    matches = (
        pushed.removeprefix(f"{name}@") for pushed in facts.digests if pushed.startswith(f"{name}@")
    )
    return next((f"{tag}@{match}" for match in matches), "")


def _image_reference(function: Function, platform: Platform) -> str:
    """The name by which the platform finds the image of the function once it is built."""
    from fnbuild.builder.image import references

    name = references.image_name(function)
    if platform.name in PLATFORM_ENGINES:
        return name
    if function.spec.run_registry:
        return references.with_registry(function.spec.run_registry, name, "spec.runRegistry")
    return references.with_registry(function.spec.build.registry, name)


@contextmanager
def build_artifact(
    loaded: LoadedFunction,
    ready: Artifact | None,
    platform: Platform,
    previous: Path | None,
    progress: Progress,
) -> Iterator[Artifact]:
    """Stage the code and, where the platform runs images, build one, unless it is `ready` already.

    A staged copy is removed after the block, unless the platform took it over. What `previous`, the
    recorded code of a revision, has already is shared with it. The user's name in the registry,
    such as `…:latest`, refers to the new image only after the block has succeeded.
    """
    if platform.artifact_kind == "folder":
        _reject_image(ready, platform)
        progress(f"staging {display_path(loaded.folder)}")
        with staged_code(loaded, previous, progress) as artifact:
            yield artifact
    elif ready is not None:
        yield ready
    else:
        from fnbuild.builder.image import builder
        from fnbuild.builder.image.engines.selection import choose_engine

        engine = choose_engine(PLATFORM_ENGINES.get(platform.name))
        built = _build_unpublished(loaded, engine, progress)
        reference = _image_reference(loaded.function, platform)
        pinned = (
            "" if platform.name in PLATFORM_ENGINES else _pinned_reference(reference, built, engine)
        )
        yield Artifact("image", reference, built.digest, built.warnings, built.id, pinned)
        try:
            builder.publish_image(built, engine, progress)
        except FnbuildError as error:
            named = f"{built.pushed} is not its image yet"
            progress(f"warning: the function runs, but {named}: {error.message}")


def _pinned_reference(reference: str, built: BuiltImage, engine: Engine) -> str:
    """Return the image's reference by the tag of its build, with its digest in a registry."""
    from fnbuild.builder.image import references

    tag = references.build_tag(reference, built.id)
    if built.pushed:
        return f"{tag}@{built.pushed_digest}" if built.pushed_digest else tag
    engine.tag(built.id, tag)
    return tag


def _reject_image(ready: Artifact | None, platform: Platform) -> None:
    if ready is not None:
        raise UnavailableError(
            f"the {platform.name} platform runs folders, and {ready.reference} is an image",
            hint="`--platform local` runs images on a container engine, `--platform kube` in a"
            " cluster; `--path FOLDER` names a folder",
        )


def build_image(loaded: LoadedFunction, engine: Engine, progress: Progress) -> BuiltImage:
    """Build the function's image from its current code, and push its build tag and its name."""
    from fnbuild.builder.image import builder

    built = _build_unpublished(loaded, engine, progress)
    builder.publish_image(built, engine, progress)
    return built


def _build_unpublished(loaded: LoadedFunction, engine: Engine, progress: Progress) -> BuiltImage:
    from fnbuild.builder.image import builder

    progress(f"staging {display_path(loaded.folder)}")
    with staged_code(loaded, None, progress) as code:
        return builder.build_image(loaded, code, engine, progress)


@contextmanager
def staged_code(
    loaded: LoadedFunction, previous: Path | None, progress: Progress
) -> Iterator[Artifact]:
    """An immutable copy of the code, gone behind the block unless a platform took it over."""
    area = data_dir() / "staging"
    area.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = area / f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
    try:
        yield staging.stage(loaded, folder, progress, previous)
    finally:
        trees.try_remove(folder)


def with_image(function: Function, artifact: Artifact) -> Function:
    """The function, with the image that it runs from."""
    if artifact.kind == "folder":
        return function
    spec = msgspec.structs.replace(function.spec, image=artifact.reference)
    return msgspec.structs.replace(function, spec=spec)


@contextmanager
def recorded_artifact(
    platform: Platform, current: Deployment, function: Function, progress: Progress
) -> Iterator[Artifact]:
    """What a deployed function runs from, for another configuration of the same code."""
    namespace, name = function.metadata.namespace, function.metadata.name
    hint = f"deploy it from its folder: `fnbuild deploy {name} --path FOLDER`"
    if platform.artifact_kind == "image":
        image = current.function.spec.image
        if not image:
            raise PreconditionError(f"no image of {name} is recorded", hint=hint)
        details = current.details
        # Behind a rollback the name may mean a newer image than the one that runs.
        known, pinned = str(details.get("image_id", "")), str(details.get("pinned", ""))
        yield Artifact("image", image, str(details.get("digest", "")), id=known, pinned=pinned)
        return
    folder = platform.code_folder(namespace, name)
    if folder is None:
        raise PreconditionError(
            f"the code of {name} is not recorded, so it cannot be updated", hint=hint
        )
    loaded = LoadedFunction(function, Report(), folder, folder / "function.yaml", None, "")
    progress("staging the recorded code")
    with staged_code(loaded, folder, progress) as artifact:
        yield artifact
