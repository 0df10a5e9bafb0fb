"""What a `.dockerignore` leaves out, by Docker's rules (moby/patternmatcher).

Docker's own Python package has a matcher too, but that one takes `Models` for `models`.
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
    """Patterns in their order: the last one that matches a path, or a folder above it, decides."""

    rules: tuple[tuple[bool, re.Pattern[str]], ...] = ()

    def ignores(self, path: str) -> bool:
        """Whether the path, relative to the file's folder, is left out."""
        parts = path.split("/")
        paths = ["/".join(parts[: count + 1]) for count in range(len(parts))]
        ignored = False
        for exception, pattern in self.rules:
            if exception == ignored and any(pattern.fullmatch(one) for one in paths):
                ignored = not exception
        return ignored


def read_dockerignore(folder: Path) -> IgnoreRules:
    """The rules of the folder's `.dockerignore`; none when there is no such file.

    Raises `InputError` with the line for what is no pattern.
    """
    try:
        text = (folder / DOCKERIGNORE).read_bytes().decode("utf-8-sig", "surrogateescape")
    except (FileNotFoundError, IsADirectoryError):
        return IgnoreRules()
    return parse_dockerignore(text.split("\n"))


def parse_dockerignore(lines: Sequence[str]) -> IgnoreRules:
    """The rules of the lines; comments have their `#` in the first column."""
    rules = []
    for number, line in enumerate(lines, 1):
        pattern = line.strip()
        if line.startswith("#") or not pattern:
            continue
        exception = pattern.startswith("!")
        pattern = pattern[1:].strip() if exception else pattern
        place = f"{DOCKERIGNORE}:{number}"
        if not pattern:
            raise InputError(f"{place}: {quoted(line)} names nothing", hint="write `!PATTERN`")
        # Docker takes a pattern for a path from the root of the folder.
        clean = posixpath.normpath(pattern).lstrip("/")
        if clean in (".", ""):
            continue
        try:
            rules.append((exception, re.compile(_expression(clean), re.DOTALL)))
        except re.error as error:
            raise InputError(f"{place}: {quoted(line)} is no pattern: {error.msg}") from error
    return IgnoreRules(tuple(rules))


def _expression(pattern: str) -> str:
    """The pattern as a regular expression for a whole path."""
    made = ""
    at = 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "*" and pattern.startswith("*", at):
            at += 1
            at += pattern.startswith("/", at)
            made += "(.*/)?" if at < len(pattern) else ".*"
        elif char == "*":
            made += "[^/]*"
        elif char == "?":
            made += "[^/]"
        elif char == "[":
            end = _class_end(pattern, at)
            # To Python some doubled signs in a class may mean more one day, and it warns of them.
            made += "[" + re.sub(r"(?<!\\)[\[&~|]", r"\\\g<0>", pattern[at:end]) + "]"
            at = end + 1
        elif char == "\\" and at < len(pattern):
            made += re.escape(pattern[at])
            at += 1
        else:
            made += re.escape(char)
    return made


def _class_end(pattern: str, start: int) -> int:
    """Where the character class ends whose bracket is before `start`."""
    at = start + pattern.startswith("^", start)
    while at < len(pattern) and pattern[at] != "]":
        at += 2 if pattern[at] == "\\" else 1
    if at >= len(pattern) or at == start:
        raise re.error("a bracket is not closed")
    return at
