"""Read a `.dockerignore` by Docker's rules (moby/patternmatcher).

Docker's own Python package also has a matcher, but it treats `Models` and `models` alike.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fnbuild.errors import InputError
from fnbuild.function.source_text import quoted

DOCKERIGNORE = ".dockerignore"


@dataclass(frozen=True, slots=True)
class IgnoreRules:
    """Patterns in order: the last one that matches a path, or a parent folder, decides."""

    rules: tuple[tuple[bool, re.Pattern[str]], ...] = ()

    def ignores(self, path: str) -> bool:
        """Return True if the path, relative to the file's folder, is left out."""
        parts = path.split("/")
        paths = ["/".join(parts[: count + 1]) for count in range(len(parts))]
        ignored = False
        for exception, pattern in self.rules:
            if exception == ignored and any(pattern.fullmatch(candidate) for candidate in paths):
                ignored = not exception
        return ignored


def read_dockerignore(folder: Path) -> IgnoreRules:
    """Return the rules of the folder's `.dockerignore`; none if there is no such file.

    Raises `InputError` with the line for an invalid pattern.
    """
    try:
        text = (folder / DOCKERIGNORE).read_bytes().decode("utf-8-sig", "surrogateescape")
    except (FileNotFoundError, IsADirectoryError):
        return IgnoreRules()
    return parse_dockerignore(text.split("\n"))


def parse_dockerignore(lines: Sequence[str]) -> IgnoreRules:
    """Return the rules of the lines; comments have their `#` in the first column."""
    rules = []
    for number, line in enumerate(lines, 1):
        pattern = line.strip()
        if line.startswith("#") or not pattern:
            continue
        exception = pattern.startswith("!")
        pattern = pattern[1:].strip() if exception else pattern
        place = f"{DOCKERIGNORE}:{number}"
        if not pattern:
            raise InputError(f"{place}: {quoted(line)} names no pattern", hint="write `!PATTERN`")
        # Patterns are relative to the root of the folder.
        clean = posixpath.normpath(pattern).lstrip("/")
        if clean in (".", ""):
            continue
        try:
            rules.append((exception, re.compile(_expression(clean), re.DOTALL)))
        except re.error as error:
            raise InputError(
                f"{place}: {quoted(line)} is not a valid pattern: {error.msg}"
            ) from error
    return IgnoreRules(tuple(rules))


def _expression(pattern: str) -> str:
    """Return the pattern as a regular expression for a whole path."""
    expression = ""
    position = 0
    while position < len(pattern):
        char = pattern[position]
        position += 1
        if char == "*" and pattern.startswith("*", position):
            position += 1
            position += pattern.startswith("/", position)
            expression += "(.*/)?" if position < len(pattern) else ".*"
        elif char == "*":
            expression += "[^/]*"
        elif char == "?":
            expression += "[^/]"
        elif char == "[":
            end = _class_end(pattern, position)
            # Python warns of some doubled characters in a class.
            expression += "[" + re.sub(r"(?<!\\)[\[&~|]", r"\\\g<0>", pattern[position:end]) + "]"
            position = end + 1
        elif char == "\\" and position < len(pattern):
            expression += re.escape(pattern[position])
            position += 1
        else:
            expression += re.escape(char)
    return expression


def _class_end(pattern: str, start: int) -> int:
    """Return the end of the character class whose bracket is before `start`."""
    position = start + pattern.startswith("^", start)
    while position < len(pattern) and pattern[position] != "]":
        position += 2 if pattern[position] == "\\" else 1
    if position >= len(pattern) or position == start:
        raise re.error("a bracket is not closed")
    return position
