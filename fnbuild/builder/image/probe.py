"""Probe an image: its Python interpreter, and its folders in which fnbuild puts files.

If NUCLIO_PYTHON_EXE_PATH is set, it names the only candidate for the interpreter. Otherwise it is
the first of python3 and python on the image's PATH, and only if there is none, one in the usual
places. The container chooses the handler's interpreter by the same rule.

Existing folders keep their owner and mode, and links are followed: a function that does not run as
root may be allowed to write to `/opt/nuclio`, an environment to `/usr/local/bin`.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fnbuild.builder.image.engine import Engine
from fnbuild.builder.interpreter import OLDEST_PYTHON, PYTHON_VARIABLE
from fnbuild.datadir import data_dir
from fnbuild.errors import BuildError
from fnbuild.names import CODE_FOLDER, RUNTIME_FOLDER

TARGET_FOLDERS = (CODE_FOLDER, RUNTIME_FOLDER, "/usr/local/bin", "/etc/nuclio/config/processor")

# Runs on any Python, including the oldest.
FOLDERS_SOURCE = f"""\
import os
def folders():
    places = dict((place, os.path.realpath(place)) for place in {TARGET_FOLDERS})
    owners = {{}}
    for path in places.values():
        while path != "/":
            if os.path.isdir(path):
                about = os.lstat(path)
                owners[path] = [about.st_uid, about.st_gid, about.st_mode % 4096]
            path = os.path.dirname(path)
    return {{"places": places, "owners": owners}}
"""
"""Source of `folders()`, which runs in the image; `parse_folders` reads its result."""


_NAMES_ON_PATH = ("python3", "python")
_VERSIONS = range(14, OLDEST_PYTHON[1] - 1, -1)
_USUAL_PROGRAMS = (
    "/usr/local/bin/python3",
    "/usr/bin/python3",
    "/opt/conda/bin/python",
    "/opt/venv/bin/python",
    "/venv/bin/python",
    "/root/miniconda3/bin/python",
    "/root/.pyenv/shims/python3",
    *(f"/usr/local/bin/python3.{minor}" for minor in _VERSIONS),
    *(f"/usr/bin/python3.{minor}" for minor in _VERSIONS),
    "pypy3",
    "/opt/pypy/bin/pypy3",
)
# Runs on any Python, including unsupported ones, which the error message names.
_PROBE_PROGRAM = f"""\
import json, sys
{FOLDERS_SOURCE}
try:
    libc = os.confstr("CS_GNU_LIBC_VERSION") and "glibc" or "musl"
except (ValueError, OSError):
    libc = "musl"
print(json.dumps({{"path": sys.executable,
    "system": "%s-%s" % (os.uname()[4], libc),
    "version": list(sys.version_info[:3]),
    "implementation": "pypy" if "__pypy__" in sys.builtin_module_names else "cpython",
    "folders": folders()}}))
