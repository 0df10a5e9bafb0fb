"""The Python packages that a function requires, found in its build commands and requirement files.

`pip install` lines of `build.commands` and directives become steps. They run in their order and
separately, because an `--index-url` of one must not affect the next. A `requirements.txt` in the
folder is a step even if no line mentions it. Lines that need a container are listed, never run.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from fnbuild.builder.directives import BuildLine, lines_of
from fnbuild.builder.requirement_files import (
    FlatRequirements,
    is_local_path,
    resolve_inside,
    split_extras,
)
from fnbuild.errors import BuildError
from fnbuild.function.types import Function
from fnbuild.names import CODE_FOLDER

_PIP = re.compile(r"pip(\d+(\.\d+)*)?$")
_PYTHON = re.compile(r"python(\d+(\.\d+)*)?$")
_PREFIXES = ("sudo", "env", "exec", "time", "command", "{")
_CONDA = ("conda", "mamba", "micromamba")

# The environment decides about destination, caches and output. `-e` is dropped because pip installs
# from a private copy.
_IGNORED_FLAGS = frozenset(
    (
        *("--no-cache-dir", "--no-cache", "-q", "-qq", "-qqq", "--quiet", "-v", "-vv", "-vvv"),
        *("--verbose", "--user", "--break-system-packages", "--disable-pip-version-check"),
        *("--no-input", "--no-warn-script-location", "--no-warn-conflicts", "--system", "-y"),
        *("--yes", "-e", "--editable"),
    )
)
_IGNORED_OPTIONS = frozenset(
    (
        *("-t", "--target", "--prefix", "--root", "--python", "--progress-bar", "--cache-dir"),
        *("--root-user-action", "--log", "--src"),
    )
)
_OPTIONS_WITH_VALUE = frozenset(
    (
        *("-r", "--requirement", "-c", "--constraint", "-f", "--find-links"),
        *("-i", "--index-url", "--extra-index-url", "--trusted-host", "--no-binary", "--cert"),
        *("--only-binary", "--upgrade-strategy", "--timeout", "--retries", "--proxy", "-C"),
        *("--config-settings", "--global-option", "--build-option", "--install-option"),
        *("--use-feature", "--use-deprecated", "--client-cert", "--exists-action"),
    )
)

# Commands without effect on a function.
_COMMANDS_WITHOUT_EFFECT = frozenset(
    ("true", ":", "set", "echo", "rm", "export", "exit", "ls", "pwd", "yes")
)
# Commands that may create a path that is not in the folder.
_BRINGS_FILES = re.compile(r"(?:^|[\s/])(git|curl|wget|tar|unzip|gdown|cp|mv|COPY|ADD)(?:\s|$)")


def pip_arguments(words: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return the words after `pip` in the command, or None if the command is not pip.

    Recognizes `pip3`, a path to pip, `python3.8 -m pip`, `uv pip`, and prefixes such as `sudo`,
    `env A=B` and `conda run`.
    """
    words = _without_prefixes(words)
    if not words:
        return None
    name = posixpath.basename(words[0])
    if _PIP.match(name):
        return words[1:]
    if name == "uv" and words[1:2] == ("pip",):
        return words[2:]
    if _PYTHON.match(name):
        for index, word in enumerate(words[1:], 1):
            if word == "-m" and words[index + 1 : index + 2] == ("pip",):
                return words[index + 2 :]
            if not word.startswith("-"):
                break
    return None


def _without_prefixes(words: tuple[str, ...]) -> tuple[str, ...]:
    """Return the command without its prefixes."""
    index = 0
    while index < len(words):
        name = posixpath.basename(words[index])
        if re.match(r"\w+=", words[index]):
            index += 1
        elif name in _PREFIXES:
            index += 1
            while index < len(words) and words[index].startswith("-"):
                index += 1
        elif name in _CONDA and words[index + 1 : index + 2] == ("run",):
            index += 2
            while index < len(words) and not _is_program(words[index]):
                index += 1
        else:
            break
    return words[index:]


def _is_program(word: str) -> bool:
    name = posixpath.basename(word)
    return bool(_PIP.match(name) or _PYTHON.match(name))


def pip_verb(words: tuple[str, ...]) -> Literal["install", "uninstall", "unsupported", "harmless"]:
    """Return the action of a pip command; a harmless one, such as `pip list`, may be left out."""
    word = next((value for option, value in pip_options(words) if not option), "")
    if word == "install":
        return "install"
    if word == "uninstall":
        return "uninstall"
    return "unsupported" if word in ("config", "download", "wheel") else "harmless"


