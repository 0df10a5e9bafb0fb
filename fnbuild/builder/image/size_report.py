"""What an image weighs, layer by layer, who made each, and what could be left out."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from fnbuild.builder.image.engine import Engine, HistoryEntry
from fnbuild.errors import BuildError, NotFoundError

LayerOrigin = Literal["base", "function", "fnbuild"]

_MAX_SHOWN_LENGTH = 70
_MIB = 1024 * 1024
_MIN_LEFTOVER_BYTES = 5 * _MIB
"""Bytes below which leftovers are not worth a line."""

# fnbuild's own lines of the Dockerfile. BuildKit keeps the name of the archive; in the history of
# the others only their order tells which is which.
_HEALTH = re.compile(r"HEALTHCHECK .*/usr/local/bin/processor")
_NAMED = re.compile(r"ADD artifacts/(\w+)\.tar / ")
_ARCHIVE = re.compile(r"ADD file:\w+ in / *$")
_INSTALL = re.compile(r" -m pip install --no-cache-dir -r /opt/nuclio/")
_LAYER_DESCRIPTIONS: dict[str, tuple[LayerOrigin, str]] = {
    "runtime": ("fnbuild", "runtime"),
    "config": ("fnbuild", "configuration"),
    "requirements": ("function", "requirements"),
    "packages": ("function", "packages of requirements.txt"),
    "large": ("function", "large files of the function"),
    "code": ("function", "code of the function"),
}
_TOOLS = re.compile(
    r"\b(build-essential|g\+\+|gcc|clang|gfortran|cuda-toolkit\S*|cuda-nvcc\S*|cuda-compiler\S*|"
    r"nvidia-cuda-toolkit|libc6-dev|base-devel|Development Tools)"
)
_INSTALLS = re.compile(
    r"\b(apt-get|apt|apk|yum|dnf|microdnf|conda|mamba|micromamba)\b.*\b(install|add)\b"
)
_LEFTOVERS = {
    "apt": ("/var/lib/apt/lists", "the package lists of apt", "rm -rf /var/lib/apt/lists/*"),
    "pip": ("~/.cache/pip", "pip's cache", "pip install --no-cache-dir"),
    "conda": ("/opt/conda/pkgs", "conda's package cache", "conda clean --all --yes"),
}
# One program in the image: sizes of folders that are left behind, compilers that are there.
_INSPECT_PROGRAM = """
import json, os, sys
def weight(folder):
    total = 0
    for place, _, names in os.walk(os.path.expanduser(folder)):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_size
            except OSError:
                pass
    return total
folders = os.environ.get("PATH", "").split(os.pathsep) + ["/usr/local/cuda/bin"]
tools = [tool for tool in ("gcc", "g++", "clang", "nvcc")
         if any(os.access(os.path.join(folder, tool), os.X_OK) for folder in folders)]
print(json.dumps({"tools": tools, "weights": {name: weight(name) for name in sys.argv[1:]}}))
"""


@dataclass(frozen=True, slots=True)
class LayerSize:
    """One layer; `size` in bytes, `what` is the instruction that made it."""

    size: int
    made_by: LayerOrigin
    what: str


@dataclass(frozen=True, slots=True)
class SizeReport:
    """An image's parts, largest first, and advice, one sentence each."""

    reference: str
    size: int
    parts: tuple[LayerSize, ...]
    advice: tuple[str, ...]


def measure_image(
    engine: Engine, reference: str, base: str = "", python: str = "python3"
) -> SizeReport:
    """Look at an image that the engine has. `base` is the image it was built from, if it is known;
    `python` a Python in it, by which its files are looked at."""
    image = engine.inspect(reference)
    if image is None:
        raise NotFoundError(f"{engine.name} has no image {reference}")
    history = engine.history(reference)
    parts = _layer_sizes(history, _count_base_layers(engine, history, base))
    largest = sorted((one for one in parts if one.size), key=lambda one: -one.size)
    tools, weights = _inspect_files(engine, reference, python)
    advice = (*_tools_advice(base, parts, tools), *_leftovers_advice(weights))
    return SizeReport(reference, sum(one.size for one in parts), tuple(largest), advice)


def _count_base_layers(engine: Engine, history: Sequence[HistoryEntry], base: str) -> int:
    """How many of the oldest lines came with the base image."""
    if not base or engine.inspect(base) is None:
        return 0
    theirs = engine.history(base)
    count = len(theirs)
    return count if list(history[len(history) - count :]) == theirs else 0


