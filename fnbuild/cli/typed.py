"""The global options that were typed, for the commands that messages propose.

Who types `-n other` and is told to run a command wants it to be about the same namespace.
"""

from __future__ import annotations

import re
import shlex

_COMMAND = re.compile(r"`fnbuild ([^`]+)`")
# They are about folders and this program alone.
_WITHOUT = ("build", "completion", "down", "help", "init", "run", "up", "validate", "version")
_LONG = {"-n": "--namespace", "-k": "--kubeconfig"}

_typed: dict[str, str] = {}


def forget() -> None:
    """Begin with a new command line."""
    _typed.clear()


def remember(option: str, value: str) -> None:
    """Note an option of this command line by the name it has in messages."""
    _typed[option] = value


def completed(text: str) -> str:
    """The text, in which each proposed command has the options that this command line has."""
    return _COMMAND.sub(_complete, text) if _typed else text


def _complete(found: re.Match[str]) -> str:
    words = found[1].split()
    if words[0].startswith("-") or words[0] in _WITHOUT:
        return found[0]
    given = [
        f"{option} {shlex.quote(value)}"
        for option, value in _typed.items()
        if not {option, _LONG.get(option, option)} & set(words)
    ]
    return f"`{' '.join(['fnbuild', found[1], *given])}`"
