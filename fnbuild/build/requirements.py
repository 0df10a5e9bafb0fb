"""The Python packages that a function asks for, found in what was written for a container build.

`pip install` lines of `build.commands` and directives become steps, run in their order and apart
from one another, for an `--index-url` of one must not reach the next. A `requirements.txt` in the
folder is a step even when no line mentions it. What needs a container is listed, never run.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from fnbuild.build.directives import HOME, Line, lines
from fnbuild.build.pip_command import pairs, pip_words, verb
from fnbuild.build.requirement_files import Flat, inside, looks_local, split_extras
from fnbuild.errors import BuildError
from fnbuild.spec.types import Function

# Commands that leave nothing behind which a function could miss.
_SILENT = frozenset(("true", ":", "set", "echo", "rm", "export", "exit", "ls", "pwd", "yes"))
# Where a path that is missing from the folder may have come from.
_BRINGS_FILES = re.compile(r"(?:^|[\s/])(git|curl|wget|tar|unzip|gdown|cp|mv|COPY|ADD)(?:\s|$)")


@dataclass(frozen=True, slots=True)
class Step:
    """One run of pip. `requirements` and `constraints` are the flat lines of the files it names.

    `packages` are the packages to install, for messages; `sources` are the folders and archives of
    the function among them. `places` maps a line to the file of the function that has it.
    `links` are its folders and pages in which pip looks for packages.
    """

    verb: Literal["install", "uninstall"]
    place: str
    arguments: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    sources: tuple[Path, ...] = ()
    packages: tuple[str, ...] = ()
    places: Mapping[str, str] = field(default_factory=dict)
    links: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Requirements:
    """`files` are the requirement files that were read.

    `ignored` names directives and commands that need a container, each once and in order.
    `warnings` are printed before the packages are fetched.
    """

    steps: tuple[Step, ...] = ()
    files: tuple[Path, ...] = ()
    ignored: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def packages(self) -> tuple[str, ...]:
        """What is asked for, as it was written."""
        found = [name for step in self.steps if step.verb == "install" for name in step.packages]
        return tuple(dict.fromkeys(found))


class _MissingError(Exception):
    """A step names a path that is not in the function's folder."""


@dataclass(slots=True)
class _Collector:
    folder: Path
    image: bool = False
    steps: list[Step] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)

    def take(self, line: Line) -> None:
        words = pip_words(line.words) if line.kind == "RUN" else None
        if words is None:
            if line.kind != "RUN" or posixpath.basename(line.words[0]) not in _SILENT:
                self.ignore(line)
        elif line.after == "||":
            return  # the second half of `pip … || pip …` is for when the first one fails
        elif verb(words) == "none":
            return
        elif verb(words) == "other" or line.unknown:
            self.ignore(line)
        else:
            self._add(words, line)

    def ignore(self, line: Line) -> None:
        if line.text not in self.ignored:
            self.ignored.append(line.text)

    def _add(self, words: tuple[str, ...], line: Line) -> None:
        try:
            step = self.step(words, line)
        except _MissingError as error:
            if self.image or any(_BRINGS_FILES.search(text) for text in self.ignored):
                self.ignore(line)
                return
            raise BuildError(
                f"{line.place}: {error} is not in the function's folder ({line.text})",
                hint="add it to the folder, or remove the command",
            ) from error
        if step is not None:
            self.steps.append(step)

    def step(self, words: tuple[str, ...], line: Line) -> Step | None:
        """The step of a pip command; None when nothing is left to do."""
        flat = Flat(self.folder)
        arguments: list[str] = []
        packages: list[str] = []
        what: Literal["install", "uninstall"] = (
            "uninstall" if verb(words) == "uninstall" else "install"
        )
        for option, value in pairs(words):
            if option in ("-r", "--requirement", "-c", "--constraint"):
                flat.read(self._file(value, line), constraint=option in ("-c", "--constraint"))
            elif option in ("-f", "--find-links"):
                links = self._path(value, line)
                if links is not None:
                    flat.links.append(links)
                arguments += [option, str(links or value)]
            elif option:
                arguments += [option, value] if value else [option]
            elif value != what and re.split(r"[=<>~!]", value)[0] != "pip":
                arguments.append(self._operand(value, line, flat))
                packages.append(value)
        self.files += [path for path in flat.files if path not in self.files]
        # The folder's path is left out: it differs from revision to revision.
        packages += [
            text.replace(f"{self.folder}/", "./", 1).replace(str(self.folder), ".", 1)
            for text in flat.requirements
            if not text.startswith("-")
        ]
        if not packages:
            return None
        return Step(
            what,
            line.place,
            tuple(arguments),
            tuple(flat.requirements),
            tuple(flat.constraints),
            tuple(flat.sources),
            tuple(packages),
            flat.places,
            tuple(flat.links),
        )

    def _operand(self, value: str, line: Line, flat: Flat) -> str:
        name, extras = split_extras(value)
        if not looks_local(name):
            return value
        path = self._path(name, line)
        if path is None:
            # `a/b` is not how a published package is called, `./a` and `/a` even less.
            raise _MissingError(name)
        flat.sources.append(path)
        return f"{path}{extras}"

    def _file(self, value: str, line: Line) -> Path:
        path = self._path(value, line)
        if path is None or not path.is_file():
            raise _MissingError(value)
        return path

    def _path(self, value: str, line: Line) -> Path | None:
        """Where a path of the container is in the function's folder.

        `/opt/nuclio` is the folder. Elsewhere, a file that was copied there from the folder keeps
        its name.
        """
        there = posixpath.normpath(posixpath.join(line.folder, value))
        places = [self.folder / value.lstrip("/"), self.folder / posixpath.basename(there)]
        if there == HOME or there.startswith(HOME + "/"):
            places.insert(0, self.folder / posixpath.relpath(there, HOME))
        for place in places:
            path = inside(place, self.folder)
            if path is not None:
                return path
        return None


def collect(function: Function, folder: Path, *, image: bool = False) -> Requirements:
    """Everything that pip is asked to do for the function whose code lies in `folder`.

    Raises `BuildError` with the place when a file that is named is not there; with `image` the line
    is ignored instead, since the base image may have the file.
    """
    found = _Collector(folder.resolve(), image)
    for line in lines(function.spec.build):
        found.take(line)
    default = found.folder / "requirements.txt"
    if default.is_file() and default not in found.files:
        words = ("install", "-r", "requirements.txt")
        step = found.step(words, Line("RUN", "requirements.txt", words))
        if step is not None:
            found.steps.append(step)
    return Requirements(tuple(found.steps), tuple(found.files), tuple(found.ignored))
