"""The base image of a function: choose it, build it if its Dockerfile is at hand, and pull it.

A function that names no base image gets Python alone, or with CUDA if it has a GPU limit. The
images with CUDA are listed in cuda.toml beside this module. Only images with the Python that the
function's `runtime` names are used.

A base image may have its Dockerfile beside the function, as in CVAT's folder of functions. CVAT's
script (serverless/deploy_cpu.sh) builds `a/b/nuclio/Dockerfile` as `cvat.a.b.base`, and the one
that several share, `openvino/base/Dockerfile`, as `cvat.openvino.base`. Functions name these
images as their base images.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from threading import Lock

from fnbuild.builder import requirements
from fnbuild.builder.image.engine import BuildRequest, Engine, ImageMetadata
from fnbuild.errors import BuildError
from fnbuild.function.platform_rules import gpu_count
from fnbuild.function.reader import LoadedFunction
from fnbuild.function.types import Build, Function
from fnbuild.progress import Progress

_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*([^;@#]*)")
_SPECIFIER = re.compile(r"(===|==|~=|!=|<=|>=|<|>)\s*([0-9][0-9A-Za-z.*+-]*)")
_CUDA_LABEL = re.compile(r"\+cu(\d+)(\d)\Z")

_CVAT_BASE_NAME = re.compile(r"cvat\.(?P<place>.+)\.base(?::latest)?")
_FROM = re.compile(r"^\s*FROM\s+(?:--\S+\s+)*(\S+)", re.IGNORECASE | re.MULTILINE)
_DOCKERFILE = "Dockerfile"


@dataclass(frozen=True, slots=True)
class BaseImage:
    """A base image; `setup` are the RUN lines that install what it lacks."""

    image: str
    setup: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CudaImage:
    """An image of the table; `packages` are its releases, `cuda` is a version such as 12.8."""

    image: str
    python: str
    packages: tuple[tuple[str, str], ...] = ()
    cuda: str = ""
    setup: tuple[str, ...] = ()


@cache
def _cuda_images() -> tuple[tuple[CudaImage, ...], tuple[CudaImage, ...], frozenset[str]]:
    """Return the images with torch, those without, and the packages that need torch."""
    text = resources.files(__package__).joinpath("cuda.toml").read_text("utf-8")
    raw = tomllib.loads(text)
    torch = tuple(
        CudaImage(
            row["image"].format(cuda=cuda),
            row["python"],
            (("torch", row["torch"]), ("torchvision", row["torchvision"])),
            cuda,
            tuple(row.get("setup", ())),
        )
        for row in raw["torch"]
        for cuda in row["cuda"]
    )
    plain = tuple(
        CudaImage(row["image"], row["python"], setup=tuple(row["setup"])) for row in raw["cuda"]
    )
    return torch, plain, frozenset(raw["needs_torch"])


def choose_base_image(function: Function, packages: Iterable[str]) -> BaseImage:
    """Return the image to build on. `packages` are the function's requirements, as written.

    `build.baseImage` is used unchanged; other images get the prefix `build.baseImageRegistry`, as
    in Nuclio (pkg/processor/build/builder.go). If no image with CUDA fits, the plain one is used
    with a warning that lists the alternatives: packages may bring the CUDA libraries themselves.
    """
    build = function.spec.build
    if build.base_image:
        return BaseImage(build.base_image)
    plain = BaseImage(function.spec.runtime)
    base = _choose_cuda_image(function, list(packages)) if gpu_count(function) else plain
    registry = re.sub(r"\A\w+://", "", build.base_image_registry).rstrip("/")
    image = f"{registry}/{base.image}" if registry else base.image
    return BaseImage(image, base.setup, base.warnings)


def needs_torch(packages: Iterable[str]) -> bool:
    """Return True if the requirements name torch or a package that depends on it."""
    return any(
        name == "torch" or name in _cuda_images()[2] for name, _ in _parse_requirements(packages)
    )


def _choose_cuda_image(function: Function, packages: list[str]) -> BaseImage:
    """Return an image with CUDA, or the plain one with a warning if none fits."""
    torch, plain, _ = _cuda_images()
    specifiers = dict(_parse_requirements(packages))
    runtime = function.spec.runtime
    python = ".".join(runtime.partition(":")[2].split(".")[:2])
    if needs_torch(packages):
        fitting = [row for row in torch if _fits(row, specifiers)]
        warning = _no_torch_warning(runtime, specifiers, fitting)
    else:
        # Without the network nothing can be installed into an image.
        fitting = [] if function.spec.build.offline else list(plain)
        pythons = ", ".join(row.python for row in plain)
        warning = (
            f"no image with CUDA has Python {python} (there is {pythons}), so {runtime} is the base"
            " image: the function's packages must bring CUDA's libraries, as"
            " onnxruntime-gpu[cuda,cudnn] does; build.baseImage names another image"
        )
    exact = next((row for row in fitting if row.python == python), None)
    if exact is None:
        return BaseImage(runtime, warnings=(warning,))
    return BaseImage(exact.image, exact.setup)


def _no_torch_warning(runtime: str, specifiers: dict[str, str], fitting: list[CudaImage]) -> str:
    requested = " ".join(
        f"{name}{specifiers[name]}" for name in ("torch", "torchvision") if name in specifiers
    )
    if fitting:
        pythons = sorted({row.python for row in fitting}, key=_version)
        example = f"with `runtime: python:{fitting[0].python}` it is {fitting[0].image}"
        versions = ", ".join(pythons)
        cause = f"has {requested or 'torch'} with that Python, only with {versions}; {example}"
    else:
        releases = [dict(row.packages)["torch"] for row in _cuda_images()[0]]
        cause = f"has {requested}, only torch {releases[-1]} to {releases[0]}"
    return (
        f"the base image is {runtime}, without CUDA: no image {cause}. pip's torch for Linux brings"
        " CUDA's libraries itself; build.baseImage names another image"
    )


def _parse_requirements(packages: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield normalized package names with their version specifiers."""
    for text in packages:
        match = _REQUIREMENT.match(text)
        if match and "://" not in text.partition("@")[0] and "/" not in match[1]:
            yield re.sub(r"[-_.]+", "-", match[1]).lower(), match[2].replace(" ", "").strip("()")


