"""Probe an image: its Python interpreters, and its folders in which fnbuild puts files.

There is one interpreter for the processor and one for the handler. If NUCLIO_PYTHON_EXE_PATH is
set, it names the only candidate. Otherwise it is the first of python3 and python on the image's
PATH, and only if there is none, one in the usual places. The container chooses the handler's
interpreter by the same rule.

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
from fnbuild.builder.interpreter import OLDEST_PYTHON
from fnbuild.datadir import data_dir
from fnbuild.errors import BuildError

TARGET_FOLDERS = ("/opt/nuclio", "/opt/fnbuild", "/usr/local/bin", "/etc/nuclio/config/processor")

# Any Python runs it, the oldest too.
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
"""Source of `folders()`, which runs in the image and gives what `parse` reads."""


@dataclass(frozen=True, slots=True)
class ImageFolders:
    """`places` are real paths of PLACES; `owners` are user, group and mode of what is there."""

    places: Mapping[str, str] = field(default_factory=dict)
    owners: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)

    def real(self, path: str) -> str:
        """Where the path leads in the image."""
        for place, real in self.places.items():
            if path == place or path.startswith(f"{place}/"):
                return real + path[len(place) :]
        return path


def parse_folders(raw: Any) -> ImageFolders:
    """What `folders()` said. Raises ValueError, KeyError or TypeError for anything else."""
    places = {str(place): str(real) for place, real in raw["places"].items()}
    owners = {}
    for path, (user, group, mode) in raw["owners"].items():
        owners[str(path)] = (int(user), int(group), int(mode))
    return ImageFolders(places, owners)


PYTHON_VARIABLE = "NUCLIO_PYTHON_EXE_PATH"

_NAMES_ON_PATH = ("python3", "python")
_VERSIONS = range(14, OLDEST_PYTHON[1] - 1, -1)
_USUAL_PLACES = (
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
# Any Python answers it, the oldest too: what was found is said when it does not do.
_PROBE_PROGRAM = f"""\
import json, sys
{FOLDERS_SOURCE}
print(json.dumps({{"path": sys.executable,
    "version": list(sys.version_info[:3]),
    "implementation": "pypy" if "__pypy__" in sys.builtin_module_names else "cpython",
    "folders": folders()}}))
