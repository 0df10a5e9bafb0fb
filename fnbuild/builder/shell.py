"""Splits the shell text of a RUN directive into simple commands. Nothing is ever run by a shell.

Enough of the shell is understood to find the commands and their words: quotes, escapes, comments,
operators, redirections, variables with known values. What only a shell can tell (substitutions,
unknown variables) marks the command, so that nobody acts on half of its meaning.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_OPERATOR = re.compile(r"&&|\|\||;;|[;&|()\n]")
_REDIRECTION = re.compile(r"&?>[>|&]?|<<?<?[-&]?")
_PLAIN = re.compile(r"[^\s\\'\"$`<>&|;()#]+")
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?::?-([^{}$`]*))?\})")
# `numpy>=1.26` without quotes: a shell would write a file, but its author meant a version.
_MAX_REQUIREMENT_PARTS = 40
_VERSION = re.compile(r"[<>]=?\d")
_PACKAGE = re.compile(r"[A-Za-z][\w.-]*(\[[\w,.-]*\])?([<>=!~]=?[\w.*]+,)*$")


@dataclass(frozen=True, slots=True)
class ShellCommand:
    """A simple command. `unknown`: a word of it depends on what only a shell can tell.

    `after` is the operator in front of it, empty for the first.
    """

    words: tuple[str, ...]
    after: str = ""
    unknown: bool = False


def parse_commands(text: str, variables: Mapping[str, str]) -> list[ShellCommand]:
    """The simple commands of a shell text, in order."""
    return _Parser(join_lines(text), variables).read()


def join_lines(text: str) -> str:
    """Lines that end in a backslash joined, as Docker does.

    Comments and empty lines between them are dropped. Two backslashes are one for the shell.
    """
    joined: list[str] = []
    open_line = False
    for line in text.replace("\r\n", "\n").split("\n"):
        if open_line and (not line.strip() or line.lstrip().startswith("#")):
            continue
        stripped = line.rstrip()
        more = stripped.endswith("\\") and not stripped.endswith("\\\\")
        part = stripped[:-1] if more else line
        if open_line:
            joined[-1] += part
        else:
            joined.append(part)
        open_line = more
    return "\n".join(joined)


@dataclass(slots=True)
class _Parser:
    text: str
    variables: Mapping[str, str]
    at: int = 0
    parts: list[str] | None = None  # of the word being read; None between words
    words: list[str] = field(default_factory=list)
    found: list[ShellCommand] = field(default_factory=list)
    after: str = ""
    unknown: bool = False
    drop_next: bool = False

    def read(self) -> list[ShellCommand]:
        while self.at < len(self.text):
            self._step()
        self._end_command("")
        return self.found

    def _step(self) -> None:
        char = self.text[self.at]
        if plain := _PLAIN.match(self.text, self.at):
            self._add(plain[0])
            self.at = plain.end()
        elif char in "<>" or self.text.startswith("&>", self.at):
            self._redirection()
        elif operator := _OPERATOR.match(self.text, self.at):
            self.at = operator.end()
            self._end_command(operator[0])
        elif char.isspace():
            self.at += 1
            self._end_word()
        elif char == "#" and self.parts is None:
            self.at = self._find("\n", self.at)
        elif char == "\\":
            self._add(self.text[self.at + 1 : self.at + 2])
            self.at += 2
        elif char == "'":
            end = self._find("'", self.at + 1)
            self._add(self.text[self.at + 1 : end])
            self.at = end + 1
        elif char == '"':
            self.at += 1
            self._double_quoted()
        elif char in "$`":
            self._dollar(split=True)
        else:
            self._add(char)
            self.at += 1

    def _find(self, text: str, start: int) -> int:
        end = self.text.find(text, start)
        return len(self.text) if end < 0 else end

    def _add(self, text: str) -> None:
        if self.parts is None:
            self.parts = []
        self.parts.append(text)

    def _double_quoted(self) -> None:
        self._add("")
        while self.at < len(self.text):
            char = self.text[self.at]
            if char == '"':
                self.at += 1
                return
            if char in "$`":
                self._dollar(split=False)
            elif char == "\\" and self.text[self.at + 1 : self.at + 2] in tuple('$`"\\'):
                self._add(self.text[self.at + 1])
                self.at += 2
            else:
                self._add(char)
                self.at += 1

    def _dollar(self, *, split: bool) -> None:
        if match := _VARIABLE.match(self.text, self.at):
            self.at = match.end()
            value = self.variables.get(match[1] or match[2], match[3])
            if value is None:
                self.unknown = True
                self._add(match[0])
            elif split:
                self._add_split(value)
            else:
                self._add(value)
        elif self.text.startswith(("$(", "${", "`"), self.at):
            self.unknown = True
            end = _substitution_end(self.text, self.at)
            self._add(self.text[self.at : end])
            self.at = end
        else:
            self._add("$")
            self.at += 1

    def _add_split(self, value: str) -> None:
        """The value of a variable outside quotes: a shell splits it into words."""
        parts = value.split()
        if value[:1].isspace():
            self._end_word()
        for index, part in enumerate(parts):
            if index:
                self._end_word()
            self._add(part)
        if parts and value[-1:].isspace():
            self._end_word()

    def _redirection(self) -> None:
        # No requirement has many pieces, and a hostile text may have a million.
        word = "".join((self.parts or [])[:_MAX_REQUIREMENT_PARTS])
        if _PACKAGE.match(word) and _VERSION.match(self.text, self.at):
            self._add(self.text[self.at])
            self.at += 1
            return
        if word.isdigit():
            self.parts = None  # the number of a descriptor
        self._end_word()
        match = _REDIRECTION.match(self.text, self.at)
        assert match is not None
        self.at = match.end()
        self.drop_next = True

    def _end_word(self) -> None:
        if self.parts is not None:
            if not self.drop_next:
                self.words.append("".join(self.parts))
            self.drop_next = False
        self.parts = None

    def _end_command(self, operator: str) -> None:
        self._end_word()
        self.drop_next = False
        if self.words:
            self.found.append(ShellCommand(tuple(self.words), self.after, self.unknown))
            self.words = []
        self.unknown = False
        if operator:
            self.after = operator


def _substitution_end(text: str, start: int) -> int:
    """Where the substitution that starts there ends, or the text."""
    if text[start] == "`":
        end = text.find("`", start + 1)
        return len(text) if end < 0 else end + 1
    opening = text[start + 1]
    closing = {"(": ")", "{": "}"}[opening]
    depth = 0
    for index in range(start + 1, len(text)):
        depth += (text[index] == opening) - (text[index] == closing)
        if depth == 0:
            return index + 1
    return len(text)
