"""Recognises pip among the words of a command, and tells its options from what it is to install."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from typing import Literal

_PIP = re.compile(r"pip(\d+(\.\d+)*)?$")
_PYTHON = re.compile(r"python(\d+(\.\d+)*)?$")
_PREFIXES = ("sudo", "env", "exec", "time", "command", "{")
_CONDA = ("conda", "mamba", "micromamba")

# Where to install, caches and output: the environment decides these. `-e` goes too, because what is
# installed is a copy, with nothing in it to edit.
_DROPPED = frozenset(
    (
        *("--no-cache-dir", "--no-cache", "-q", "-qq", "-qqq", "--quiet", "-v", "-vv", "-vvv"),
        *("--verbose", "--user", "--break-system-packages", "--disable-pip-version-check"),
        *("--no-input", "--no-warn-script-location", "--no-warn-conflicts", "--system", "-y"),
        *("--yes", "-e", "--editable"),
    )
)
_DROPPED_WITH_VALUE = frozenset(
    (
        *("-t", "--target", "--prefix", "--root", "--python", "--progress-bar", "--cache-dir"),
        *("--root-user-action", "--log", "--src"),
    )
)
_WITH_VALUE = frozenset(
    (
        *("-r", "--requirement", "-c", "--constraint", "-f", "--find-links"),
        *("-i", "--index-url", "--extra-index-url", "--trusted-host", "--no-binary", "--cert"),
        *("--only-binary", "--upgrade-strategy", "--timeout", "--retries", "--proxy", "-C"),
        *("--config-settings", "--global-option", "--build-option", "--install-option"),
        *("--use-feature", "--use-deprecated", "--client-cert", "--exists-action"),
    )
)


def pip_words(words: tuple[str, ...]) -> tuple[str, ...] | None:
    """The words after `pip` in the command, or None when the command is not pip.

    `pip3`, a path to pip, `python3.8 -m pip`, `uv pip`, and `sudo`, `env A=B` or `conda run` in
    front of them are understood.
    """
    words = _bare(words)
    if not words:
        return None
    name = posixpath.basename(words[0])
    if _PIP.match(name):
        return words[1:]
    if name == "uv" and words[1:2] == ("pip",):
        return words[2:]
    if _PYTHON.match(name):
        for index, word in enumerate(words[1:], 1):
            if word == "-m" and words[index + 1 : index + 2] == ("pip",):
                return words[index + 2 :]
            if not word.startswith("-"):
                break
    return None


def _bare(words: tuple[str, ...]) -> tuple[str, ...]:
    """The command without what stands in front of it."""
    index = 0
    while index < len(words):
        name = posixpath.basename(words[index])
        if re.match(r"\w+=", words[index]):
            index += 1
        elif name in _PREFIXES:
            index += 1
            while index < len(words) and words[index].startswith("-"):
                index += 1
        elif name in _CONDA and words[index + 1 : index + 2] == ("run",):
            index += 2
            while index < len(words) and not _is_program(words[index]):
                index += 1
        else:
            break
    return words[index:]


def _is_program(word: str) -> bool:
    name = posixpath.basename(word)
    return bool(_PIP.match(name) or _PYTHON.match(name))


def verb(words: tuple[str, ...]) -> Literal["install", "uninstall", "other", "none"]:
    """What pip is told to do. `other` is what changes something else than installed packages."""
    word = next((value for option, value in pairs(words) if not option), "")
    if word == "install":
        return "install"
    if word == "uninstall":
        return "uninstall"
    return "other" if word in ("config", "download", "wheel") else "none"


def pairs(words: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """(option, value) in order: the option is empty for an operand, the value for a flag.

    Options that mean nothing here are left out.
    """
    rest = iter(words)
    for word in rest:
        option, equals, value = word.partition("=")
        if not word.startswith("-"):
            yield "", word
        elif word in _DROPPED or option in _DROPPED_WITH_VALUE:
            if not equals and option in _DROPPED_WITH_VALUE:
                next(rest, "")
            elif equals and option in ("-e", "--editable"):
                yield "", value
        elif re.match(r"-[rcfi][^=]", word):
            yield word[:2], word[2:]
        elif option in _WITH_VALUE:
            yield option, value if equals else next(rest, "")
        elif option == "--editable":
            yield "", value
        else:
            yield word, ""
