"""Builds a function's image: base, what the user's lines make of it, Python, code, registry.

The Dockerfile's beginning (everything before the code) is built first and asked for its Python,
since the command of the image has to name one. The whole is built then, from the engine's cache.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from fnbuild.builder import processor_settings, requirements, torch_index
from fnbuild.builder.directives import Directive
from fnbuild.builder.image import base_images, dockerfile, probe, references, registry
from fnbuild.builder.image.base_images import ensure_base_image
from fnbuild.builder.image.context import BuildContext
from fnbuild.builder.image.dockerfile import Dockerfile
from fnbuild.builder.image.engine import Engine, Progress, StepError
from fnbuild.builder.image.probe import ImagePythons
from fnbuild.builder.image.recipe import Recipe, create_recipe, create_request
from fnbuild.builder.staging import Artifact
from fnbuild.datadir import LockHolder, data_dir, hold_lock, make_private_dir
from fnbuild.errors import BuildError, InputError, UnavailableError
from fnbuild.function.files import display_path
from fnbuild.function.reader import LoadedFunction
from fnbuild.function.types import Build, Function
from fnbuild.function.yaml_parser import span_of_value

DIGEST_LABEL = "fnbuild.io/digest"
"""The label of an image that holds the hash of the code in it."""

FUNCTION_LABEL = "fnbuild.io/function"
"""The label of an image that names the function it was built for."""

_STEP = re.compile(r"step (\d+)/")
# In the context when a line of the user's may copy from it.
_HANDLER_FOLDER = "handler"


@dataclass(frozen=True, slots=True)
class BuiltImage:
    """An image. `reference` is its name in the engine, `pushed` that in the registry, if any.

    In the registry it has two names: `build` pushes `build_tag`, which never refers to another
    image, and `publish` makes `pushed`, the user's name, refer to it. `digest` is the hash of the
    code, `pushed_digest` the image's digest in the registry.
    """

    reference: str
    id: str
    base: str
    digest: str
    pythons: ImagePythons
    pushed: str = ""
    build_tag: str = ""
    pushed_digest: str = ""
    warnings: tuple[str, ...] = ()


def build_image(
    loaded: LoadedFunction, code: Artifact, engine: Engine, progress: Progress
) -> BuiltImage:
    """Build the image of a staged function, and push its build tag if it names a registry.

    Raises `BuildError`: a failed step with its place in the configuration and its own output, a
    base image that cannot be had, an image without a usable Python.
    """
    function = loaded.function
    name = references.image_name(function)
    making = _ImageBuild(loaded, Path(code.reference), engine, progress)
    with _context_folder(function, progress) as folder:
        image, found = making.run(folder, name, code.digest)
    warnings = (*code.warnings, *making.warnings)
    built = BuiltImage(name, image, making.base, code.digest, found, warnings=warnings)
    if not function.spec.build.registry:
        return built
    target = references.with_registry(function.spec.build.registry, name)
    return _push_build(built, target, engine, progress)


def publish_image(built: BuiltImage, engine: Engine, progress: Progress) -> None:
    """Make the user's name in the registry, such as `…:latest`, refer to this build."""
    if not built.pushed:
        return
    engine.tag(built.id, built.pushed)
    progress(f"pushing {built.pushed}")
    engine.push(built.pushed, progress)