"""
_LIST_EXISTING = 'for program in "$@"; do command -v "$program"; done; exit 0'
_PROGRAM_NOT_FOUND = 127
_MAX_CACHED_IMAGES = 300
"""The number of images whose Python is cached."""


@dataclass(frozen=True, slots=True)
class ImageFolders:
    """`places` are real paths of TARGET_FOLDERS; `owners` are user, group and mode of folders."""

    places: Mapping[str, str] = field(default_factory=dict)
    owners: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)

    def real(self, path: str) -> str:
        """Return the real path in the image."""
        for folder, real in self.places.items():
            if path == folder or path.startswith(f"{folder}/"):
                return real + path[len(folder) :]
        return path


def parse_folders(raw: Any) -> ImageFolders:
    """Parse the output of `folders()`. Raises ValueError, KeyError or TypeError if invalid."""
    places = {str(folder): str(real) for folder, real in raw["places"].items()}
    owners = {}
    for path, (user, group, mode) in raw["owners"].items():
        owners[str(path)] = (int(user), int(group), int(mode))
    return ImageFolders(places, owners)


@dataclass(frozen=True, slots=True)
class ImagePython:
    """An interpreter in an image. `implementation` is cpython or pypy.

    `system` is the machine and the C library, such as `x86_64-glibc`.
    """

    path: str
    version: tuple[int, int, int]
    implementation: str
    system: str = ""

    def __str__(self) -> str:
        name = "PyPy" if self.implementation == "pypy" else "Python"
        return f"{name} {'.'.join(map(str, self.version))} at {self.path}"

    @property
    def is_supported(self) -> bool:
        """Return True if processor and handlers can run on it."""
        return self.version[:2] >= OLDEST_PYTHON


@dataclass(frozen=True, slots=True)
class ProbedImage:
    """The interpreter and the existing folders of an image."""

    python: ImagePython
    folders: ImageFolders = field(default_factory=ImageFolders)


UNPROBED_IMAGE = ProbedImage(ImagePython("/usr/bin/python3", (3, 11, 0), "cpython"))
"""A placeholder for an image whose Python is unknown."""


def probe_image(engine: Engine, image: str, requested: str | None) -> ProbedImage:
    """Return the Python and the folders of an image that the engine has.

    `requested` is the value of NUCLIO_PYTHON_EXE_PATH, if it is set. `BuildError` lists what was
    looked for and what was found. Results are cached by the image's id.
    """
    metadata = engine.inspect(image)
    if metadata is None:
        raise BuildError(
            f"the image {image} is not in {engine.name}", hint=f"`{engine.name} pull {image}`"
        )
    key = f"{metadata.id} {requested or ''}"
    cached = _read_cache().get(key)
    if cached is not None:
        return cached
    search = _PythonSearch(engine, image)
    python = search.find_requested(requested) if requested else search.find_first()
    probed = ProbedImage(python, search.folders)
    _add_to_cache(key, probed)
    return probed


class _PythonSearch:
    """A search for Python in one image."""

    def __init__(self, engine: Engine, image: str) -> None:
        self._engine = engine
        self._image = image
        self._unusable: list[str] = []
        self.folders = ImageFolders()

    def find_requested(self, path: str) -> ImagePython:
        """Return the requested interpreter. Raises `BuildError` if it is unusable."""
        python = self._query(path)
        if python is not None and python.is_supported:
            return python
        if python is not None:
            problem = f"is {python}; functions need Python 3.6 or later"
        elif self._unusable:
            problem = f"does not run as a Python interpreter in the image {self._image}"
        else:
            problem = f"does not exist in the image {self._image}"
        raise BuildError(
            f"{PYTHON_VARIABLE}={path} {problem}",
            detail="\n".join(self._unusable) or None,
            hint="correct the path, or remove the variable to take python3 on the image's PATH",
        )

    def find_first(self) -> ImagePython:
        """Return the first one on PATH; if there is none, the first of the usual programs."""
        for name in _NAMES_ON_PATH:
            python = self._query(name)
            if python is not None and python.is_supported:
                return python
            if self._unusable:
                break  # the container would select it, and fail
        on_path = bool(self._unusable)
        for program in self._existing_programs():
            python = self._query(program)
            if python is None or not python.is_supported:
                continue
            if not on_path:
                return python
            raise self._not_found_error(
                f"set {PYTHON_VARIABLE} to {python.path}, which is {python}"
            )
        raise self._not_found_error(
            "take a base image with Python, install one (`RUN apt-get update && apt-get install -y"
            f" python3`), or name its interpreter in {PYTHON_VARIABLE}"
        )

    def _existing_programs(self) -> Iterator[str]:
        """Yield those of the usual programs that exist, or all if the image has no shell."""
        result = self._engine.run(
            self._image, ["/bin/sh", "-c", _LIST_EXISTING, "sh", *_USUAL_PROGRAMS]
        )
        if result.status == _PROGRAM_NOT_FOUND:
            yield from _USUAL_PROGRAMS
        else:
            yield from result.out.split()

    def _query(self, program: str) -> ImagePython | None:
        """Return what the program reports about itself; keep the reason of a failure."""
        result = self._engine.run(self._image, [program, "-E", "-s", "-c", _PROBE_PROGRAM])
        if result.status == _PROGRAM_NOT_FOUND:
            return None
        try:
            raw = json.loads(result.out.splitlines()[-1])
            python = _parse_python(raw, program)
            self.folders = parse_folders(raw["folders"])
        except (ValueError, KeyError, TypeError, IndexError):
            lines = [line.strip() for line in result.err.splitlines() if line.strip()]
            reason = lines[-1] if lines else f"status {result.status}"
            self._unusable.append(f"{program}, which does not run: {reason}")
            return None
        if not python.is_supported:
            self._unusable.append(str(python))
        return python

    def _not_found_error(self, hint: str) -> BuildError:
        names = " and ".join(_NAMES_ON_PATH)
        unusable = f"; found {', '.join(self._unusable)}" if self._unusable else ""
        versions = f"python3.{_VERSIONS[0]} to python3.{_VERSIONS[-1]}"
        programs = ", ".join(path for path in _USUAL_PROGRAMS if "python3." not in path)
        return BuildError(
            f"the image {self._image} has no usable Python (3.6 or later): looked for {names} on"
            f" its PATH, {programs}, and {versions} in /usr/local/bin and /usr/bin{unusable}",
            hint=hint,
        )


def _parse_python(raw: dict[str, Any], program: str = "") -> ImagePython:
    major, minor, micro = raw["version"]
    path = str(raw["path"] or program)
    version = (int(major), int(minor), int(micro))
    return ImagePython(path, version, str(raw["implementation"]), str(raw["system"]))


def _cache_file() -> Path:
    return data_dir() / "pythons.json"


def _read_cache() -> dict[str, ProbedImage]:
    """Return the cached results; none if the file is invalid."""
    try:
        raw = json.loads(_cache_file().read_bytes())
        return {
            str(key): ProbedImage(_parse_python(value["handler"]), parse_folders(value["folders"]))
            for key, value in raw.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _add_to_cache(key: str, image: ProbedImage) -> None:
    cache = {**_read_cache(), key: image}
    newest = list(cache.items())[-_MAX_CACHED_IMAGES:]
    text = json.dumps(
        {
            name: {"handler": asdict(value.python), "folders": asdict(value.folders)}
            for name, value in newest
        }
    )
    file = _cache_file()
    # Readers see the old file or the new one; without a cache the image is probed again.
    with suppress(OSError):
        descriptor, draft = tempfile.mkstemp(dir=file.parent, prefix=".pythons-")
        with os.fdopen(descriptor, "w") as stream:
            stream.write(text)
        os.replace(draft, file)
