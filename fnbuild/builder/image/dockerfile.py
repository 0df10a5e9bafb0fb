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

from fnbuild.builder.directives import PlacedDirective
from fnbuild.builder.image.probe import ImagePython
from fnbuild.builder.image.recipe import Recipe
from fnbuild.builder.shell import join_lines
from fnbuild.errors import BuildError
from fnbuild.function.source_text import quoted
from fnbuild.names import CODE_FOLDER, PROCESSOR_PATH

_RUN_FLAGS = re.compile(r"(?:--[a-z]+=\S+\s+)*")
_BARE_HEREDOC = re.compile(r"<<(-?)(['\"]?)([A-Za-z_]\w*)\2[ \t]*\n")
_HEREDOC_OPENING = re.compile(r"(?:^|\s)\d*<<(-?)(['\"]?)([A-Za-z_]\w*)\2(?=\s|$)")
_LINE_CONTINUATION = re.compile(r"(?<!\\)\\[ \t]*$")
_SHELLS = ("sh", "ash", "bash", "dash", "ksh", "zsh")

DOCKERFILE_NAME = "Dockerfile.processor"
(
    RUNTIME_ARCHIVE,
    GRPC_ARCHIVE,
    REQUIREMENTS_ARCHIVE,
    LARGE_FILES_ARCHIVE,
    CONFIG_ARCHIVE,
    CODE_ARCHIVE,
) = (
    f"artifacts/{name}.tar"
    for name in ("runtime", "grpc", "requirements", "large", "config", "code")
)
"""The archives of the build context."""

# By its path: the function may set a PATH without it.
_HEALTH_COMMAND = (PROCESSOR_PATH, "--health")
_HEALTH_TIMEOUT = "3s"
_HEREDOC_START = re.compile(r"(?:^|\s)<<-?['\"]?[A-Za-z_]")


def format_run(value: str, place: str, shell: Sequence[str], heredocs: bool) -> str:
    """Return the text after RUN. `shell` is the current shell as an argument list.

    Raises `BuildError` with the place for a heredoc that does not end at the end of the text.
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
    """Strip surrounding whitespace and normalize line breaks."""
    return value.replace("\r\n", "\n").strip(" \t\n")


def parse_exec_form(text: str) -> list[str] | None:
    """Return the words of a JSON array on one or more lines; None for anything else."""
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
    """Return the text if each line but the last ends in a backslash; None otherwise.

    Empty lines in between are dropped, because builders warn about them, and so is the backslash of
    the last line, which would join the next instruction. With `comments_end` comments may follow
    the text.
    """
    lines: list[str] = []
    comments: list[str] = []
    continues = True
    for line in text.split("\n"):
        if lines and (not line.strip() or line.lstrip().startswith("#")):
            if not continues and not comments_end:
                return None
            comments += [line] if line.strip() else []
            continue
        if not continues:
            return None
        lines += [*comments, line]
        comments = []
        continues = _LINE_CONTINUATION.search(line) is not None
    if continues:
        lines[-1] = _LINE_CONTINUATION.sub("", lines[-1]).rstrip()
    return "\n".join(lines)


def _script(text: str, place: str) -> str:
    """Return the script for the shell."""
    bare = _BARE_HEREDOC.match(text)
    if bare is not None:
        return _heredoc_body(text[bare.end() :], bare, place)
    # In a heredoc the backslashes belong to the content, and its end stays on its own line.
    return text if _HEREDOC_OPENING.search(text) else join_lines(text)


def _heredoc_body(text: str, opening: re.Match[str], place: str) -> str:
    lines = text.split("\n")
    if opening[1]:
        lines = [line.lstrip("\t") for line in lines]
    if opening[3] not in lines:
        raise BuildError(
            f"{place}: the heredoc is not closed", hint=f"its last line contains only {opening[3]}"
        )
    end = lines.index(opening[3])
    if any(line.strip() for line in lines[end + 1 :]):
        raise BuildError(
            f"{place}: text follows the end of the heredoc",
            hint="give it a directive of its own",
        )
    return "\n".join(lines[:end])


def ends_with_heredoc(text: str) -> bool:
    """Return True for one line with heredocs, the last of which ends at the end of the text."""
    first, *lines = text.split("\n")
    openings = list(_HEREDOC_OPENING.finditer(first))
    for opening in openings:
        candidates = [line.lstrip("\t") if opening[1] else line for line in lines]
        if opening[3] not in candidates:
            return False
        lines = lines[candidates.index(opening[3]) + 1 :]
    return bool(openings) and not lines and _LINE_CONTINUATION.search(first) is None


def _exec_form(script: str, shell: Sequence[str]) -> str:
    if script.startswith("#!"):
        return _json_array(["/bin/sh", "-c", _with_interpreter(script)])
    if not _is_shell(shell[0]):
        script = _one_line(script)
    return _json_array([*shell, script])


def _with_interpreter(script: str) -> str:
    """Pass a script that names its interpreter to that interpreter, as BuildKit does."""
    mark = _unused_delimiter(script)
    interpreter = script.split("\n", 1)[0][2:].strip()
    return f"{interpreter} /dev/stdin <<'{mark}'\n{script}\n{mark}"


def _one_line(script: str) -> str:
    """Return the script without line breaks, which `conda run` does not accept."""
    quoted = script.replace("\\", "\\\\").replace("\n", "\\n").replace("'", "\\0047")
    return f"eval \"$(printf %b '{quoted}')\""


def _is_shell(program: str) -> bool:
    return posixpath.basename(program) in _SHELLS


def _unused_delimiter(script: str) -> str:
    """Return a word that is not a line of the script."""
    lines = {line.strip() for line in script.split("\n")}
    mark, number = "EOF", 1
    while mark in lines:
        mark, number = f"EOF{number}", number + 1
    return mark


def _json_array(words: Sequence[str]) -> str:
    return json.dumps(list(words), ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction, on one or more lines.

    `place` is that of the directive, or the requirements file; "" for fnbuild's own instructions.
    """

    text: str
    place: str = ""


