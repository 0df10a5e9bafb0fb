"""Build a function's image and push it to a registry.

The lines before the code are built first, and the result is probed for its Python, because the
command of the image has to name one. Then the whole is built, from the engine's cache.
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

from fnbuild.builder import grpc_packages, processor_settings, requirements, torch_index
from fnbuild.builder.artifact import Artifact
from fnbuild.builder.directives import PlacedDirective
from fnbuild.builder.image import base_images, dockerfile, probe, references, registry
from fnbuild.builder.image.base_images import ensure_base_image
from fnbuild.builder.image.context import BuildContext
from fnbuild.builder.image.dockerfile import Dockerfile
from fnbuild.builder.image.engine import Engine, StepError
from fnbuild.builder.image.probe import ImagePython, ProbedImage
from fnbuild.builder.image.recipe import Recipe, create_recipe, create_request
from fnbuild.builder.interpreter import PYTHON_VARIABLE
from fnbuild.datadir import LockHolder, data_dir, hold_lock, make_private_dir
from fnbuild.errors import BuildError, InputError, UnavailableError
from fnbuild.function.files import display_path
from fnbuild.function.reader import LoadedFunction
from fnbuild.function.types import Build, Function
from fnbuild.function.yaml_parser import span_of_value
from fnbuild.progress import Progress

DIGEST_LABEL = "fnbuild.io/digest"
"""The label of an image that holds the hash of the code in it."""

FUNCTION_LABEL = "fnbuild.io/function"
"""The label of an image that names the function it was built for."""

_STEP = re.compile(r"step (\d+)/")
# The folder is in the context if a line of the user's may copy from it.
_HANDLER_FOLDER = "handler"


@dataclass(frozen=True, slots=True)
class BuiltImage:
    """An image that was built.

    `reference` is its name in the engine. In the registry it has two names: `build_image` pushes
    `immutable_reference`, and `publish_image` makes `registry_reference`, the user's name, refer to
    the same image; both are "" without a registry. `digest` is the hash of the code,
    `pushed_digest` the image's digest in the registry.
    """

    reference: str
    id: str
    base: str
    digest: str
    python: ImagePython
    registry_reference: str = ""
    immutable_reference: str = ""
    pushed_digest: str = ""
    warnings: tuple[str, ...] = ()


def build_image(
    loaded: LoadedFunction, code: Artifact, engine: Engine, progress: Progress
) -> BuiltImage:
    """Build the image of a staged function, and push its build tag if it names a registry.

    Raises `BuildError`: for a failed step with its place in the configuration and its output, for a
    base image that is not available, for an image without a usable Python.
    """
    function = loaded.function
    name = references.image_name(function)
    image_build = _ImageBuild(loaded, Path(code.reference), engine, progress)
    with _context_folder(function, progress) as folder:
        image_id, python = image_build.run(folder, name, code.digest)
    warnings = (*code.warnings, *image_build.warnings)
    built = BuiltImage(name, image_id, image_build.base, code.digest, python, warnings=warnings)
    if not function.spec.build.registry:
        return built
    target = references.with_registry(function.spec.build.registry, name)
    return _push_build(built, target, engine, progress)


def publish_image(built: BuiltImage, engine: Engine, progress: Progress) -> None:
    """Make the user's name in the registry, such as `…:latest`, refer to this build."""
    if not built.registry_reference:
        return
    engine.tag(built.id, built.registry_reference)
    progress(f"pushing {built.registry_reference}")
    engine.push(built.registry_reference, progress)


