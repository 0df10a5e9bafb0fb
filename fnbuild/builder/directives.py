"""Parse the build commands and directives of a function into simple commands with their places.

`commands` take precedence over `directives`. A command that ends in a backslash continues in the
next one, and `@nuclio.postCopy` separates commands before and after the copy of the code
(pkg/processor/build/builder.go).
"""

from __future__ import annotations

import json
import posixpath
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from fnbuild.builder.shell import ShellCommand, join_lines, parse_commands
from fnbuild.function import types
from fnbuild.function.source_text import shortened
from fnbuild.names import CODE_FOLDER

_POST_COPY = "@nuclio.postCopy"
_RUN_FLAG = re.compile(r"--(mount|network|security)=\S+\s+")
_SHELLS = ("sh", "bash", "dash", "zsh")
_HEREDOC = re.compile(r"<<-?\s*(['\"]?)(\w+)\1\s*\n(.*?)(?:\n\s*\2\s*)?$", re.DOTALL)
_WITHOUT_EFFECT = ("ARG", "LABEL", "MAINTAINER", "SHELL", "STOPSIGNAL", "EXPOSE", "CMD", "")


@dataclass(frozen=True, slots=True)
class PlacedDirective:
    """A line of a Dockerfile: `kind` is its verb in capitals, `place` its path in function.yaml."""

    kind: str
    value: str
    place: str


@dataclass(frozen=True, slots=True)
class BuildDirectives:
    """The directives of a build before and after the copy of the code."""

    pre_copy: tuple[PlacedDirective, ...] = ()
    post_copy: tuple[PlacedDirective, ...] = ()

    def __iter__(self) -> Iterator[PlacedDirective]:
        return iter((*self.pre_copy, *self.post_copy))


@dataclass(frozen=True, slots=True)
class BuildLine:
    """A simple command of a RUN, or a whole directive of another kind.

    `place` is its path in the configuration, `folder` its working directory in a container build.
    `operator` and `unresolved` are those of `ShellCommand`.
    """

    kind: str
    place: str
    words: tuple[str, ...]
    folder: str = CODE_FOLDER
    operator: str = ""
    unresolved: bool = False

    @property
    def text(self) -> str:
        """Return the line for messages: on one line, and shortened."""
        text = " ".join(" ".join(self.words).split())
        return shortened(text if self.kind == "RUN" else f"{self.kind} {text}", 80)


def lines_of(build: types.Build) -> Iterator[BuildLine]:
    """Yield every line in the order in which a container build runs it."""
    variables = {name: value for name, value in build.args.items() if value}
    folder = CODE_FOLDER
    for directive in directives_of(build):
        place, kind, value = directive.place, directive.kind, directive.value
        if kind == "RUN":
            working_folder = folder
            for command in _run_commands(value, variables):
                if command.words[0] == "cd" and not command.unresolved:
                    working_folder = posixpath.join(working_folder, *command.words[1:2])
                    continue
                yield BuildLine(
                    "RUN",
                    place,
                    command.words,
                    working_folder,
                    command.operator,
                    command.unresolved,
                )
            continue
        if kind in ("ENV", "ARG"):
            _assign_variables(kind, value, variables)
        if kind == "WORKDIR":
            folder = posixpath.normpath(posixpath.join(folder, value.strip()))
        if kind in _WITHOUT_EFFECT or (kind == "WORKDIR" and folder == CODE_FOLDER):
            continue
        yield BuildLine(kind, place, (value.strip(),), folder)


def directives_of(build: types.Build) -> BuildDirectives:
    """Return the function's directives, or its commands as RUN directives."""
    if build.commands:
        return _from_commands(build.commands)
    return BuildDirectives(
        _from_directives("preCopy", build.directives.pre_copy),
        _from_directives("postCopy", build.directives.post_copy),
    )


def _from_directives(name: str, directives: list[types.Directive]) -> tuple[PlacedDirective, ...]:
    prefix = f"spec.build.directives.{name}"
    return tuple(
        PlacedDirective(directive.kind.strip().upper(), directive.value, f"{prefix}[{index}]")
        for index, directive in enumerate(directives)
    )


def _from_commands(texts: list[str]) -> BuildDirectives:
    pre_copy: list[PlacedDirective] = []
    post_copy: list[PlacedDirective] = []
    side, pending, place = pre_copy, "", ""

    def add(text: str) -> None:
        side.append(PlacedDirective("RUN", text, place))

    for index, line in enumerate(texts):
        if line.strip() == _POST_COPY:
            if pending:
                add(pending)
            side, pending = post_copy, ""
            continue
        place = f"spec.build.commands[{index}]"
        text = pending + line
        if text.rstrip().endswith("\\"):
            pending = text.rstrip()[:-1] + " "
            continue
        pending = ""
        add(text)
    if pending:
        add(pending)
    return BuildDirectives(tuple(pre_copy), tuple(post_copy))


def _run_commands(value: str, variables: dict[str, str]) -> list[ShellCommand]:
    text = value.strip()
    while match := _RUN_FLAG.match(text):
        text = text[match.end() :].lstrip()
    if text.startswith("["):
        try:
            words = json.loads(text)
        except ValueError:
            words = None
        if isinstance(words, list) and words and all(isinstance(word, str) for word in words):
            return _unwrap_shell(ShellCommand(tuple(words)), variables)
    if match := _HEREDOC.match(text):
        text = match[3]
    result: list[ShellCommand] = []
    for command in parse_commands(text, variables):
        result += _unwrap_shell(command, variables)
    return result


def _unwrap_shell(command: ShellCommand, variables: dict[str, str]) -> list[ShellCommand]:
    """Return the commands inside `sh -c '…'`, or the command itself."""
    words = command.words
    is_shell = posixpath.basename(words[0]) in _SHELLS
    if is_shell and len(words) >= 3 and re.fullmatch(r"-[a-z]*c", words[-2]):
        return parse_commands(words[-1], variables)
    return [command]


def _assign_variables(kind: str, value: str, variables: dict[str, str]) -> None:
    """Store the variables of `ENV A=1 B="2 3"`, `ENV A 1` and `ARG A=1`; build args win."""
    text = join_lines(value).strip()
    first = text.split(None, 1)
    if kind == "ENV" and len(first) == 2 and "=" not in first[0]:
        variables[first[0]] = first[1]
        return
    try:
        words = shlex.split(text)
    except ValueError:
        return
    for word in words:
        name, equals, content = word.partition("=")
        if not equals or (kind == "ARG" and name in variables):
            continue
        expanded = _expand(content, variables)
        if expanded is not None:
            variables[name] = expanded


def _expand(text: str, variables: dict[str, str]) -> str | None:
    """Return the text with the values of its variables, None if one has no known value."""
    try:
        expanded = re.sub(r"\$(?:(\w+)|\{(\w+)\})", lambda m: variables[m[1] or m[2]], text)
    except KeyError:
        return None
    return None if "${" in expanded else expanded
