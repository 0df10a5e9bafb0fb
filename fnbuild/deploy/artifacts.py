"""Artifacts of a deploy: the staged folder or the image that a platform runs."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fnbuild import trees
from fnbuild.builder import staging
from fnbuild.builder.image import references
from fnbuild.datadir import data_dir
from fnbuild.errors import FnbuildError, PreconditionError, Report, UnavailableError
from fnbuild.function.files import display_path
from fnbuild.function.reader import LoadedFunction
from fnbuild.function.types import Function
from fnbuild.platforms import Artifact, Deployment, Plan, Platform, Progress

# Image builders are imported late for start-up time: deploys of processes build no image.
if TYPE_CHECKING:
    from fnbuild.builder.image.builder import BuiltImage
    from fnbuild.builder.image.engine import Engine


_NO_IMAGE = Artifact("image", "", "")


def artifact_without_build(
    platform: Platform, function: Function, image: str, current: Deployment | None
) -> Artifact | None:
    """Return the artifact of a function that needs no build, None for one that does.

    A function without code has an artifact without a reference.
    """
    return prebuilt(image, current) if platform.runs_code(function) else _NO_IMAGE


def prebuilt(image: str, current: Deployment | None) -> Artifact | None:
    """Return the artifact of an existing image, None without one.

    The exact image of `current` keeps its name and the digest of its code.
    """
    if not image:
        return None
    if current is None or current.image is None or image != current.image.pinned:
        return Artifact("image", image, "")
    return replace(current.image, reference=current.image.reference or image)


def planned_artifact(
    loaded: LoadedFunction, ready: Artifact | None, platform: Platform, *, exactly: bool = False
) -> Artifact:
    """Return the artifact of a future build, as far as it is known. Copies and builds nothing.

    With `exactly`, look up an image that was built from the same code and pushed before.
    """
    if platform.artifact_kind == "folder":
        _refuse_image(ready, platform)
        return Artifact("folder", str(loaded.folder), staging.code_digest(loaded))
    if ready is not None:
        return ready
    reference, digest = _image_reference(loaded.function, platform), staging.code_digest(loaded)
    pinned = _pushed_reference(loaded.function, reference, digest) if exactly else ""
    return Artifact("image", reference, digest, pinned=pinned)


def unpushed_image_warnings(plan: Plan, platform: Platform) -> tuple[str, ...]:
    """Return a warning if manifests refer to an image that was not pushed yet."""
    artifact = plan.artifact
    if not platform.pulls_images or not artifact.digest or artifact.pinned:
        return ()
    if not plan.function.spec.build.registry:
        return ()  # the platform warns that nothing pushes the image
    return (
        f"the image {artifact.reference} was not pushed from this code yet: manifests that name it"
        " cannot run before `fnbuild build` or a deploy with the same `-r` pushes it",
    )


def _pushed_reference(function: Function, reference: str, digest: str) -> str:
    """Return the exact reference of the pushed image, "" unless it contains this code."""
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
    tag = references.immutable_reference(reference, facts.id)
    matches = (
        pushed.removeprefix(f"{name}@") for pushed in facts.digests if pushed.startswith(f"{name}@")
    )
    return next((f"{tag}@{match}" for match in matches), "")


def _image_reference(function: Function, platform: Platform) -> str:
    """Return the name by which the platform finds the image of the function after the build."""
    name = references.image_name(function)
    if platform.image_engine:
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
    """Stage the code and, for a platform that runs images, build one unless `ready` is given.

    The staged copy is removed after the block unless the platform took it over. Files that equal
    those of `previous`, the recorded code of a revision, are shared with it. The user's name in the
    registry, such as `…:latest`, refers to the new image only after the block has succeeded.
    """
    if platform.artifact_kind == "folder":
        _refuse_image(ready, platform)
        progress(f"staging {display_path(loaded.folder)}")
        with staged_code(loaded, previous, progress) as artifact:
            yield artifact
    elif ready is not None:
        yield ready
    else:
        from fnbuild.builder.image import builder
        from fnbuild.builder.image.engines.selection import choose_engine

        engine = choose_engine(platform.image_engine)
        built = _build_unpublished(loaded, engine, progress)
        reference = _image_reference(loaded.function, platform)
        pinned = "" if platform.image_engine else _pinned_reference(reference, built, engine)
        yield Artifact("image", reference, built.digest, built.warnings, built.id, pinned)
        try:
            builder.publish_image(built, engine, progress)
        except FnbuildError as error:
            named = f"{built.registry_reference} is not its image yet"
            progress(f"warning: the function runs, but {named}: {error.message}")


def _pinned_reference(reference: str, built: BuiltImage, engine: Engine) -> str:
    """Return the image's reference by the tag of its build, with its digest in a registry."""
    tag = references.immutable_reference(reference, built.id)
    if built.registry_reference:
        return f"{tag}@{built.pushed_digest}" if built.pushed_digest else tag
    engine.tag(built.id, tag)
    return tag


def _refuse_image(ready: Artifact | None, platform: Platform) -> None:
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
    """Stage an immutable copy of the code.

    It is removed after the block unless the platform took it over.
    """
    area = data_dir() / "staging"
    area.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = area / f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
    try:
        yield staging.stage(loaded, folder, progress, previous)
    finally:
        trees.try_remove(folder)


def with_image(function: Function, artifact: Artifact) -> Function:
    """Return the function with the image of the artifact."""
    if artifact.kind == "folder":
        return function
    return function.with_spec(image=artifact.reference)


@contextmanager
def recorded_artifact(
    platform: Platform, current: Deployment, function: Function, progress: Progress
) -> Iterator[Artifact]:
    """Yield the artifact of a deployed function, for a new configuration of the same code."""
    namespace, name = function.metadata.namespace, function.metadata.name
    hint = f"deploy it from its folder: `fnbuild deploy {name} --path FOLDER`"
    if not platform.runs_code(function):
        yield _NO_IMAGE
        return
    if platform.artifact_kind == "image":
        image = current.function.spec.image
        if not image:
            raise PreconditionError(f"no image of {name} is recorded", hint=hint)
        # After a rollback the name may refer to a newer image than the running one.
        running = current.image or Artifact("image", image, "")
        yield replace(running, reference=image)
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
