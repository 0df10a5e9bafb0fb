"""Split the shell text of a RUN directive into simple commands, without running a shell.

The parser understands enough of the shell to find the commands and their words: quotes, escapes,
comments, operators, redirections, variables with known values. A command with parts that only a
shell can evaluate (substitutions, unknown variables) is marked, so that no caller acts on half of
its meaning.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_OPERATOR = re.compile(r"&&|\|\||;;|[;&|()\n]")
_REDIRECTION = re.compile(r"&?>[>|&]?|<<?<?[-&]?")
_PLAIN = re.compile(r"[^\s\\'\"$`<>&|;()#]+")
_QUOTED_ESCAPE = re.compile(r'\\[$`"\\]')
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?::?-([^{}$`]*))?\})")
_MAX_REQUIREMENT_PARTS = 40
# `numpy>=1.26` without quotes: a shell would write a file, but the author meant a version.
_VERSION = re.compile(r"[<>]=?\d")
_PACKAGE = re.compile(r"[A-Za-z][\w.-]*(\[[\w,.-]*\])?([<>=!~]=?[\w.*]+,)*$")


@dataclass(frozen=True, slots=True)
class ShellCommand:
    """A simple command.

    `operator` is the operator before it, "" for the first command. `unresolved`: a word depends on
    something that only a shell can evaluate.
    """

    words: tuple[str, ...]
    operator: str = ""
    unresolved: bool = False


def parse_commands(text: str, variables: Mapping[str, str]) -> list[ShellCommand]:
    """Return the simple commands of a shell text, in order."""
    return _Parser(join_lines(text), variables).parse()


def join_lines(text: str) -> str:
    """Join lines that end in a backslash, as Docker does.

    Comments and empty lines between them are dropped. Two backslashes are one for the shell.
    """
    joined: list[str] = []
    continued = False
    for line in text.replace("\r\n", "\n").split("\n"):
        if continued and (not line.strip() or line.lstrip().startswith("#")):
            continue
        stripped = line.rstrip()
        continues = stripped.endswith("\\") and not stripped.endswith("\\\\")
        part = stripped[:-1] if continues else line
        if continued:
            joined[-1] += part
        else:
            joined.append(part)
        continued = continues
    return "\n".join(joined)


@dataclass(slots=True)
class _Parser:
    text: str
    variables: Mapping[str, str]
    position: int = 0
    parts: list[str] | None = None  # of the current word; None between words
    words: list[str] = field(default_factory=list)
    commands: list[ShellCommand] = field(default_factory=list)
    operator: str = ""
    unresolved: bool = False
    drop_next: bool = False

    def parse(self) -> list[ShellCommand]:
        while self.position < len(self.text):
            self._step()
        self._end_command("")
        return self.commands

    def _step(self) -> None:
        char = self.text[self.position]
        if plain := _PLAIN.match(self.text, self.position):
            self._add(plain[0])
            self.position = plain.end()
        elif char in "<>" or self.text.startswith("&>", self.position):
            self._redirection()
        elif operator := _OPERATOR.match(self.text, self.position):
            self.position = operator.end()
            self._end_command(operator[0])
        elif char.isspace():
            self.position += 1
            self._end_word()
        elif char == "#" and self.parts is None:
            self.position = self._find("\n", self.position)
        elif char == "\\":
            self._add(self.text[self.position + 1 : self.position + 2])
            self.position += 2
        elif char == "'":
            end = self._find("'", self.position + 1)
            self._add(self.text[self.position + 1 : end])
            self.position = end + 1
        elif char == '"':
            self.position += 1
            self._double_quoted()
        elif char in "$`":
            self._dollar(split=True)
        else:
            self._add(char)
            self.position += 1

    def _find(self, text: str, start: int) -> int:
        end = self.text.find(text, start)
        return len(self.text) if end < 0 else end

    def _add(self, text: str) -> None:
        if self.parts is None:
            self.parts = []
        self.parts.append(text)

    def _double_quoted(self) -> None:
        self._add("")
        while self.position < len(self.text):
            char = self.text[self.position]
            if char == '"':
                self.position += 1
                return
            if char in "$`":
                self._dollar(split=False)
            elif _QUOTED_ESCAPE.match(self.text, self.position):
                self._add(self.text[self.position + 1])
                self.position += 2
            else:
                self._add(char)
                self.position += 1

    def _dollar(self, *, split: bool) -> None:
        if match := _VARIABLE.match(self.text, self.position):
            self.position = match.end()
            value = self.variables.get(match[1] or match[2], match[3])
            if value is None:
                self.unresolved = True
                self._add(match[0])
            elif split:
                self._add_split(value)
            else:
                self._add(value)
        elif self.text.startswith(("$(", "${", "`"), self.position):
            self.unresolved = True
            end = _substitution_end(self.text, self.position)
            self._add(self.text[self.position : end])
            self.position = end
        else:
            self._add("$")
            self.position += 1

    def _add_split(self, value: str) -> None:
        """Add the value of an unquoted variable, which a shell splits into words."""
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
        # No requirement has many parts, and a hostile text may have a million.
        word = "".join((self.parts or [])[:_MAX_REQUIREMENT_PARTS])
        if _PACKAGE.match(word) and _VERSION.match(self.text, self.position):
            self._add(self.text[self.position])
            self.position += 1
            return
        if word.isdigit():
            self.parts = None  # the number of a file descriptor
        self._end_word()
        match = _REDIRECTION.match(self.text, self.position)
        assert match is not None
        self.position = match.end()
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
            self.commands.append(ShellCommand(tuple(self.words), self.operator, self.unresolved))
            self.words = []
        self.unresolved = False
        if operator:
            self.operator = operator


def _substitution_end(text: str, start: int) -> int:
    """Return the end of the substitution that begins at `start`, or of the text."""
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