class _ImageBuild:
    """One build under way."""

    def __init__(
        self, loaded: LoadedFunction, code: Path, engine: Engine, progress: Progress
    ) -> None:
        self._loaded = loaded
        self._function = loaded.function
        self._build = loaded.function.spec.build
        self._code = code
        self._engine = engine
        self._progress = progress
        self._fresh = self._build.no_cache
        self._told = 0
        self.base = ""
        self.warnings: list[str] = []

    def run(self, folder: Path, name: str, digest: str) -> tuple[str, ImagePythons]:
        """The image's id, and its Pythons."""
        wanted = requirements.collect_requirements(self._function, self._code, image=True)
        if warning := torch_index.cuda_torch_warning(wanted, self._function):
            self._progress(f"warning: {warning}")
        chosen = base_images.choose_base_image(self._function, wanted.packages)
        self.base = base = chosen.image
        if base in (name, name.removesuffix(":latest")):
            raise BuildError(
                f"spec.build.image and spec.build.baseImage are both {base}: every build would"
                " stand on the one before",
                hint="give the image another name: `--image NAME`",
            )
        facts, warnings = ensure_base_image(base, self._build, self._engine, self._progress)
        self.warnings += (*chosen.warnings, *warnings)
        self._context = BuildContext(folder, self._function, self._code)
        self.warnings += self._context.warnings
        recipe = create_recipe(
            self._function,
            base,
            shell=facts.shell if facts else (),
            heredocs=self._engine.heredocs,
            requirements=_unused_requirements(wanted.files, self._code, self._build),
            large=self._context.large,
            architecture=facts.architecture if facts else "amd64",
        )
        setup = tuple(Directive("RUN", line, "") for line in chosen.setup)
        recipe = replace(recipe, pre_copy=(*setup, *recipe.pre_copy))
        start = facts.id if facts else base
        if not recipe.pre_copy:
            return self._make(recipe, folder, start, name, digest)
        # Two builds with the same first lines would do the same work, and the first to end would
        # remove the image of the other.
        beginning = f"{start}\0{dockerfile.pre_copy_dockerfile(recipe).text}"
        with _exclusively("build", beginning, "builds with the same first lines", self._progress):
            return self._make(recipe, folder, start, name, digest)

    def _make(
        self, recipe: Recipe, folder: Path, start: str, name: str, digest: str
    ) -> tuple[str, ImagePythons]:
        prepared = self._prepare(recipe, folder, start)
        try:
            found = self._pythons(prepared)
        except BuildError:
            # What comes behind the code may install one.
            if not recipe.post_copy:
                raise
            # The name keeps what it means until it is known that this one has a Python.
            image = self._whole(recipe, folder, "", digest, probe.DEFAULT_PYTHONS)
            found = self._pythons(image)
            if found.processor.path == probe.DEFAULT_PYTHONS.processor.path:
                self._engine.tag(image, name)
                return image, found
        image = self._whole(recipe, folder, name, digest, found)
        if recipe.pre_copy:
            self._forget(prepared)
        return image, found

    def _forget(self, prepared: str) -> None:
        """BuildKit makes an image of its own of what was only to be looked at.

        With the classic builder it is a part of the whole, which the engine does not remove.
        """
        with suppress(BuildError):
            self._engine.remove(prepared)

    def _prepare(self, recipe: Recipe, folder: Path, base: str) -> str:
        """The id of what the lines before the code make of the base image."""
        if not recipe.pre_copy:
            return base
        lines = dockerfile.pre_copy_dockerfile(recipe)
        if (folder / _HANDLER_FOLDER).is_dir():
            return self._run(lines, folder, ())
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{os.getpid()}-") as empty:
            return self._run(lines, Path(empty), ())

    def _whole(
        self, recipe: Recipe, folder: Path, name: str, digest: str, found: ImagePythons
    ) -> str:
        self._context.fill(
            processor_settings.processor_settings(self._function),
            found,
            offline=self._build.offline,
        )
        lines = dockerfile.full_dockerfile(recipe, found.handler)
        labels = {DIGEST_LABEL: digest, FUNCTION_LABEL: self._function.metadata.name}
        return self._run(lines, folder, (name,) if name else (), labels)

    def _run(
        self,
        lines: Dockerfile,
        folder: Path,
        tags: tuple[str, ...],
        labels: dict[str, str] | None = None,
    ) -> str:
        file = folder / dockerfile.DOCKERFILE_NAME
        file.write_text(lines.text)
        request = create_request(self._build, folder, file)
        request = replace(request, tags=tags, labels=labels or {}, no_cache=self._fresh)
        try:
            image = self._engine.build(request, self._tell)
        except StepError as error:
            raise self._placed(error, lines) from error
        # What was made a moment ago is fresh enough for the build of the whole.
        self._fresh = False
        self._told = len(lines.instructions)
        return image

    def _tell(self, text: str) -> None:
        """Pass progress on, but for steps that were told of when the beginning was built."""
        step = _STEP.match(text)
        if step is None or int(step[1]) > self._told:
            self._progress(text)

    def _placed(self, error: StepError, lines: Dockerfile) -> BuildError:
        """The failure with the place of the line that the user wrote."""
        step = error.step
        place = lines.instructions[step].place if step is not None else ""
        if not place:
            return error
        path, text = self._loaded.config_path, self._loaded.text
        span = None
        if path is not None:
            name = display_path(path)
            span = span_of_value(text, name, f"{place}.value") or span_of_value(text, name, place)
        where = f"{span}: {place}" if span else place
        return BuildError(f"{where}: {error.message}", hint=error.hint, detail=error.detail)

    def _pythons(self, image: str) -> ImagePythons:
        """The image's, one of which the function, or else the image, may ask for by name."""
        own = {one.name: one.value for one in self._function.spec.env}
        facts = self._engine.inspect(image)
        asked = own.get(probe.PYTHON_VARIABLE) or (facts.env if facts else {}).get(
            probe.PYTHON_VARIABLE
        )
        return probe.find_pythons(self._engine, image, asked)