class _ImageBuild:
    """One run of a build."""

    def __init__(
        self, loaded: LoadedFunction, code: Path, engine: Engine, progress: Progress
    ) -> None:
        self._loaded = loaded
        self._function = loaded.function
        self._build = loaded.function.spec.build
        self._code = code
        self._engine = engine
        self._progress = progress
        self._no_cache = self._build.no_cache
        self._reported_steps = 0
        self.base = ""
        self.warnings: list[str] = []

    def run(self, folder: Path, name: str, digest: str) -> tuple[str, ImagePython]:
        """Build the image and return its id and its Python."""
        required = requirements.collect_requirements(self._function, self._code, image=True)
        if warning := torch_index.cuda_torch_warning(required, self._function):
            self._progress(f"warning: {warning}")
        base_image = base_images.choose_base_image(self._function, required.packages)
        self.base = base = base_image.image
        if base in (name, name.removesuffix(":latest")):
            raise BuildError(
                f"spec.build.image and spec.build.baseImage are both {base}: every build would"
                " extend the previous one",
                hint="give the image another name: `--image NAME`",
            )
        metadata, warnings = ensure_base_image(base, self._build, self._engine, self._progress)
        self.warnings += (*base_image.warnings, *warnings)
        self._context = BuildContext(folder, self._function, self._code)
        self.warnings += self._context.warnings
        recipe = create_recipe(
            self._function,
            base,
            shell=metadata.shell if metadata else (),
            heredocs=self._engine.supports_heredocs,
            requirements=_uninstalled_requirements(required.files, self._code, self._build),
            large=self._context.has_large_files,
            architecture=metadata.architecture if metadata else "amd64",
        )
        setup = tuple(PlacedDirective("RUN", line, "") for line in base_image.setup)
        recipe = replace(recipe, pre_copy=(*setup, *recipe.pre_copy))
        base_id = metadata.id if metadata else base
        if not recipe.pre_copy:
            return self._build_both(recipe, folder, base_id, name, digest)
        # Two builds with the same first lines would do the same work, and the one that ends first
        # would remove the image of the other.
        first_lines = f"{base_id}\0{dockerfile.pre_copy_dockerfile(recipe).text}"
        with _exclusively(
            "build", first_lines, "builds an image with the same first lines", self._progress
        ):
            return self._build_both(recipe, folder, base_id, name, digest)

    def _build_both(
        self, recipe: Recipe, folder: Path, base: str, name: str, digest: str
    ) -> tuple[str, ImagePython]:
        """Build the lines before the code, then the full image, which depends on their Python."""
        pre_copy_image = self._build_pre_copy(recipe, folder, base)
        try:
            probed = self._probe(pre_copy_image)
        except BuildError:
            # The lines after the code may install one.
            if not recipe.post_copy:
                raise
            # The name moves to this image only if it has a Python.
            image = self._build_full(recipe, folder, "", digest, probe.UNPROBED_IMAGE)
            probed = self._probe(image)
            is_usual = probed.python.path == probe.UNPROBED_IMAGE.python.path
            if is_usual and not grpc_packages.serves_grpc(self._function):
                self._engine.tag(image, name)
                return image, probed.python
        image = self._build_full(recipe, folder, name, digest, probed)
        if recipe.pre_copy:
            self._remove_pre_copy(pre_copy_image)
        return image, probed.python

    def _remove_pre_copy(self, image: str) -> None:
        """Remove the image of the lines before the code.

        BuildKit keeps it as a separate image. With the classic builder it is a part of the whole,
        which the engine does not remove.
        """
        with suppress(BuildError):
            self._engine.remove(image)

    def _build_pre_copy(self, recipe: Recipe, folder: Path, base: str) -> str:
        """Build the lines before the code, and return the id of the image."""
        if not recipe.pre_copy:
            return base
        content = dockerfile.pre_copy_dockerfile(recipe)
        if (folder / _HANDLER_FOLDER).is_dir():
            return self._run_build(content, folder, ())
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{os.getpid()}-") as empty:
            return self._run_build(content, Path(empty), ())

    def _build_full(
        self, recipe: Recipe, folder: Path, name: str, digest: str, probed: ProbedImage
    ) -> str:
        grpc = self._grpc_packages(probed.python)
        self._context.write_archives(
            processor_settings.processor_settings(self._function),
            probed,
            grpc=grpc,
            offline=self._build.offline,
        )
        labels = ((DIGEST_LABEL, digest), (FUNCTION_LABEL, self._function.metadata.name))
        recipe = replace(recipe, grpc=grpc is not None, labels=labels)
        content = dockerfile.full_dockerfile(recipe, probed.python)
        return self._run_build(content, folder, (name,) if name else ())

    def _grpc_packages(self, python: ImagePython) -> Path | None:
        """Return the packages of the gRPC server; None if the function needs or gets none."""
        if not grpc_packages.serves_grpc(self._function) or not python.system:
            return None
        target = grpc_packages.GrpcPython(python.version[:2], python.system, python.implementation)
        try:
            return grpc_packages.ensure_packages(
                target, self._progress, offline=self._build.offline
            )
        except BuildError as error:
            self.warnings.append(f"gRPC is not served, only HTTP: {error.message}; {error.hint}")
            return None

    def _run_build(self, content: Dockerfile, folder: Path, tags: tuple[str, ...]) -> str:
        file = folder / dockerfile.DOCKERFILE_NAME
        file.write_text(content.text)
        request = create_request(self._build, folder, file)
        request = replace(request, tags=tags, no_cache=self._no_cache)
        try:
            image = self._engine.build(request, self._report_progress)
        except StepError as error:
            raise self._with_place(error, content) from error
        # The second build may use the cache of the first.
        self._no_cache = False
        self._reported_steps = len(content.instructions)
        return image

    def _report_progress(self, text: str) -> None:
        """Report progress, except for steps that the build before the code reported."""
        step = _STEP.match(text)
        if step is None or int(step[1]) > self._reported_steps:
            self._progress(text)

    def _with_place(self, error: StepError, content: Dockerfile) -> BuildError:
        """Return the error with the place of the user's line."""
        step = error.step
        place = content.instructions[step].place if step is not None else ""
        if not place:
            return error
        path, text = self._loaded.config_path, self._loaded.text
        span = None
        if path is not None:
            name = display_path(path)
            span = span_of_value(text, name, f"{place}.value") or span_of_value(text, name, place)
        location = f"{span}: {place}" if span else place
        return BuildError(f"{location}: {error.message}", hint=error.hint, detail=error.detail)

    def _probe(self, image: str) -> ProbedImage:
        """Probe the image; the function or the image may name its Python."""
        variables = {variable.name: variable.value for variable in self._function.spec.env}
        metadata = self._engine.inspect(image)
        requested = variables.get(PYTHON_VARIABLE) or (metadata.env if metadata else {}).get(
            PYTHON_VARIABLE
        )
        return probe.probe_image(self._engine, image, requested)


