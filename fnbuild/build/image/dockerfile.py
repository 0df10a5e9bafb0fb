"""From a recipe to a Dockerfile, in the order of Nuclio's (pkg/processor/build/builder.go).

The user's lines stand in it as they were written. Ours unpack archives at `/` instead of copying
folders, so that their layers have the same digests each time (`archives`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from fnbuild.build.directives import HOME, Directive
from fnbuild.build.image.pythons import Python
from fnbuild.build.image.recipe import Recipe
from fnbuild.build.image.run_forms import (
    continued,
    ends_with_heredoc,
    exec_form,
    run_text,
    tidy,
)
from fnbuild.errors import BuildError
from fnbuild.spec.source import shown

NAME = "Dockerfile.processor"
RUNTIME, REQUIREMENTS, LARGE, CONFIG, CODE = (
    f"artifacts/{name}.tar" for name in ("runtime", "requirements", "large", "config", "code")
)
"""The archives of the build context."""

# By its path: a PATH that the function sets need not lead there.
_HEALTH = ("/usr/local/bin/processor", "--health")
_HEALTH_TIMEOUT = "3s"
_HEREDOC = re.compile(r"(?:^|\s)<<-?['\"]?[A-Za-z_]")


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction, on one or more lines.

    `place` is that of the directive, or the file of requirements; "" for our own.
    """

    text: str
    place: str = ""


@dataclass(frozen=True, slots=True)
class Dockerfile:
    instructions: tuple[Instruction, ...]

    @property
    def text(self) -> str:
        return "".join(f"{one.text}\n" for one in self.instructions)


def prepared(recipe: Recipe) -> Dockerfile:
    """What comes before the code: the base image and the lines of preCopy."""
    return Dockerfile((*_before(recipe), *_Reader(recipe).take(recipe.pre_copy)))


def whole(recipe: Recipe, python: Python) -> Dockerfile:
    """All of it. `python` is the handler's, which installs its requirements.

    It begins with the instructions of `prepared`, so that the engine has them already.
    """
    reader = _Reader(recipe)
    return Dockerfile(
        (
            *_before(recipe),
            *reader.take(recipe.pre_copy),
            *_copies(recipe, python),
            Instruction(
                f"HEALTHCHECK --interval={recipe.health_interval} --timeout={_HEALTH_TIMEOUT}"
                f" CMD {_exec(*_HEALTH)}"
            ),
            *reader.take(recipe.post_copy),
            Instruction(f"CMD {_exec('processor')}"),
        )
    )


def _before(recipe: Recipe) -> Iterator[Instruction]:
    yield Instruction(f"FROM {recipe.base}")
    for name, default in recipe.args:
        yield Instruction(f"ARG {name}={default}" if default else f"ARG {name}")


def _copies(recipe: Recipe, python: Python) -> Iterator[Instruction]:
    """From what seldom changes to what often does: the engine makes everything behind a change."""
    yield _unpack(RUNTIME)
    if recipe.requirements is not None:
        file = f"{HOME}/{recipe.requirements}"
        yield _unpack(REQUIREMENTS)
        words = (python.path, "-m", "pip", "install", "--no-cache-dir", "-r", file)
        yield Instruction(f"RUN {_exec(*words)}", recipe.requirements)
    if recipe.large:
        yield _unpack(LARGE)
    yield _unpack(CONFIG)
    yield _unpack(CODE)


def _unpack(archive: str) -> Instruction:
    return Instruction(f"ADD {archive} /")


def _exec(*words: str) -> str:
    return json.dumps(words, ensure_ascii=False)


class _Reader:
    """Turns directives into instructions, knowing which shell is in effect."""

    def __init__(self, recipe: Recipe) -> None:
        self._shell = recipe.shell
        self._heredocs = recipe.heredocs

    def take(self, directives: tuple[Directive, ...]) -> Iterator[Instruction]:
        for one in directives:
            yield Instruction(f"{one.kind} {self._text(one)}", one.place)

    def _text(self, one: Directive) -> str:
        if one.kind == "RUN":
            return run_text(one.value, one.place, self._shell, self._heredocs)
        text = tidy(one.value)
        if one.kind in ("ADD", "COPY") and _HEREDOC.search(text.partition("\n")[0]):
            return self._written(one, text)
        array = exec_form(text)
        if array is not None and "\n" in text:
            text = _exec(*array)
        plain = continued(text, comments_end=True)
        if plain is None:
            raise BuildError(
                f"{one.place}: a line break ends {one.kind} in the middle: {shown(text)}",
                hint="end the line with a backslash, or write a directive for each line",
            )
        if one.kind == "SHELL":
            self._shell = self._shell_of(one, plain)
        return plain

    def _written(self, one: Directive, text: str) -> str:
        """COPY and ADD of files whose content stands in the directive."""
        if not self._heredocs:
            raise BuildError(
                f"{one.place}: the engine does not understand a heredoc in {one.kind}",
                hint=f"put the file into the function's folder and write `{one.kind} handler/FILE"
                " …`, or use an engine that does: Docker 23, podman 5, buildah 1.33, or newer",
            )
        if not ends_with_heredoc(text):
            raise BuildError(
                f"{one.place}: the heredoc does not end where the text ends",
                hint="its last line is the word behind `<<` alone",
            )
        return text

    def _shell_of(self, one: Directive, text: str) -> tuple[str, ...]:
        words = exec_form("".join(text.split("\\\n")))
        if not words:
            raise BuildError(
                f"{one.place}: SHELL needs a JSON array, not {shown(text)}",
                hint='write it with double quotes: `["/bin/bash", "-c"]`',
            )
        return tuple(words)