@contextmanager
def _exclusively(kind: str, key: str, activity: str, progress: Progress) -> Iterator[None]:
    """Hold a lock so that only one process at a time does the same work.

    `activity` describes the work of the process that is waited for.
    """
    path = data_dir() / "run" / f"{kind}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.lock"

    def wait(holder: LockHolder) -> None:
        progress(f"waiting for {holder}, which {activity}")

    with hold_lock(path, "built", wait):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


@contextmanager
def _context_folder(function: Function, progress: Progress) -> Iterator[Path]:
    """The folder of the build context; it is kept where that is asked for."""
    build = function.spec.build
    area = (
        _temp_dir(Path(build.temp_dir))
        if build.temp_dir
        else make_private_dir(data_dir() / "staging")
    )
    prefix = f"{os.getpid()}-image-"
    if build.no_cleanup:
        kept = Path(tempfile.mkdtemp(dir=area, prefix="kept-image-"))
        progress(f"the build context stays in {kept}")
        yield kept
        return
    with tempfile.TemporaryDirectory(dir=area, prefix=prefix) as folder:
        yield Path(folder)


def _temp_dir(folder: Path) -> Path:
    """The folder that was asked for, made when it is not there, as Nuclio's builder does."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Whoever may not write there hears of it here.
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise InputError(
            f"spec.build.tempDir: cannot write to {folder}: {error.strerror}"
        ) from error
    return folder


def _unused_requirements(files: tuple[Path, ...], code: Path, build: Build) -> str | None:
    """The folder's requirements.txt, when no line of the user's reads it."""
    usual = code / "requirements.txt"
    lines = [*build.commands, *(one.value for one in build.directives.pre_copy)]
    lines += [one.value for one in build.directives.post_copy]
    named = any("requirements.txt" in line for line in lines)
    return usual.name if usual in files and not named else None


def _push_build(built: BuiltImage, target: str, engine: Engine, progress: Progress) -> BuiltImage:
    """Push the image by its build tag, unless the registry has it already."""
    tag = references.build_tag(target, built.id)
    with _exclusively("push", tag, "pushes the same image", progress):
        digest = _pushed_digest(tag, built.id)
        if digest:
            progress(f"the registry has {tag} already")
        else:
            engine.tag(built.id, tag)
            progress(f"pushing {tag}")
            try:
                digest = engine.push(tag, progress)
            finally:
                # The engine keeps the image by the user's name; this one is for the registry.
                engine.remove(tag)
    return replace(built, pushed=target, build_tag=tag, pushed_digest=digest)


def _pushed_digest(tag: str, identity: str) -> str:
    """Return the digest of a build that was pushed before, "" if there is none or it is unknown.

    A second push might compress the layers differently. The tag would then move to a new digest,
    and the digest that older revisions run would have no tag.
    """
    try:
        place = registry.repository_of(tag)
        client = registry.RegistryClient(place.registry)
        digest = client.digest(place.repository, tag.rpartition(":")[2])
        same = digest and identity in (digest, client.image_id(place.repository, digest))
    except UnavailableError:
        return ""  # the push reports the error
    return digest if same else ""
