"""Parse a Dockerfile into instructions, counted as the engines count them."""

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

    @property
    def stage_name(self) -> str:
        """Return the name that a FROM gives its stage, in lower case; "" if there is none."""
        words = self.text.split()
        is_named = self.kind == "FROM" and len(words) > 3 and words[-2].upper() == "AS"
        return words[-1].lower() if is_named else ""


def parse_dockerfile(text: str) -> list[ParsedInstruction]:
    """Return the instructions in order."""
    instructions: list[ParsedInstruction] = []
    stage = -1
    for first, last, instruction_text in _logical_lines(text):
        kind = instruction_text.split(None, 1)[0].upper()
        stage += kind == "FROM"
        instructions.append(ParsedInstruction(kind, instruction_text, first, last, stage))
    return instructions


def _logical_lines(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield (first line, last line, text) of each instruction, with continued lines joined."""
    lines = text.splitlines()
    escape = next((m[1] for line in lines[:5] if (m := _ESCAPE.match(line))), "\\")
    index = 0
    while index < len(lines):
        if not lines[index].strip() or _COMMENT.match(lines[index]):
            index += 1
            continue
        first = index
        parts: list[str] = []
        while index < len(lines):
            line = lines[index]
            index += 1
            if parts and (not line.strip() or _COMMENT.match(line)):
                continue  # the engines skip them between continued lines
            stripped = line.rstrip()
            continues = stripped.endswith(escape)
            parts.append(stripped[:-1] if continues else stripped)
            if not continues:
                break
        joined = " ".join(" ".join(parts).split())
        if joined.split(None, 1)[0].upper() in _WITH_HEREDOCS:
            index = _after_heredocs(joined, lines, index)
        yield first + 1, index, joined


def _after_heredocs(instruction: str, lines: list[str], index: int) -> int:
    """Return the index of the line after the heredocs that the instruction opens."""
    for dash, _, word in _HEREDOC.findall(instruction):
        for number in range(index, len(lines)):
            line = lines[number].lstrip("\t") if dash else lines[number]
            if line == word:
                index = number + 1
                break
    return index


def referenced_images(text: str, arguments: Mapping[str, str]) -> list[str]:
    """Return the images that the Dockerfile names in FROM and COPY --from."""
    values: dict[str, str] = {}
    stages: set[str] = {"scratch"}
    images: list[str] = []
    for instruction in parse_dockerfile(text):
        words = instruction.text.split()
        if instruction.kind == "ARG" and instruction.stage < 0:
            name, _, default = words[1].partition("=")
            values[name] = arguments.get(name, default.strip("\"'"))
        name = referenced_image(instruction)
        if name:
            image = _VARIABLE.sub(lambda m: values.get(m[1] or m[2], ""), name)
            if image.lower() not in stages and not image.isdigit() and image not in images:
                images.append(image)
        if instruction.stage_name:
            stages.add(instruction.stage_name)
    return images


def referenced_image(instruction: ParsedInstruction) -> str:
    """Return the image or stage that a FROM or COPY --from names; "" for other instructions."""
    words = instruction.text.split()[1:]
    if instruction.kind == "FROM":
        return next((word for word in words if not word.startswith("--")), "")
    sources = [word for word in words if instruction.kind == "COPY" and word.startswith("--from=")]
    return sources[0].partition("=")[2] if sources else ""