"""
_LIST_EXISTING = 'for one in "$@"; do command -v "$one"; done; exit 0'
_PROGRAM_NOT_FOUND = 127
_MAX_CACHED_IMAGES = 300
"""Images whose Python is remembered at most."""


@dataclass(frozen=True, slots=True)
class ImagePython:
    """An interpreter in an image. `implementation` is cpython or pypy."""

    path: str
    version: tuple[int, int, int]
    implementation: str

    def __str__(self) -> str:
        name = "PyPy" if self.implementation == "pypy" else "Python"
        return f"{name} {'.'.join(map(str, self.version))} at {self.path}"

    @property
    def fits(self) -> bool:
        """Whether processor and handlers can run on it."""
        return self.version[:2] >= OLDEST_PYTHON


@dataclass(frozen=True, slots=True)
class ImagePythons:
    """The two interpreters; mostly they are one. `folders` are those that the image has."""

    processor: ImagePython
    handler: ImagePython
    folders: ImageFolders = field(default_factory=ImageFolders)


_DEFAULT_PYTHON = ImagePython("/usr/bin/python3", (3, 11, 0), "cpython")
DEFAULT_PYTHONS = ImagePythons(_DEFAULT_PYTHON, _DEFAULT_PYTHON)
"""What to go on with while it is not known."""


def find_pythons(engine: Engine, image: str, handler: str | None) -> ImagePythons:
    """The Pythons of an image that the engine has.

    `handler` is the value of NUCLIO_PYTHON_EXE_PATH, if it is set. `BuildError` names everything
    that was looked for, and what was found. Answers are remembered by the image's id.
    """
    facts = engine.inspect(image)
    if facts is None:
        raise BuildError(f"the image {image} is not here", hint=f"`{engine.name} pull {image}`")
    key = f"{facts.id} {handler or ''}"
    known = _read_cache().get(key)
    if known is not None:
        return known
    search = _PythonSearch(engine, image)
    python = search.named(handler) if handler else search.usual()
    pythons = ImagePythons(python, python, search.folders)
    _add_to_cache(key, pythons)
    return pythons


class _PythonSearch:
    """The questions to one image, and what came of them."""

    def __init__(self, engine: Engine, image: str) -> None:
        self._engine = engine
        self._image = image
        self._found: list[str] = []
        self.folders = ImageFolders()

    def named(self, path: str) -> ImagePython:
        """The interpreter that was asked for, or a `BuildError`."""
        python = self._ask(path)
        if python is not None and python.fits:
            return python
        if python is not None:
            wrong = f"is {python}; functions need Python 3.6 or later"
        elif self._found:
            wrong = f"does not run as a Python interpreter in the image {self._image}"
        else:
            wrong = f"does not exist in the image {self._image}"
        raise BuildError(
            f"{PYTHON_VARIABLE}={path} {wrong}",
            detail="\n".join(self._found) or None,
            hint="correct the path, or remove the variable to take python3 on the image's PATH",
        )

    def usual(self) -> ImagePython:
        """The first that is there on PATH; where there is none, the first of the usual places."""
        for name in _NAMES_ON_PATH:
            python = self._ask(name)
            if python is not None and python.fits:
                return python
            if self._found:
                break  # the container would take it, and fail
        on_path = bool(self._found)
        for place in self._existing():
            python = self._ask(place)
            if python is None or not python.fits:
                continue
            if not on_path:
                return python
            raise self._nothing(f"set {PYTHON_VARIABLE} to {python.path}, which is {python}")
        raise self._nothing(
            "take a base image with Python, install one (`RUN apt-get update && apt-get install -y"
            f" python3`), or name its interpreter in {PYTHON_VARIABLE}"
        )

    def _existing(self) -> Iterator[str]:
        """Those of the usual places that exist; without a shell they have to be tried."""
        listed = self._engine.run(
            self._image, ["/bin/sh", "-c", _LIST_EXISTING, "sh", *_USUAL_PLACES]
        )
        if listed.status == _PROGRAM_NOT_FOUND:
            yield from _USUAL_PLACES
        else:
            yield from listed.out.split()

    def _ask(self, program: str) -> ImagePython | None:
        """What the program says of itself; why it does not is kept for the message."""
        done = self._engine.run(self._image, [program, "-E", "-s", "-c", _PROBE_PROGRAM])
        if done.status == _PROGRAM_NOT_FOUND:
            return None
        try:
            raw = json.loads(done.out.splitlines()[-1])
            python = _parse_python(raw, program)
            self.folders = parse_folders(raw["folders"])
        except (ValueError, KeyError, TypeError, IndexError):
            words = [line.strip() for line in done.err.splitlines() if line.strip()]
            reason = words[-1] if words else f"status {done.status}"
            self._found.append(f"{program}, which does not run: {reason}")
            return None
        if not python.fits:
            self._found.append(str(python))
        return python

    def _nothing(self, hint: str) -> BuildError:
        names = " and ".join(_NAMES_ON_PATH)
        found = f"; found {', '.join(self._found)}" if self._found else ""
        versions = f"python3.{_VERSIONS[0]} to python3.{_VERSIONS[-1]}"
        places = ", ".join(place for place in _USUAL_PLACES if "python3." not in place)
        return BuildError(
            f"the image {self._image} has no usable Python (3.6 or later): looked for {names} on"
            f" its PATH, {places}, and {versions} in /usr/local/bin and /usr/bin{found}",
            hint=hint,
        )


def _parse_python(raw: dict[str, Any], program: str = "") -> ImagePython:
    major, minor, micro = raw["version"]
    path = str(raw["path"] or program)
    return ImagePython(path, (int(major), int(minor), int(micro)), str(raw["implementation"]))


def _cache_file() -> Path:
    return data_dir() / "pythons.json"


def _read_cache() -> dict[str, ImagePythons]:
    """What is remembered; nothing when the file is not what it ought to be."""
    try:
        raw = json.loads(_cache_file().read_bytes())
        return {
            str(key): ImagePythons(
                _parse_python(value["processor"]),
                _parse_python(value["handler"]),
                parse_folders(value["folders"]),
            )
            for key, value in raw.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _add_to_cache(key: str, pythons: ImagePythons) -> None:
    known = {**_read_cache(), key: pythons}
    newest = list(known.items())[-_MAX_CACHED_IMAGES:]
    text = json.dumps({name: asdict(value) for name, value in newest})
    file = _cache_file()
    # Who reads meanwhile sees the old file or the new one; without it the image is asked again.
    with suppress(OSError):
        descriptor, made = tempfile.mkstemp(dir=file.parent, prefix=".pythons-")
        with os.fdopen(descriptor, "w") as opened:
            opened.write(text)
        os.replace(made, file)