@contextmanager
def _exclusively(kind: str, key: str, activity: str, progress: Progress) -> Iterator[None]:
    """Hold a lock so that only one process at a time does the same work.

    `activity` describes the work of the process that holds it.
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
    """Provide the folder of the build context; `noCleanup` keeps it."""
    build = function.spec.build
    parent = (
        _temp_dir(Path(build.temp_dir))
        if build.temp_dir
        else make_private_dir(data_dir() / "staging")
    )
    prefix = f"{os.getpid()}-image-"
    if build.no_cleanup:
        kept = Path(tempfile.mkdtemp(dir=parent, prefix="kept-image-"))
        progress(f"the build context stays in {kept}")
        yield kept
        return
    with tempfile.TemporaryDirectory(dir=parent, prefix=prefix) as folder:
        yield Path(folder)


def _temp_dir(folder: Path) -> Path:
    """Return the requested folder, which is created if necessary, as in Nuclio's builder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Fails if this user may not write there.
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise InputError(
            f"spec.build.tempDir: cannot write to {folder}: {error.strerror}"
        ) from error
    return folder


def _uninstalled_requirements(files: tuple[Path, ...], code: Path, build: Build) -> str | None:
    """Return the folder's requirements.txt if no line of the user's installs it."""
    file = code / "requirements.txt"
    lines = [*build.commands, *(directive.value for directive in build.directives.pre_copy)]
    lines += [directive.value for directive in build.directives.post_copy]
    is_named = any("requirements.txt" in line for line in lines)
    return file.name if file in files and not is_named else None


def _push_build(built: BuiltImage, target: str, engine: Engine, progress: Progress) -> BuiltImage:
    """Push the image by its build tag, unless the registry already has it."""
    reference = references.immutable_reference(target, built.id)
    with _exclusively("push", reference, "pushes the same image", progress):
        digest = _pushed_digest(reference, built.id)
        if digest:
            progress(f"the registry already has {reference}")
        else:
            engine.tag(built.id, reference)
            progress(f"pushing {reference}")
            try:
                digest = engine.push(reference, progress)
            finally:
                # The engine keeps the image by the user's name; the build tag is for the registry.
                engine.remove(reference)
    return replace(
        built, registry_reference=target, immutable_reference=reference, pushed_digest=digest
    )


def _pushed_digest(tag: str, image_id: str) -> str:
    """Return the digest of a build that was pushed before, "" if there is none or it is unknown.

    A second push might compress the layers differently. The tag would then move to a new digest,
    and the digest that older revisions run would have no tag.
    """
    try:
        repository = registry.repository_of(tag)
        client = registry.RegistryClient(repository.registry)
        digest = client.digest(repository.name, tag.rpartition(":")[2])
        is_same = digest and image_id in (digest, client.image_id(repository.name, digest))
    except UnavailableError:
        return ""  # the push reports the error
    return digest if is_same else ""
