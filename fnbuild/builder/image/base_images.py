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
from fnbuild.builder.image.engine import BuildRequest, Engine, ImageMetadata, Progress
from fnbuild.errors import BuildError
from fnbuild.function.platform_rules import gpu_count
from fnbuild.function.reader import LoadedFunction
from fnbuild.function.types import Build, Function

_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*([^;@#]*)")
_SPECIFIER = re.compile(r"(===|==|~=|!=|<=|>=|<|>)\s*([0-9][0-9A-Za-z.*+-]*)")
_CUDA_LABEL = re.compile(r"\+cu(\d+)(\d)\Z")


@dataclass(frozen=True, slots=True)
class BaseImage:
    """`setup` are the first `RUN` lines of an image that lacks a part of what is needed."""

    image: str
    setup: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CudaImage:
    """One image of the table; `packages` are the releases in it, `cuda` is a version as 12.8."""

    image: str
    python: str
    packages: tuple[tuple[str, str], ...] = ()
    cuda: str = ""
    setup: tuple[str, ...] = ()


@cache
def _cuda_images() -> tuple[tuple[CudaImage, ...], tuple[CudaImage, ...], frozenset[str]]:
    """The images with torch, those without, and the packages that need torch."""
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
    """The image to build on. `packages` are the function's requirements, as they were written.

    `build.baseImage` is taken as it stands; the others have `build.baseImageRegistry` before them,
    as in Nuclio (pkg/processor/build/builder.go). Where no image with CUDA fits, the plain one is
    taken with a warning that says what there is: packages may bring CUDA's libraries themselves.
    """
    build = function.spec.build
    if build.base_image:
        return BaseImage(build.base_image)
    plain = BaseImage(function.spec.runtime)
    chosen = _choose_cuda_image(function, list(packages)) if gpu_count(function) else plain
    registry = re.sub(r"\A\w+://", "", build.base_image_registry).rstrip("/")
    image = f"{registry}/{chosen.image}" if registry else chosen.image
    return BaseImage(image, chosen.setup, chosen.warnings)


def needs_torch(packages: Iterable[str]) -> bool:
    """Return True if the requirements name torch or a package that depends on it."""
    return any(
        name == "torch" or name in _cuda_images()[2] for name, _ in _parse_requirements(packages)
    )


def _choose_cuda_image(function: Function, packages: list[str]) -> BaseImage:
    torch, plain, _ = _cuda_images()
    wanted = dict(_parse_requirements(packages))
    python = ".".join(function.spec.runtime.partition(":")[2].split(".")[:2])
    if needs_torch(packages):
        fitting = [row for row in torch if _fits(row, wanted)]
        exact = [row for row in fitting if row.python == python]
        if exact:
            return BaseImage(exact[0].image, exact[0].setup)
        return BaseImage(
            function.spec.runtime, warnings=(_no_torch_warning(function, wanted, fitting),)
        )
    # Nothing can be installed into an image without the network.
    exact = [row for row in plain if row.python == python and not function.spec.build.offline]
    if exact:
        return BaseImage(exact[0].image, exact[0].setup)
    pythons = ", ".join(row.python for row in plain)
    text = (
        f"no image with CUDA has Python {python} (there is {pythons}), so {function.spec.runtime}"
        " is the base image: the function's packages must bring CUDA's libraries, as"
        " onnxruntime-gpu[cuda,cudnn] does; build.baseImage names another image"
    )
    return BaseImage(function.spec.runtime, warnings=(text,))


def _no_torch_warning(function: Function, wanted: dict[str, str], fitting: list[CudaImage]) -> str:
    asked = " ".join(f"{name}{wanted[name]}" for name in ("torch", "torchvision") if name in wanted)
    runtime = function.spec.runtime
    if fitting:
        pythons = sorted({row.python for row in fitting}, key=_version)
        there = f"with `runtime: python:{fitting[0].python}` it is {fitting[0].image}"
        cause = f"has {asked or 'torch'} with that Python, only with {', '.join(pythons)}; {there}"
    else:
        releases = [dict(row.packages)["torch"] for row in _cuda_images()[0]]
        cause = f"is known that has {asked}; known are torch {releases[-1]} to {releases[0]}"
    return (
        f"the base image is {runtime}, without CUDA: no image {cause}. pip's torch for Linux brings"
        " CUDA's libraries itself; build.baseImage names another image"
    )


def _parse_requirements(packages: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Names, as package indexes have them, and version specifiers."""
    for text in packages:
        found = _REQUIREMENT.match(text)
        if found and "://" not in text.partition("@")[0] and "/" not in found[1]:
            yield re.sub(r"[-_.]+", "-", found[1]).lower(), found[2].replace(" ", "").strip("()")


def _fits(row: CudaImage, wanted: dict[str, str]) -> bool:
    for name, release in row.packages:
        specifiers = wanted.get(name, "")
        if not release_allowed(specifiers, release):
            return False
        for _, version in _SPECIFIER.findall(specifiers):
            # A release with a label, as 2.7.1+cu118, is one that was made for this CUDA.
            label = _CUDA_LABEL.search(version)
            if label and f"{label[1]}.{label[2]}" != row.cuda:
                return False
    return True


def release_allowed(specifiers: str, release: str) -> bool:
    """Whether specifiers such as `>=2.1,<2.5` or `==2.7.*` allow a release; labels are left out."""
    return all(
        _specifier_allows(sign, wanted, release) for sign, wanted in _SPECIFIER.findall(specifiers)
    )


def _specifier_allows(sign: str, wanted: str, release: str) -> bool:
    have, want = _version(release), _version(wanted)
    if wanted.endswith(".*"):
        same = have[: len(want)] == want
        return same if sign == "==" else not same
    if sign == "~=":
        return have[: len(want) - 1] == want[:-1] and have >= want
    length = max(len(have), len(want))
    have, want = (one + (0,) * (length - len(one)) for one in (have, want))
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
    """The numbers of a release: `2.7.1+cu128` is (2, 7, 1)."""
    found = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


_LOCAL_NAME = re.compile(r"cvat\.(?P<place>.+)\.base(?::latest)?")
_FROM = re.compile(r"^\s*FROM\s+(?:--\S+\s+)*(\S+)", re.IGNORECASE | re.MULTILINE)
_DOCKERFILE = "Dockerfile"


@dataclass(slots=True)
class LocalBaseImages:
    """The base images of many functions; each is built once, one at a time."""

    engine: Engine
    _built: set[Path] = field(default_factory=set)
    _building: Lock = field(default_factory=Lock)

    def make(self, function: Function, folder: Path, progress: Progress) -> None:
        """Build what the function stands on, when that lies beside it. Raises `BuildError`."""
        image = function.spec.build.base_image
        root = _library_root(image, folder.resolve())
        if root is not None and (folder / _DOCKERFILE).is_file():
            with self._building:
                self._make(image, folder.resolve(), root, progress)

    def _make(self, image: str, folder: Path, root: Path, progress: Progress) -> None:
        if folder in self._built:
            return
        file = folder / _DOCKERFILE
        for below in _FROM.findall(file.read_text(errors="replace")):
            shared = _shared_folder(below, root)
            if shared is not None:
                self._make(below, shared, root, progress)
        progress(f"building the base image {image}")
        self.engine.build(BuildRequest(folder, file, (image,)), progress)
        self._built.add(folder)


def _library_root(image: str, folder: Path) -> Path | None:
    """The folder from which the name counts; None when it is not the name of this folder's."""
    found = _LOCAL_NAME.fullmatch(image)
    if found is None:
        return None
    above = folder.parent
    for root in above.parents:
        if ".".join(above.relative_to(root).parts) == found["place"]:
            return root
    return None


def _shared_folder(image: str, root: Path) -> Path | None:
    """The folder of an image that others stand on; None when it is none of these."""
    found = _LOCAL_NAME.fullmatch(image)
    if found is None:
        return None
    folder = root.joinpath(*found["place"].split("."), "base")
    return folder if (folder / _DOCKERFILE).is_file() else None


def fetch_base_image(loaded: LoadedFunction, engine: Engine, progress: Progress) -> str:
    """Have the base image of a function in the engine, for later builds; its name."""
    wanted = requirements.collect_requirements(loaded.function, loaded.folder, image=True)
    base = choose_base_image(loaded.function, wanted.packages).image
    if engine.inspect(base) is None:
        engine.pull(base, progress)
    return base


def ensure_base_image(
    base: str, build: Build, engine: Engine, progress: Progress
) -> tuple[ImageMetadata | None, tuple[str, ...]]:
    """What the base image says of itself, fetched when it is not there; and warnings.

    With `noCache` it is fetched anew, unless that is forbidden. `BuildError` when there is none.
    """
    facts = engine.inspect(base)
    never = build.no_base_images_pull or build.offline
    if facts is None and never:
        flag = "offline" if build.offline else "noBaseImagesPull"
        raise BuildError(
            f"the base image {base} is not here, and spec.build.{flag} forbids to fetch it",
            hint=f"fetch it before (`{engine.name} pull {base}`), or load it from an archive",
        )
    if facts is not None and (never or not build.no_cache):
        return facts, ()
    try:
        engine.pull(base, progress)
    except BuildError as error:
        if facts is None:
            raise
        # Many base images exist on one machine only.
        return facts, (f"{error.message}; the base image that is here is used",)
    return engine.inspect(base), ()
