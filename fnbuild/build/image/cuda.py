"""The base image of a function that names none: Python alone, or with CUDA when it asks for a GPU.

Which images with CUDA there are stands in cuda.toml beside this. The image's Python is the one that
the function's `runtime` names: what has another one is not taken.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources

from fnbuild.spec.gpu_rules import gpus
from fnbuild.spec.types import Function

_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*([^;@#]*)")
_SPECIFIER = re.compile(r"(===|==|~=|!=|<=|>=|<|>)\s*([0-9][0-9A-Za-z.*+-]*)")
_CUDA = re.compile(r"\+cu(\d+)(\d)\Z")


@dataclass(frozen=True, slots=True)
class Base:
    """`setup` are the first `RUN` lines of an image that lacks a part of what is needed."""

    image: str
    setup: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """One image of the table; `packages` are the releases in it, `cuda` is a version as 12.8."""

    image: str
    python: str
    packages: tuple[tuple[str, str], ...] = ()
    cuda: str = ""
    setup: tuple[str, ...] = ()


@cache
def _table() -> tuple[tuple[Row, ...], tuple[Row, ...], frozenset[str]]:
    """The images with torch, those without, and the packages that need torch."""
    text = resources.files(__package__).joinpath("cuda.toml").read_text("utf-8")
    raw = tomllib.loads(text)
    torch = tuple(
        Row(
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
        Row(row["image"], row["python"], setup=tuple(row["setup"])) for row in raw["cuda"]
    )
    return torch, plain, frozenset(raw["needs_torch"])


def base_of(function: Function, packages: Iterable[str]) -> Base:
    """The image to build on. `packages` are the function's requirements, as they were written.

    `build.baseImage` is taken as it stands; the others have `build.baseImageRegistry` before them,
    as in Nuclio (pkg/processor/build/builder.go). Where no image with CUDA fits, the plain one is
    taken with a warning that says what there is: packages may bring CUDA's libraries themselves.
    """
    build = function.spec.build
    if build.base_image:
        return Base(build.base_image)
    plain = Base(function.spec.runtime)
    chosen = _with_cuda(function, list(packages)) if gpus(function) else plain
    registry = re.sub(r"\A\w+://", "", build.base_image_registry).rstrip("/")
    image = f"{registry}/{chosen.image}" if registry else chosen.image
    return Base(image, chosen.setup, chosen.warnings)


def needs_torch(packages: Iterable[str]) -> bool:
    """Return True if the requirements name torch or a package that depends on it."""
    return any(name == "torch" or name in _table()[2] for name, _ in _requirements(packages))


def _with_cuda(function: Function, packages: list[str]) -> Base:
    torch, plain, _ = _table()
    wanted = dict(_requirements(packages))
    python = ".".join(function.spec.runtime.partition(":")[2].split(".")[:2])
    if needs_torch(packages):
        fitting = [row for row in torch if _fits(row, wanted)]
        exact = [row for row in fitting if row.python == python]
        if exact:
            return Base(exact[0].image, exact[0].setup)
        return Base(function.spec.runtime, warnings=(_no_torch(function, wanted, fitting),))
    # Nothing can be installed into an image without the network.
    exact = [row for row in plain if row.python == python and not function.spec.build.offline]
    if exact:
        return Base(exact[0].image, exact[0].setup)
    pythons = ", ".join(row.python for row in plain)
    text = (
        f"no image with CUDA has Python {python} (there is {pythons}), so {function.spec.runtime}"
        " is the base image: the function's packages must bring CUDA's libraries, as"
        " onnxruntime-gpu[cuda,cudnn] does; build.baseImage names another image"
    )
    return Base(function.spec.runtime, warnings=(text,))


def _no_torch(function: Function, wanted: dict[str, str], fitting: list[Row]) -> str:
    asked = " ".join(f"{name}{wanted[name]}" for name in ("torch", "torchvision") if name in wanted)
    runtime = function.spec.runtime
    if fitting:
        pythons = sorted({row.python for row in fitting}, key=_version)
        there = f"with `runtime: python:{fitting[0].python}` it is {fitting[0].image}"
        cause = f"has {asked or 'torch'} with that Python, only with {', '.join(pythons)}; {there}"
    else:
        releases = [dict(row.packages)["torch"] for row in _table()[0]]
        cause = f"is known that has {asked}; known are torch {releases[-1]} to {releases[0]}"
    return (
        f"the base image is {runtime}, without CUDA: no image {cause}. pip's torch for Linux brings"
        " CUDA's libraries itself; build.baseImage names another image"
    )


def _requirements(packages: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Names, as package indexes have them, and version specifiers."""
    for text in packages:
        found = _REQUIREMENT.match(text)
        if found and "://" not in text.partition("@")[0] and "/" not in found[1]:
            yield re.sub(r"[-_.]+", "-", found[1]).lower(), found[2].replace(" ", "").strip("()")


def _fits(row: Row, wanted: dict[str, str]) -> bool:
    for name, release in row.packages:
        specifiers = wanted.get(name, "")
        if not allows(specifiers, release):
            return False
        for _, version in _SPECIFIER.findall(specifiers):
            # A release with a label, as 2.7.1+cu118, is one that was made for this CUDA.
            label = _CUDA.search(version)
            if label and f"{label[1]}.{label[2]}" != row.cuda:
                return False
    return True


def allows(specifiers: str, release: str) -> bool:
    """Whether specifiers such as `>=2.1,<2.5` or `==2.7.*` allow a release; labels are left out."""
    return all(_allows(sign, wanted, release) for sign, wanted in _SPECIFIER.findall(specifiers))


def _allows(sign: str, wanted: str, release: str) -> bool:
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
