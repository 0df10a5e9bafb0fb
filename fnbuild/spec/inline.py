"""Configuration in the source code: the `@nuclio.configure` block of a Python file.

As in Nuclio (pkg/processor/build/inlineparser/parser.go), a block is a run of comment lines whose
text is YAML with the key `function.yaml`. A block that the end of the file closes counts as well.
"""

from __future__ import annotations

import re

from fnbuild.errors import Report
from fnbuild.spec.decode import Decoder
from fnbuild.spec.source import Source
from fnbuild.spec.syntax import read_tree
from fnbuild.spec.types import Function

_START = re.compile(r"#@nuclio\.(\w+)")
_KEY = "function.yaml"


def block(text: str, file: str, report: Report) -> Source | None:
    """The text of the first configure block, with places of the file it stands in."""
    lines = text.split("\n")
    for row, line in enumerate(lines):
        found = _START.match("".join(line.split()))
        if not found or found.group(1) != "configure":
            continue
        taken: list[str] = []
        for inner in lines[row + 1 :]:
            if not inner.startswith("#"):
                break
            taken.append(inner[2:].rstrip("\r"))
        return Source("\n".join(taken), file, report, line_offset=row + 1, prefix="# ")
    return None


def read_inline(
    text: str, file: str, report: Report, *, strict: bool = False
) -> tuple[Function, Decoder | None]:
    """The function a source file describes; an empty one when it has no block."""
    source = block(text, file, report)
    if source is None:
        return Function(), None
    tree = read_tree(source)
    if tree is None:
        return Function(), None
    root, source = tree
    if root.kind == "map":
        for key, value in root.pairs:
            if key.text == _KEY:
                decoder = Decoder(source, strict=strict)
                return decoder.read(Function, value), decoder
    message = f"the configure block has no key {_KEY}, so it says nothing"
    span = root.span(source)
    source.warning("inline", message, span, f"put everything below a line `# {_KEY}:`")
    return Function(), None