def pip_options(words: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yield (option, value) in order: the option is "" for an operand, the value for a flag.

    Options without effect here are omitted.
    """
    rest = iter(words)
    for word in rest:
        option, equals, value = word.partition("=")
        if not word.startswith("-"):
            yield "", word
        elif word in _IGNORED_FLAGS or option in _IGNORED_OPTIONS:
            if not equals and option in _IGNORED_OPTIONS:
                next(rest, "")
            elif equals and option in ("-e", "--editable"):
                yield "", value
        elif re.match(r"-[rcfi][^=]", word):
            yield word[:2], word[2:]
        elif option in _OPTIONS_WITH_VALUE:
            yield option, value if equals else next(rest, "")
        elif option == "--editable":
            yield "", value
        else:
            yield word, ""


@dataclass(frozen=True, slots=True)
class PipStep:
    """One run of pip.

    `requirements` and `constraints` are the flat lines of the files that it names. `packages` are
    the packages to install, for messages; `own_packages` are the function's own folders and
    archives among them. `places` maps a line to the function's file that contains it. `links` are
    the function's folders in which pip looks for packages.
    """

    verb: Literal["install", "uninstall"]
    place: str
    arguments: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    own_packages: tuple[Path, ...] = ()
    packages: tuple[str, ...] = ()
    places: Mapping[str, str] = field(default_factory=dict)
    links: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Requirements:
    """The pip steps of a function.

    `files` are the requirement files that were read. `ignored` lists the directives and commands
    that need a container, without duplicates. `warnings` are printed before packages are
    downloaded.
    """

    steps: tuple[PipStep, ...] = ()
    files: tuple[Path, ...] = ()
    ignored: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def packages(self) -> tuple[str, ...]:
        """Return the packages to install, as they were written."""
        names = [name for step in self.steps if step.verb == "install" for name in step.packages]
        return tuple(dict.fromkeys(names))


class _MissingError(Exception):
    """A step names a path that is not in the function's folder."""


@dataclass(slots=True)
class _Collector:
    folder: Path
    image: bool = False
    steps: list[PipStep] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)

    def add_line(self, line: BuildLine) -> None:
        words = pip_arguments(line.words) if line.kind == "RUN" else None
        if words is None:
            if (
                line.kind != "RUN"
                or posixpath.basename(line.words[0]) not in _COMMANDS_WITHOUT_EFFECT
            ):
                self.ignore(line)
        elif line.operator == "||":
            return  # the second half of `pip … || pip …` only runs if the first one fails
        elif pip_verb(words) == "harmless":
            return
        elif pip_verb(words) == "unsupported" or line.unresolved:
            self.ignore(line)
        else:
            self._add_step(words, line)

    def ignore(self, line: BuildLine) -> None:
        if line.text not in self.ignored:
            self.ignored.append(line.text)

    def _add_step(self, words: tuple[str, ...], line: BuildLine) -> None:
        try:
            step = self.create_step(words, line)
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

    def create_step(self, words: tuple[str, ...], line: BuildLine) -> PipStep | None:
        """Return the step of a pip command; None if nothing remains to install."""
        flat = FlatRequirements(self.folder)
        arguments: list[str] = []
        packages: list[str] = []
        action: Literal["install", "uninstall"] = (
            "uninstall" if pip_verb(words) == "uninstall" else "install"
        )
        for option, value in pip_options(words):
            if option in ("-r", "--requirement", "-c", "--constraint"):
                flat.read(self._file(value, line), constraint=option in ("-c", "--constraint"))
            elif option in ("-f", "--find-links"):
                links = self._path(value, line)
                if links is not None:
                    flat.links.append(links)
                arguments += [option, str(links or value)]
            elif option:
                arguments += [option, value] if value else [option]
            elif value != action and re.split(r"[=<>~!]", value)[0] != "pip":
                arguments.append(self._operand(value, line, flat))
                packages.append(value)
        self.files += [path for path in flat.files if path not in self.files]
        # Without the folder's path, which differs from revision to revision.
        packages += [
            text.replace(f"{self.folder}/", "./", 1).replace(str(self.folder), ".", 1)
            for text in flat.requirements
            if not text.startswith("-")
        ]
        if not packages:
            return None
        return PipStep(
            action,
            line.place,
            tuple(arguments),
            tuple(flat.requirements),
            tuple(flat.constraints),
            tuple(flat.own_packages),
            tuple(packages),
            flat.places,
            tuple(flat.links),
        )

    def _operand(self, value: str, line: BuildLine, flat: FlatRequirements) -> str:
        name, extras = split_extras(value)
        if not is_local_path(name):
            return value
        path = self._path(name, line)
        if path is None:
            # Published packages have no slash in their names.
            raise _MissingError(name)
        flat.own_packages.append(path)
        return f"{path}{extras}"

    def _file(self, value: str, line: BuildLine) -> Path:
        path = self._path(value, line)
        if path is None or not path.is_file():
            raise _MissingError(value)
        return path

    def _path(self, value: str, line: BuildLine) -> Path | None:
        """Map a path in the container to the function's folder.

        `/opt/nuclio` is the folder. Elsewhere, a file that was copied from the folder keeps its
        name.
        """
        container_path = posixpath.normpath(posixpath.join(line.folder, value))
        name = posixpath.basename(container_path)
        candidates = [self.folder / value.lstrip("/"), self.folder / name]
        if container_path == CODE_FOLDER or container_path.startswith(CODE_FOLDER + "/"):
            candidates.insert(0, self.folder / posixpath.relpath(container_path, CODE_FOLDER))
        for candidate in candidates:
            resolved = resolve_inside(candidate, self.folder)
            if resolved is not None:
                return resolved
        return None


def collect_requirements(function: Function, folder: Path, *, image: bool = False) -> Requirements:
    """Return everything that pip is told to do for the function with its code in `folder`.

    Raises `BuildError` with the place if a file does not exist; with `image` the line is ignored
    instead, since the base image may have the file.
    """
    collector = _Collector(folder.resolve(), image)
    for line in lines_of(function.spec.build):
        collector.add_line(line)
    default = collector.folder / "requirements.txt"
    if default.is_file() and default not in collector.files:
        words = ("install", "-r", "requirements.txt")
        step = collector.create_step(words, BuildLine("RUN", "requirements.txt", words))
        if step is not None:
            collector.steps.append(step)
    return Requirements(tuple(collector.steps), tuple(collector.files), tuple(collector.ignored))