def _layer_sizes(history: Sequence[HistoryEntry], of_base: int) -> list[LayerSize]:
    names = _own_layers(history)
    first_of_base = len(history) - of_base
    parts = []
    for index, layer in enumerate(history):
        made_by: LayerOrigin
        if index in names:
            made_by, what = _LAYER_DESCRIPTIONS[names[index]]
        else:
            made_by = "base" if index >= first_of_base else "function"
            what = _instruction(layer.created_by)
        parts.append(LayerSize(layer.size, made_by, what))
    return parts


def _own_layers(history: Sequence[HistoryEntry]) -> dict[int, str]:
    """Which lines of the history, newest first, are fnbuild's own or stand for the function's."""
    lines = [layer.created_by for layer in history]
    names = {
        index: match[1]
        for index, line in enumerate(lines)
        if (match := _NAMED.match(line)) and match[1] in _LAYER_DESCRIPTIONS
    }
    if names:
        return names | {i: "packages" for i, line in enumerate(lines) if _INSTALL.search(line)}
    health = next((index for index, line in enumerate(lines) if _HEALTH.search(line)), None)
    if health is None:
        return {}
    run = []
    for index in range(health + 1, len(lines)):
        if not (_ARCHIVE.search(lines[index]) or _INSTALL.search(lines[index])):
            break
        run.append(index)
    installs = [index for index in run if _INSTALL.search(lines[index])]
    packages = ["packages", "requirements"] if installs else []
    optional = (run.index(installs[0]) if installs else len(run) - 1) - 2
    large = ["large"] if optional > 0 else []
    order = ["code", "config", *large, *packages, "runtime"]
    return dict(zip(run, order, strict=False))


def _instruction(created_by: str) -> str:
    """The instruction as it was written, as far as the engines keep it."""
    text = re.sub(r"\s*# buildkit$", "", " ".join(created_by.split()))
    text = re.sub(r"^(?:RUN )?\|\d+ .*?(?=/bin/)", "", text)
    written = re.sub(r"^(?:/bin/\w+ -c )?#\(nop\) +", "", text)
    if written == text:
        written = re.sub(r"^(?:RUN )?/bin/\w+ -c ", "RUN ", text)
    return written or "a layer without a history"


def _inspect_files(engine: Engine, reference: str, python: str) -> tuple[list[str], dict[str, int]]:
    """Compilers and leftovers in the image; nothing where it cannot be looked at."""
    folders = [folder for folder, _, _ in _LEFTOVERS.values()]
    try:
        done = engine.run(reference, [python, "-E", "-s", "-c", _INSPECT_PROGRAM, *folders])
        seen = json.loads(done.out.splitlines()[-1])
        return list(seen["tools"]), dict(seen["weights"])
    except (BuildError, ValueError, KeyError, IndexError):
        return [], {}


def _tools_advice(base: str, parts: Sequence[LayerSize], tools: Sequence[str]) -> list[str]:
    if "-devel" in base.rpartition("/")[2]:
        runtime = "-runtime".join(base.rsplit("-devel", 1))
        return [
            f"the base image {base} carries a compiler tool chain; {runtime} has what a model needs"
            " to run"
        ]
    for part in parts:
        installed = _TOOLS.search(part.what)
        if installed and _INSTALLS.search(part.what):
            what = (
                part.what
                if len(part.what) <= _MAX_SHOWN_LENGTH
                else f"{part.what[:_MAX_SHOWN_LENGTH]}…"
            )
            return [
                f"{installed[1]} is installed and stays in the image ({format_size(part.size)}:"
                f" {what}); install, build and remove it in one RUN"
            ]
    if tools:
        where = f"the base image {base}" if base else "the image"
        return [
            f"{where} carries a compiler tool chain ({', '.join(tools)}); a smaller base image"
            " (slim, runtime) starts and pulls sooner"
        ]
    return []


def _leftovers_advice(weights: dict[str, int]) -> list[str]:
    return [
        f"left behind in the image: {what} ({format_size(weights[folder])} in {folder});"
        f" `{remedy}` in the RUN that makes them"
        for folder, what, remedy in _LEFTOVERS.values()
        if weights.get(folder, 0) >= _MIN_LEFTOVER_BYTES
    ]


def format_size(size: int) -> str:
    """The size in the units that registries and engines show."""
    if size >= 1000**3:
        return f"{size / 1000**3:.2f} GB"
    return f"{size / 1000**2:.1f} MB"