_COMMAND = Instruction('CMD ["processor"]')


@dataclass(frozen=True, slots=True)
class Dockerfile:
    instructions: tuple[Instruction, ...]

    @property
    def text(self) -> str:
        return "".join(f"{instruction.text}\n" for instruction in self.instructions)


def pre_copy_dockerfile(recipe: Recipe) -> Dockerfile:
    """Return the Dockerfile up to the code: the base image and the lines of preCopy."""
    return Dockerfile(
        (*_base_instructions(recipe), *_DirectiveWriter(recipe).instructions(recipe.pre_copy))
    )


def full_dockerfile(recipe: Recipe, python: ImagePython) -> Dockerfile:
    """Return the whole Dockerfile. `python` is the handler's, which installs its requirements.

    It begins with the instructions of `pre_copy_dockerfile`, so that the engine has them in its
    cache.
    """
    writer = _DirectiveWriter(recipe)
    return Dockerfile(
        (
            *_base_instructions(recipe),
            *writer.instructions(recipe.pre_copy),
            *_copy_instructions(recipe, python),
            *writer.instructions(recipe.post_copy),
            *((_COMMAND,) if recipe.post_copy else ()),
        )
    )


def _base_instructions(recipe: Recipe) -> Iterator[Instruction]:
    yield Instruction(f"FROM {recipe.base}")
    for name, default in recipe.args:
        yield Instruction(f"ARG {name}={default}" if default else f"ARG {name}")


def _copy_instructions(recipe: Recipe, python: ImagePython) -> Iterator[Instruction]:
    """Yield fnbuild's instructions, rarely changed files first.

    The engine repeats every instruction after a change. Most engines create a container for each,
    so what depends on no file is before the files.
    """
    yield _unpack(RUNTIME_ARCHIVE)
    yield Instruction(
        f"HEALTHCHECK --interval={recipe.health_interval} --timeout={_HEALTH_TIMEOUT}"
        f" CMD {_json_array(_HEALTH_COMMAND)}"
    )
    if not recipe.post_copy:
        yield _COMMAND
    if recipe.grpc:
        yield _unpack(GRPC_ARCHIVE)
    if recipe.requirements is not None:
        file = f"{CODE_FOLDER}/{recipe.requirements}"
        yield _unpack(REQUIREMENTS_ARCHIVE)
        words = (python.path, "-m", "pip", "install", "--no-cache-dir", "-r", file)
        yield Instruction(f"RUN {_json_array(words)}", recipe.requirements)
    if recipe.large:
        yield _unpack(LARGE_FILES_ARCHIVE)
    yield _unpack(CONFIG_ARCHIVE)
    yield _unpack(CODE_ARCHIVE)
    if recipe.labels:
        pairs = (f"{name}={json.dumps(value)}" for name, value in recipe.labels)
        yield Instruction(f"LABEL {' '.join(pairs)}")


def _unpack(archive: str) -> Instruction:
    return Instruction(f"ADD {archive} /")


class _DirectiveWriter:
    """Turn directives into instructions, and keep track of the current shell."""

    def __init__(self, recipe: Recipe) -> None:
        self._shell = recipe.shell
        self._heredocs = recipe.heredocs

    def instructions(self, directives: tuple[PlacedDirective, ...]) -> Iterator[Instruction]:
        for directive in directives:
            yield Instruction(f"{directive.kind} {self._text(directive)}", directive.place)

    def _text(self, directive: PlacedDirective) -> str:
        if directive.kind == "RUN":
            return format_run(directive.value, directive.place, self._shell, self._heredocs)
        text = normalize_text(directive.value)
        if directive.kind in ("ADD", "COPY") and _HEREDOC_START.search(text.partition("\n")[0]):
            return self._heredoc_text(directive, text)
        array = parse_exec_form(text)
        if array is not None and "\n" in text:
            text = _json_array(array)
        continued_text = as_continued_lines(text, comments_end=True)
        if continued_text is None:
            raise BuildError(
                f"{directive.place}: a line break ends {directive.kind} in the middle:"
                f" {quoted(text)}",
                hint="end the line with a backslash, or write a directive for each line",
            )
        if directive.kind == "SHELL":
            self._shell = self._shell_of(directive, continued_text)
        return continued_text

    def _heredoc_text(self, directive: PlacedDirective, text: str) -> str:
        """Return the text of a COPY or ADD with the content of files."""
        if not self._heredocs:
            raise BuildError(
                f"{directive.place}: the engine does not support heredocs in {directive.kind}",
                hint=f"put the file into the function's folder and write `{directive.kind}"
                " handler/FILE …`, or use an engine that does: Docker 23, podman 5, buildah 1.33,"
                " or newer",
            )
        if not ends_with_heredoc(text):
            raise BuildError(
                f"{directive.place}: the heredoc does not end where the text ends",
                hint="its last line contains only the word after `<<`",
            )
        return text

    def _shell_of(self, directive: PlacedDirective, text: str) -> tuple[str, ...]:
        words = parse_exec_form("".join(text.split("\\\n")))
        if not words:
            raise BuildError(
                f"{directive.place}: SHELL needs a JSON array, not {quoted(text)}",
                hint='write it with double quotes: `["/bin/bash", "-c"]`',
            )
        return tuple(words)
