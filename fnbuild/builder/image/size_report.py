"""Report the size of an image by layer, the origin of each layer, and what could be left out."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from fnbuild.builder.image.engine import Engine, HistoryEntry
from fnbuild.errors import BuildError, NotFoundError
from fnbuild.function.source_text import shortened

LayerOrigin = Literal["base", "function", "fnbuild"]

_MAX_SHOWN_LENGTH = 70
_MIB = 1024 * 1024
_MIN_LEFTOVER_BYTES = 5 * _MIB
"""The size of leftovers, in bytes, that is worth advice."""

# fnbuild's own lines of the Dockerfile. BuildKit keeps the name of the archive; other builders only
# keep the order. The labels follow the code; in images of earlier versions the health check does.
_SETTINGS = r"HEALTHCHECK .*/usr/local/bin/processor"
_AFTER_CODE = re.compile(rf"LABEL .*fnbuild\.io/digest\S* .*fnbuild\.io/function|{_SETTINGS}")
_WITHOUT_FILES = re.compile(rf"{_SETTINGS}|CMD \[\"processor\"\]$")
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
# Runs in the image: reports the sizes of leftover folders, and the compilers.
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
    """One layer; `size` is in bytes, `description` is the instruction that created it."""

    size: int
    origin: LayerOrigin
    description: str


@dataclass(frozen=True, slots=True)
class SizeReport:
    """The layers of an image, largest first, and advice, one sentence each."""

    reference: str
    size: int
    layers: tuple[LayerSize, ...]
    advice: tuple[str, ...]


def measure_image(
    engine: Engine, reference: str, base: str = "", python: str = "python3"
) -> SizeReport:
    """Return the size report of an image that the engine has.

    `base` is the image that it was built from, if known; `python` is a Python in it, which inspects
    its files.
    """
    image = engine.inspect(reference)
    if image is None:
        raise NotFoundError(f"{engine.name} has no image {reference}")
    history = engine.history(reference)
    layers = _layer_sizes(history, _count_base_entries(engine, history, base))
    by_size = sorted((layer for layer in layers if layer.size), key=lambda layer: -layer.size)
    tools, weights = _inspect_files(engine, reference, python)
    advice = (*_tools_advice(base, layers, tools), *_leftovers_advice(weights))
    return SizeReport(reference, sum(layer.size for layer in layers), tuple(by_size), advice)


def _count_base_entries(engine: Engine, history: Sequence[HistoryEntry], base: str) -> int:
    """Return how many history entries came with the base image; they are the oldest."""
    if not base or engine.inspect(base) is None:
        return 0
    base_history = engine.history(base)
    count = len(base_history)
    return count if list(history[len(history) - count :]) == base_history else 0


def _layer_sizes(history: Sequence[HistoryEntry], base_count: int) -> list[LayerSize]:
    own_layers = _own_layers(history)
    first_of_base = len(history) - base_count
    sizes = []
    for index, entry in enumerate(history):
        origin: LayerOrigin
        if index in own_layers:
            origin, description = _LAYER_DESCRIPTIONS[own_layers[index]]
        else:
            origin = "base" if index >= first_of_base else "function"
            description = _instruction(entry.created_by)
        sizes.append(LayerSize(entry.size, origin, description))
    return sizes


def _own_layers(history: Sequence[HistoryEntry]) -> dict[int, str]:
    """Return history indices of layers from fnbuild's own Dockerfile lines, with their kind."""
    lines = [entry.created_by for entry in history]
    kinds = {
        index: match[1]
        for index, line in enumerate(lines)
        if (match := _NAMED.match(line)) and match[1] in _LAYER_DESCRIPTIONS
    }
    if kinds:
        return kinds | {i: "packages" for i, line in enumerate(lines) if _INSTALL.search(line)}
    end = next((index for index, line in enumerate(lines) if _AFTER_CODE.search(line)), None)
    if end is None:
        return {}
    indices = []
    for index in range(end + 1, len(lines)):
        if _WITHOUT_FILES.search(lines[index]):
            continue
        if not (_ARCHIVE.search(lines[index]) or _INSTALL.search(lines[index])):
            break
        indices.append(index)
    installs = [index for index in indices if _INSTALL.search(lines[index])]
    packages = ["packages", "requirements"] if installs else []
    optional = (indices.index(installs[0]) if installs else len(indices) - 1) - 2
    large = ["large"] if optional > 0 else []
    order = ["code", "config", *large, *packages, "runtime"]
    return dict(zip(indices, order, strict=False))


def _instruction(created_by: str) -> str:
    """Return the instruction as it was written, as far as the engines keep it."""
    text = re.sub(r"\s*# buildkit$", "", " ".join(created_by.split()))
    text = re.sub(r"^(?:RUN )?\|\d+ .*?(?=/bin/)", "", text)
    instruction = re.sub(r"^(?:/bin/\w+ -c )?#\(nop\) +", "", text)
    if instruction == text:
        instruction = re.sub(r"^(?:RUN )?/bin/\w+ -c ", "RUN ", text)
    return instruction or "a layer without a history"


def _inspect_files(engine: Engine, reference: str, python: str) -> tuple[list[str], dict[str, int]]:
    """Return compilers and leftovers in the image; nothing if the image cannot run the program."""
    folders = [folder for folder, _, _ in _LEFTOVERS.values()]
    try:
        result = engine.run(reference, [python, "-E", "-s", "-c", _INSPECT_PROGRAM, *folders])
        report = json.loads(result.out.splitlines()[-1])
        return list(report["tools"]), dict(report["weights"])
    except (BuildError, ValueError, KeyError, IndexError):
        return [], {}


def _tools_advice(base: str, layers: Sequence[LayerSize], tools: Sequence[str]) -> list[str]:
    if "-devel" in base.rpartition("/")[2]:
        runtime = "-runtime".join(base.rsplit("-devel", 1))
        return [
            f"the base image {base} contains a compiler tool chain; {runtime} has what a model"
            " needs to run"
        ]
    for layer in layers:
        match = _TOOLS.search(layer.description)
        if match and _INSTALLS.search(layer.description):
            description = shortened(layer.description, _MAX_SHOWN_LENGTH)
            return [
                f"{match[1]} is installed and stays in the image ({format_size(layer.size)}:"
                f" {description}); install, build and remove it in one RUN"
            ]
    if tools:
        where = f"the base image {base}" if base else "the image"
        return [
            f"{where} contains a compiler tool chain ({', '.join(tools)}); a smaller base image"
            " (slim, runtime) starts and pulls sooner"
        ]
    return []


def _leftovers_advice(weights: dict[str, int]) -> list[str]:
    return [
        f"unnecessary in the image: {description} ({format_size(weights[folder])} in {folder});"
        f" `{remedy}` in the RUN that creates them"
        for folder, description, remedy in _LEFTOVERS.values()
        if weights.get(folder, 0) >= _MIN_LEFTOVER_BYTES
    ]


def format_size(size: int) -> str:
    """Return the size in the decimal units of registries and engines."""
    if size >= 1000**3:
        return f"{size / 1000**3:.2f} GB"
    return f"{size / 1000**2:.1f} MB"
