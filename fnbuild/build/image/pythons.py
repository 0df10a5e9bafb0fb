"""Which Python an image has: that of the processor, and that of the handler.

When NUCLIO_PYTHON_EXE_PATH is set it is that one and no other. Else it is the first of python3 and
python on the image's PATH, and only where there is none, one in the usual places. The container
chooses the handler's by the same rule.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fnbuild.build.image import folders
from fnbuild.build.image.engine import Engine
from fnbuild.build.image.folders import Folders
from fnbuild.build.interpreter import OLDEST
from fnbuild.datadir import data_dir
from fnbuild.errors import BuildError

VARIABLE = "NUCLIO_PYTHON_EXE_PATH"

_ON_PATH = ("python3", "python")
_VERSIONS = range(14, OLDEST[1] - 1, -1)
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
_QUESTION = f"""\
import json, sys
{folders.SOURCE}
print(json.dumps({{"path": sys.executable,
    "version": list(sys.version_info[:3]),
    "implementation": "pypy" if "__pypy__" in sys.builtin_module_names else "cpython",
    "folders": folders()}}))
"""
_WHICH = 'for one in "$@"; do command -v "$one"; done; exit 0'
_NOT_THERE = 127
_REMEMBERED = 300
"""Images whose Python is remembered at most."""


@dataclass(frozen=True, slots=True)
class Python:
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
        return self.version[:2] >= OLDEST


@dataclass(frozen=True, slots=True)
class Pythons:
    """The two interpreters; mostly they are one. `folders` are those that the image has."""

    processor: Python
    handler: Python
    folders: Folders = field(default_factory=Folders)


_USUAL = Python("/usr/bin/python3", (3, 11, 0), "cpython")
USUAL = Pythons(_USUAL, _USUAL)
"""What to go on with while it is not known."""


def find(engine: Engine, image: str, handler: str | None) -> Pythons:
    """The Pythons of an image that the engine has.

    `handler` is the value of NUCLIO_PYTHON_EXE_PATH, if it is set. `BuildError` names everything
    that was looked for, and what was found. Answers are remembered by the image's id.
    """
    facts = engine.inspect(image)
    if facts is None:
        raise BuildError(f"the image {image} is not here", hint=f"`{engine.name} pull {image}`")
    key = f"{facts.id} {handler or ''}"
    known = _remembered().get(key)
    if known is not None:
        return known
    search = _Search(engine, image)
    python = search.named(handler) if handler else search.usual()
    pythons = Pythons(python, python, search.folders)
    _remember(key, pythons)
    return pythons


class _Search:
    """The questions to one image, and what came of them."""

    def __init__(self, engine: Engine, image: str) -> None:
        self._engine = engine
        self._image = image
        self._found: list[str] = []
        self.folders = Folders()

    def named(self, path: str) -> Python:
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
            f"{VARIABLE}={path} {wrong}",
            detail="\n".join(self._found) or None,
            hint="correct the path, or remove the variable to take python3 on the image's PATH",
        )

    def usual(self) -> Python:
        """The first that is there on PATH; where there is none, the first of the usual places."""
        for name in _ON_PATH:
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
            raise self._nothing(f"set {VARIABLE} to {python.path}, which is {python}")
        raise self._nothing(
            "take a base image with Python, install one (`RUN apt-get update && apt-get install -y"
            f" python3`), or name its interpreter in {VARIABLE}"
        )

    def _existing(self) -> Iterator[str]:
        """Those of the usual places that exist; without a shell they have to be tried."""
        listed = self._engine.run(self._image, ["/bin/sh", "-c", _WHICH, "sh", *_USUAL_PLACES])
        if listed.status == _NOT_THERE:
            yield from _USUAL_PLACES
        else:
            yield from listed.out.split()

    def _ask(self, program: str) -> Python | None:
        """What the program says of itself; why it does not is kept for the message."""
        done = self._engine.run(self._image, [program, "-E", "-s", "-c", _QUESTION])
        if done.status == _NOT_THERE:
            return None
        try:
            raw = json.loads(done.out.splitlines()[-1])
            python = _python(raw, program)
            self.folders = folders.parse(raw["folders"])
        except (ValueError, KeyError, TypeError, IndexError):
            words = [line.strip() for line in done.err.splitlines() if line.strip()]
            reason = words[-1] if words else f"status {done.status}"
            self._found.append(f"{program}, which does not run: {reason}")
            return None
        if not python.fits:
            self._found.append(str(python))
        return python

    def _nothing(self, hint: str) -> BuildError:
        names = " and ".join(_ON_PATH)
        found = f"; found {', '.join(self._found)}" if self._found else ""
        versions = f"python3.{_VERSIONS[0]} to python3.{_VERSIONS[-1]}"
        places = ", ".join(place for place in _USUAL_PLACES if "python3." not in place)
        return BuildError(
            f"the image {self._image} has no usable Python (3.6 or later): looked for {names} on"
            f" its PATH, {places}, and {versions} in /usr/local/bin and /usr/bin{found}",
            hint=hint,
        )


def _python(raw: dict[str, Any], program: str = "") -> Python:
    major, minor, micro = raw["version"]
    path = str(raw["path"] or program)
    return Python(path, (int(major), int(minor), int(micro)), str(raw["implementation"]))


def _file() -> Path:
    return data_dir() / "pythons.json"


def _remembered() -> dict[str, Pythons]:
    """What is remembered; nothing when the file is not what it ought to be."""
    try:
        raw = json.loads(_file().read_bytes())
        return {
            str(key): Pythons(
                _python(value["processor"]),
                _python(value["handler"]),
                folders.parse(value["folders"]),
            )
            for key, value in raw.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _remember(key: str, pythons: Pythons) -> None:
    known = {**_remembered(), key: pythons}
    newest = list(known.items())[-_REMEMBERED:]
    text = json.dumps({name: asdict(value) for name, value in newest})
    file = _file()
    # Who reads meanwhile sees the old file or the new one; without it the image is asked again.
    with suppress(OSError):
        descriptor, made = tempfile.mkstemp(dir=file.parent, prefix=".pythons-")
        with os.fdopen(descriptor, "w") as opened:
            opened.write(text)
        os.replace(made, file)
