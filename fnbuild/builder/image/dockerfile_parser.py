"""Where the instructions of a Dockerfile begin and end, as the engines count them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_ESCAPE = re.compile(r"#\s*escape\s*=\s*([\\`])\s*$", re.IGNORECASE)
_COMMENT = re.compile(r"\s*#")
_HEREDOC = re.compile(r"(?:^|\s)\d*<<(-?)(['\"]?)([A-Za-z_][\w.]*)\2(?=\s|$)")
_VARIABLE = re.compile(r"\$(?:\{(\w+)(?::-[^}]*)?\}|(\w+))")
_WITH_HEREDOCS = ("RUN", "COPY", "ADD")


@dataclass(frozen=True, slots=True)
class ParsedInstruction:
    """One instruction. `text` is on one line; lines count from 1; `stage` is -1 before a FROM."""

    kind: str
    text: str
    line: int
    last_line: int
    stage: int


def parse_dockerfile(text: str) -> list[ParsedInstruction]:
    """The instructions in their order."""
    found: list[ParsedInstruction] = []
    stage = -1
    for first, last, words in _logical_lines(text):
        kind = words.split(None, 1)[0].upper()
        stage += kind == "FROM"
        found.append(ParsedInstruction(kind, words, first, last, stage))
    return found


def _logical_lines(text: str) -> Iterator[tuple[int, int, str]]:
    """(first line, last line, text) of each instruction, continued lines joined."""
    lines = text.splitlines()
    escape = next((m[1] for line in lines[:5] if (m := _ESCAPE.match(line))), "\\")
    index = 0
    while index < len(lines):
        if not lines[index].strip() or _COMMENT.match(lines[index]):
            index += 1
            continue
        first = index
        held: list[str] = []
        while index < len(lines):
            line = lines[index]
            index += 1
            if held and (not line.strip() or _COMMENT.match(line)):
                continue  # the engines skip them between continued lines
            stripped = line.rstrip()
            goes_on = stripped.endswith(escape)
            held.append(stripped[:-1] if goes_on else stripped)
            if not goes_on:
                break
        joined = " ".join(" ".join(held).split())
        if joined.split(None, 1)[0].upper() in _WITH_HEREDOCS:
            index = _after_heredocs(joined, lines, index)
        yield first + 1, index, joined


def _after_heredocs(instruction: str, lines: list[str], index: int) -> int:
    """The index of the line behind the heredocs that the instruction opens, if they are closed."""
    for dash, _, word in _HEREDOC.findall(instruction):
        for number in range(index, len(lines)):
            line = lines[number].lstrip("\t") if dash else lines[number]
            if line == word:
                index = number + 1
                break
    return index


def referenced_images(text: str, arguments: Mapping[str, str]) -> list[str]:
    """The images that the Dockerfile starts from or copies from, as far as it names them."""
    values: dict[str, str] = {}
    stages: set[str] = {"scratch"}
    images: list[str] = []
    for one in parse_dockerfile(text):
        words = one.text.split()
        if one.kind == "ARG" and one.stage < 0:
            name, _, default = words[1].partition("=")
            values[name] = arguments.get(name, default.strip("\"'"))
        named = referenced_image(one)
        if named:
            image = _VARIABLE.sub(lambda m: values.get(m[1] or m[2], ""), named)
            if image.lower() not in stages and not image.isdigit() and image not in images:
                images.append(image)
        if one.kind == "FROM" and len(words) > 3 and words[-2].upper() == "AS":
            stages.add(words[-1].lower())
    return images


def referenced_image(one: ParsedInstruction) -> str:
    """The image, or the stage, that a FROM or a COPY --from names; "" for other instructions."""
    words = one.text.split()[1:]
    if one.kind == "FROM":
        return next((word for word in words if not word.startswith("--")), "")
    sources = [word for word in words if one.kind == "COPY" and word.startswith("--from=")]
    return sources[0].partition("=")[2] if sources else ""
