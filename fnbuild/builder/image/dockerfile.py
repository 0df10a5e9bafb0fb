"""Write the Dockerfile of a recipe, in the order of Nuclio's (pkg/processor/build/builder.go).

The user's lines appear as they were written, wherever a Dockerfile can hold them. A Dockerfile has
no line breaks except after a backslash. Text with other line breaks (a script in quotes, a heredoc)
reaches the shell unchanged: as a heredoc if the engine supports them, else as the last word of the
exec form.

fnbuild's own lines unpack archives at `/` instead of copying folders, so that their layers have
the same digests each time (see `context`).
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fnbuild.builder.directives import Directive
from fnbuild.builder.image.probe import ImagePython
from fnbuild.builder.image.recipe import Recipe
from fnbuild.builder.shell import join_lines
from fnbuild.errors import BuildError
from fnbuild.function.source_text import quoted
from fnbuild.names import CODE_FOLDER

_RUN_FLAGS = re.compile(r"(?:--[a-z]+=\S+\s+)*")
_BARE_HEREDOC = re.compile(r"<<(-?)(['\"]?)([A-Za-z_]\w*)\2[ \t]*\n")
_HEREDOC_OPENING = re.compile(r"(?:^|\s)\d*<<(-?)(['\"]?)([A-Za-z_]\w*)\2(?=\s|$)")
_LINE_CONTINUATION = re.compile(r"(?<!\\)\\[ \t]*$")
_SHELLS = ("sh", "ash", "bash", "dash", "ksh", "zsh")


def format_run(value: str, place: str, shell: Sequence[str], heredocs: bool) -> str:
    """The text behind RUN. `shell` is the one in effect there, as argument list.

    Raises `BuildError` with the place for a heredoc that does not end where the text ends.
    """
    value = normalize_text(value)
    flags = _RUN_FLAGS.match(value)
    assert flags is not None
    text = value[flags.end() :]
    array = parse_exec_form(text)
    if array is not None:
        return flags[0] + (text if "\n" not in text else _json_array(array))
    plain = as_continued_lines(text)
    if plain is not None:
        return flags[0] + plain
    script = _script(text, place)
    if not heredocs or not _is_shell(shell[0]):
        return flags[0] + _exec_form(script, shell)
    if ends_with_heredoc(text):
        return flags[0] + text
    mark = _unused_delimiter(script)
    return f"{flags[0]}<<'{mark}'\n{script}\n{mark}"


def normalize_text(value: str) -> str:
    """Without the blanks around it, and with line breaks as builders know them."""
    return value.replace("\r\n", "\n").strip(" \t\n")


def parse_exec_form(text: str) -> list[str] | None:
    """The words of a JSON array, however many lines it takes; None for anything else."""
    if not text.startswith("["):
        return None
    try:
        words = json.loads(text)
    except ValueError:
        return None
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        return None
    return words


def as_continued_lines(text: str, *, comments_end: bool = False) -> str | None:
    """The text when a Dockerfile can hold it as it is, that is on lines with a backslash each.

    Empty lines between them are dropped, which builders warn of, and the backslash of the last
    line, which would swallow the next instruction. With `comments_end` comments may follow the
    text. None when there is another line break.
    """
    kept: list[str] = []
    comments: list[str] = []
    more = True
    for line in text.split("\n"):
        if kept and (not line.strip() or line.lstrip().startswith("#")):
            if not more and not comments_end:
                return None
            comments += [line] if line.strip() else []
            continue
        if not more:
            return None
        kept += [*comments, line]
        comments = []
        more = _LINE_CONTINUATION.search(line) is not None
    if more:
        kept[-1] = _LINE_CONTINUATION.sub("", kept[-1]).rstrip()
    return "\n".join(kept)


def _script(text: str, place: str) -> str:
    """What the shell is to run."""
    bare = _BARE_HEREDOC.match(text)
    if bare is not None:
        return _heredoc_body(text[bare.end() :], bare, place)
    # In a heredoc the backslashes are for its reader, and its end must stay on its own line.
    return text if _HEREDOC_OPENING.search(text) else join_lines(text)


def _heredoc_body(text: str, opening: re.Match[str], place: str) -> str:
    lines = text.split("\n")
    if opening[1]:
        lines = [line.lstrip("\t") for line in lines]
    if opening[3] not in lines:
        raise BuildError(
            f"{place}: the heredoc is not closed", hint=f"its last line is {opening[3]} alone"
        )
    end = lines.index(opening[3])
    if any(line.strip() for line in lines[end + 1 :]):
        raise BuildError(
            f"{place}: text follows the end of the heredoc",
            hint="give it a directive of its own",
        )
    return "\n".join(lines[:end])


def ends_with_heredoc(text: str) -> bool:
    """Whether it is one line with heredocs, the last of which ends where the text ends."""
    first, *lines = text.split("\n")
    found = list(_HEREDOC_OPENING.finditer(first))
    for opening in found:
        ends = [line.lstrip("\t") if opening[1] else line for line in lines]
        if opening[3] not in ends:
            return False
        lines = lines[ends.index(opening[3]) + 1 :]
    return bool(found) and not lines and _LINE_CONTINUATION.search(first) is None


def _exec_form(script: str, shell: Sequence[str]) -> str:
    if script.startswith("#!"):
        return _json_array(["/bin/sh", "-c", _with_interpreter(script)])
    if not _is_shell(shell[0]):
        script = _one_line(script)
    return _json_array([*shell, script])


def _with_interpreter(script: str) -> str:
    """A script that names its interpreter, as BuildKit would run it: that one reads it."""
    mark = _unused_delimiter(script)
    interpreter = script.split("\n", 1)[0][2:].strip()
    return f"{interpreter} /dev/stdin <<'{mark}'\n{script}\n{mark}"


def _one_line(script: str) -> str:
    """The script without line breaks, which `conda run` refuses to hand on."""
    quoted = script.replace("\\", "\\\\").replace("\n", "\\n").replace("'", "\\0047")
    return f"eval \"$(printf %b '{quoted}')\""


def _is_shell(program: str) -> bool:
    return posixpath.basename(program) in _SHELLS


def _unused_delimiter(script: str) -> str:
    """A word that is no line of the script."""
    lines = {line.strip() for line in script.split("\n")}
    mark, number = "EOF", 1
    while mark in lines:
        mark, number = f"EOF{number}", number + 1
    return mark


def _json_array(words: Sequence[str]) -> str:
    return json.dumps(list(words), ensure_ascii=False)


DOCKERFILE_NAME = "Dockerfile.processor"
RUNTIME_ARCHIVE, REQUIREMENTS_ARCHIVE, LARGE_FILES_ARCHIVE, CONFIG_ARCHIVE, CODE_ARCHIVE = (
    f"artifacts/{name}.tar" for name in ("runtime", "requirements", "large", "config", "code")
)
"""The archives of the build context."""

# By its path: a PATH that the function sets need not lead there.
_HEALTH_COMMAND = ("/usr/local/bin/processor", "--health")
_HEALTH_TIMEOUT = "3s"
_HEREDOC_START = re.compile(r"(?:^|\s)<<-?['\"]?[A-Za-z_]")


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


def pre_copy_dockerfile(recipe: Recipe) -> Dockerfile:
    """What comes before the code: the base image and the lines of preCopy."""
    return Dockerfile(
        (*_base_instructions(recipe), *_DirectiveWriter(recipe).take(recipe.pre_copy))
    )


def full_dockerfile(recipe: Recipe, python: ImagePython) -> Dockerfile:
    """All of it. `python` is the handler's, which installs its requirements.

    It begins with the instructions of `prepared`, so that the engine has them already.
    """
    reader = _DirectiveWriter(recipe)
    return Dockerfile(
        (
            *_base_instructions(recipe),
            *reader.take(recipe.pre_copy),
            *_copy_instructions(recipe, python),
            Instruction(
                f"HEALTHCHECK --interval={recipe.health_interval} --timeout={_HEALTH_TIMEOUT}"
                f" CMD {_exec_array(*_HEALTH_COMMAND)}"
            ),
            *reader.take(recipe.post_copy),
            Instruction(f"CMD {_exec_array('processor')}"),
        )
    )


def _base_instructions(recipe: Recipe) -> Iterator[Instruction]:
    yield Instruction(f"FROM {recipe.base}")
    for name, default in recipe.args:
        yield Instruction(f"ARG {name}={default}" if default else f"ARG {name}")


def _copy_instructions(recipe: Recipe, python: ImagePython) -> Iterator[Instruction]:
    """From what seldom changes to what often does: the engine makes everything behind a change."""
    yield _unpack(RUNTIME_ARCHIVE)
    if recipe.requirements is not None:
        file = f"{CODE_FOLDER}/{recipe.requirements}"
        yield _unpack(REQUIREMENTS_ARCHIVE)
        words = (python.path, "-m", "pip", "install", "--no-cache-dir", "-r", file)
        yield Instruction(f"RUN {_exec_array(*words)}", recipe.requirements)
    if recipe.large:
        yield _unpack(LARGE_FILES_ARCHIVE)
    yield _unpack(CONFIG_ARCHIVE)
    yield _unpack(CODE_ARCHIVE)


def _unpack(archive: str) -> Instruction:
    return Instruction(f"ADD {archive} /")


def _exec_array(*words: str) -> str:
    return json.dumps(words, ensure_ascii=False)


class _DirectiveWriter:
    """Turns directives into instructions, knowing which shell is in effect."""

    def __init__(self, recipe: Recipe) -> None:
        self._shell = recipe.shell
        self._heredocs = recipe.heredocs

    def take(self, directives: tuple[Directive, ...]) -> Iterator[Instruction]:
        for one in directives:
            yield Instruction(f"{one.kind} {self._text(one)}", one.place)

    def _text(self, one: Directive) -> str:
        if one.kind == "RUN":
            return format_run(one.value, one.place, self._shell, self._heredocs)
        text = normalize_text(one.value)
        if one.kind in ("ADD", "COPY") and _HEREDOC_START.search(text.partition("\n")[0]):
            return self._written(one, text)
        array = parse_exec_form(text)
        if array is not None and "\n" in text:
            text = _exec_array(*array)
        plain = as_continued_lines(text, comments_end=True)
        if plain is None:
            raise BuildError(
                f"{one.place}: a line break ends {one.kind} in the middle: {quoted(text)}",
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
        words = parse_exec_form("".join(text.split("\\\n")))
        if not words:
            raise BuildError(
                f"{one.place}: SHELL needs a JSON array, not {quoted(text)}",
                hint='write it with double quotes: `["/bin/bash", "-c"]`',
            )
        return tuple(words)