def _fits(row: CudaImage, requested: dict[str, str]) -> bool:
    for name, release in row.packages:
        specifiers = requested.get(name, "")
        if not release_allowed(specifiers, release):
            return False
        for _, version in _SPECIFIER.findall(specifiers):
            # A label, as in 2.7.1+cu118, names the CUDA version.
            label = _CUDA_LABEL.search(version)
            if label and f"{label[1]}.{label[2]}" != row.cuda:
                return False
    return True


def release_allowed(specifiers: str, release: str) -> bool:
    """Return True if specifiers such as `>=2.1,<2.5` or `==2.7.*` allow a release (no label)."""
    return all(
        _specifier_allows(sign, version, release)
        for sign, version in _SPECIFIER.findall(specifiers)
    )


def _specifier_allows(sign: str, wanted: str, release: str) -> bool:
    have, want = _version(release), _version(wanted)
    if wanted.endswith(".*"):
        same = have[: len(want)] == want
        return same if sign == "==" else not same
    if sign == "~=":
        return have[: len(want) - 1] == want[:-1] and have >= want
    length = max(len(have), len(want))
    have, want = (numbers + (0,) * (length - len(numbers)) for numbers in (have, want))
    return {
        "==": have == want,
        "===": have == want,
        "!=": have != want,
        "<=": have <= want,
        ">=": have >= want,
        "<": have < want,
        ">": have > want,
    }[sign]


def _version(text: str) -> tuple[int, ...]:
    """Return the numbers of a release: `2.7.1+cu128` is (2, 7, 1)."""
    match = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(int(part) for part in match[0].split(".")) if match else ()


@dataclass(slots=True)
class CvatBaseImageBuilder:
    """Builds the base images `cvat.*.base` of many functions, each once and one at a time."""

    engine: Engine
    _built: set[Path] = field(default_factory=set)
    _building: Lock = field(default_factory=Lock)

    def build(self, function: Function, folder: Path, progress: Progress) -> None:
        """Build the function's base image if its Dockerfile is beside it. Raises `BuildError`."""
        image = function.spec.build.base_image
        root = _functions_root(image, folder.resolve())
        if root is not None and (folder / _DOCKERFILE).is_file():
            with self._building:
                self._build(image, folder.resolve(), root, progress)

    def _build(self, image: str, folder: Path, root: Path, progress: Progress) -> None:
        if folder in self._built:
            return
        file = folder / _DOCKERFILE
        for parent_image in _FROM.findall(file.read_text(errors="replace")):
            shared_folder = _shared_folder(parent_image, root)
            if shared_folder is not None:
                self._build(parent_image, shared_folder, root, progress)
        progress(f"building the base image {image}")
        self.engine.build(BuildRequest(folder, file, (image,)), progress)
        self._built.add(folder)


def _functions_root(image: str, folder: Path) -> Path | None:
    """Return the folder ROOT such that `cvat.a.b.base` is built from `folder`, ROOT/a/b/nuclio.

    None if the image is not named after `folder`.
    """
    match = _CVAT_BASE_NAME.fullmatch(image)
    if match is None:
        return None
    parent = folder.parent
    for root in parent.parents:
        if ".".join(parent.relative_to(root).parts) == match["place"]:
            return root
    return None


def _shared_folder(image: str, root: Path) -> Path | None:
    """Return the folder of a shared base image; None for other images."""
    match = _CVAT_BASE_NAME.fullmatch(image)
    if match is None:
        return None
    folder = root.joinpath(*match["place"].split("."), "base")
    return folder if (folder / _DOCKERFILE).is_file() else None


def prefetch_base_image(loaded: LoadedFunction, engine: Engine, progress: Progress) -> str:
    """Pull the base image of a function if the engine lacks it, and return its name.

    This prepares builds without the network: `spec.build.offline` does not prevent it.
    """
    required = requirements.collect_requirements(loaded.function, loaded.folder, image=True)
    base = choose_base_image(loaded.function, required.packages).image
    if engine.inspect(base) is None:
        engine.pull(base, progress)
    return base


def ensure_base_image(
    base: str, build: Build, engine: Engine, progress: Progress
) -> tuple[ImageMetadata | None, tuple[str, ...]]:
    """Return the metadata of a build's base image, which is pulled if necessary, and warnings.

    `noCache` pulls it again, unless pulling is disabled. Raises `BuildError` if it is not
    available.
    """
    metadata = engine.inspect(base)
    pull_disabled = build.no_base_images_pull or build.offline
    if metadata is None and pull_disabled:
        flag = "offline" if build.offline else "noBaseImagesPull"
        raise BuildError(
            f"the base image {base} is not available, and spec.build.{flag} prevents pulling it",
            hint=f"pull it in advance (`{engine.name} pull {base}`), or load it from an archive",
        )
    if metadata is not None and (pull_disabled or not build.no_cache):
        return metadata, ()
    try:
        engine.pull(base, progress)
    except BuildError as error:
        if metadata is None:
            raise
        # Many base images exist on one machine only, and cannot be pulled.
        return metadata, (f"{error.message}; the existing base image is used",)
    return engine.inspect(base), ()
