"""What stands behind a RUN: the user's own text wherever a Dockerfile can hold it.

A Dockerfile knows no line breaks but those behind a backslash. Text with others (a script in
quotes, a heredoc) reaches the shell whole all the same: as a heredoc where the engine understands
them, else as the last word of the exec form.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Sequence

from fnbuild.build.shell import join_lines
from fnbuild.errors import BuildError

_FLAG = re.compile(r"(?:--[a-z]+=\S+\s+)*")
_BARE_HEREDOC = re.compile(r"<<(-?)(['\"]?)([A-Za-z_]\w*)\2[ \t]*\n")
_OPENING = re.compile(r"(?:^|\s)\d*<<(-?)(['\"]?)([A-Za-z_]\w*)\2(?=\s|$)")
_CONTINUED = re.compile(r"(?<!\\)\\[ \t]*$")
_SHELLS = ("sh", "ash", "bash", "dash", "ksh", "zsh")


def run_text(value: str, place: str, shell: Sequence[str], heredocs: bool) -> str:
    """The text behind RUN. `shell` is the one in effect there, as argument list.

    Raises `BuildError` with the place for a heredoc that does not end where the text ends.
    """
    value = tidy(value)
    flags = _FLAG.match(value)
    assert flags is not None
    text = value[flags.end() :]
    array = exec_form(text)
    if array is not None:
        return flags[0] + (text if "\n" not in text else _json(array))
    plain = continued(text)
    if plain is not None:
        return flags[0] + plain
    script = _script(text, place)
    if not heredocs or not _is_shell(shell[0]):
        return flags[0] + _exec(script, shell)
    if ends_with_heredoc(text):
        return flags[0] + text
    mark = _mark(script)
    return f"{flags[0]}<<'{mark}'\n{script}\n{mark}"


def tidy(value: str) -> str:
    """Without the blanks around it, and with line breaks as builders know them."""
    return value.replace("\r\n", "\n").strip(" \t\n")


def exec_form(text: str) -> list[str] | None:
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


def continued(text: str, *, comments_end: bool = False) -> str | None:
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
        more = _CONTINUED.search(line) is not None
    if more:
        kept[-1] = _CONTINUED.sub("", kept[-1]).rstrip()
    return "\n".join(kept)


def _script(text: str, place: str) -> str:
    """What the shell is to run."""
    bare = _BARE_HEREDOC.match(text)
    if bare is not None:
        return _body(text[bare.end() :], bare, place)
    # In a heredoc the backslashes are for its reader, and its end must stay on its own line.
    return text if _OPENING.search(text) else join_lines(text)


def _body(text: str, opening: re.Match[str], place: str) -> str:
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
    found = list(_OPENING.finditer(first))
    for opening in found:
        ends = [line.lstrip("\t") if opening[1] else line for line in lines]
        if opening[3] not in ends:
            return False
        lines = lines[ends.index(opening[3]) + 1 :]
    return bool(found) and not lines and _CONTINUED.search(first) is None


def _exec(script: str, shell: Sequence[str]) -> str:
    if script.startswith("#!"):
        return _json(["/bin/sh", "-c", _interpreted(script)])
    if not _is_shell(shell[0]):
        script = _one_line(script)
    return _json([*shell, script])


def _interpreted(script: str) -> str:
    """A script that names its interpreter, as BuildKit would run it: that one reads it."""
    mark = _mark(script)
    interpreter = script.split("\n", 1)[0][2:].strip()
    return f"{interpreter} /dev/stdin <<'{mark}'\n{script}\n{mark}"


def _one_line(script: str) -> str:
    """The script without line breaks, which `conda run` refuses to hand on."""
    quoted = script.replace("\\", "\\\\").replace("\n", "\\n").replace("'", "\\0047")
    return f"eval \"$(printf %b '{quoted}')\""


def _is_shell(program: str) -> bool:
    return posixpath.basename(program) in _SHELLS


def _mark(script: str) -> str:
    """A word that is no line of the script."""
    lines = {line.strip() for line in script.split("\n")}
    mark, number = "EOF", 1
    while mark in lines:
        mark, number = f"EOF{number}", number + 1
    return mark


def _json(words: Sequence[str]) -> str:
    return json.dumps(list(words), ensure_ascii=False)
