"""Tables in Markdown, and their places between two markers of a document."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class MarkerError(Exception):
    """The document has no markers for a table."""


def insert(text: str, document: Path, begin: str, end: str) -> None:
    """Put the text between the two markers; raise `MarkerError` if they are missing."""
    content = document.read_text()
    before, found_begin, remainder = content.partition(begin)
    _, found_end, after = remainder.partition(end)
    if not found_begin or not found_end:
        raise MarkerError(f"{document} has no {begin} and {end}")
    document.write_text(f"{before}{begin}\n\n{text}\n{end}{after}")


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of cells."""
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    lines += ["| " + " | ".join(cell.replace("|", "/") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"
