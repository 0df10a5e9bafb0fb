"""Fix errors that have one right answer, by edits of single spans: comments and layout stay.

These are tabs in the indentation, misspelt and outdated keys, quotes around numbers, flags of CVAT
that are "false" and count as true, commas before the end of a JSON list, and skeletons without an
svg.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fnbuild.errors import Report
from fnbuild.spec.decode import Decoder
from fnbuild.spec.embedded import Embedded
from fnbuild.spec.hints import renamed
from fnbuild.spec.locate import display, locate
from fnbuild.spec.nodes import Node, compose
from fnbuild.spec.skeleton_fix import svg_insertion
from fnbuild.spec.source import Source, conflict_markers, read_source, shown
from fnbuild.spec.tabs import TabMender, tab_row
from fnbuild.spec.types import Function

_BOM = b"\xef\xbb\xbf"
_MAX_ROUNDS = 40
_FALSE_WORDS = ("false", "no", "off", "0", "none")


@dataclass(frozen=True, slots=True)
class Fix:
    """One thing that was mended. The line is that of the text before."""

    file: str
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.what}"


@dataclass(frozen=True, slots=True)
class _Edit:
    start: int
    end: int
    text: str
    line: int
    what: str


def fix(path: Path) -> list[Fix]:
    """Mend the configuration file of a function and say what was done.

    `path` is a folder or a YAML file; other files are left alone. The file is replaced as a whole
    and keeps its mode. It is not touched when the result would have more errors than before.
    """
    located = locate(path, None, Report())
    if located is None or located.config is None:
        return []
    config = located.config.resolve()
    name = display(located.config)
    source = read_source(config, name, Report())
    if source is None or conflict_markers(source):
        return []
    text, fixes = mend(source.text, name)
    if fixes:
        _replace(config, text)
    return fixes


def mend(text: str, file: str) -> tuple[str, list[Fix]]:
    """The mended text of a configuration file, and what was done to it."""
    source = Source(text, file)
    fixes: list[Fix] = []
    source = _without_tabs(source, fixes)
    for _ in range(_MAX_ROUNDS):
        edits = _edits(source)
        if not edits:
            break
        fixes.extend(Fix(file, edit.line + 1, edit.what) for edit in edits)
        source = Source(_applied(source.text, edits), file)
    if not fixes or _errors(source) > _errors(Source(text, file)):
        return text, []
    return source.text, fixes


def _without_tabs(source: Source, fixes: list[Fix]) -> Source:
    mender = TabMender(20_000_000)
    for _ in source.lines:
        try:
            compose(Source(source.text, source.file))
        except yaml.YAMLError as error:
            row = tab_row(source, error)
            mended = None if row is None else mender.mend(source, row)
            if mended is None or row is None:
                return source
            fixes.append(Fix(source.file, row + 1, "tabs in the indentation became spaces"))
            source = mended
        else:
            return source
    return source


def _errors(source: Source) -> tuple[bool, int]:
    """How bad a text is: whether it cannot be read, and how many errors it has."""
    try:
        root = compose(source)
    except yaml.YAMLError:
        return True, 0
    if root is None:
        return True, 0
    Decoder(source).read(Function, root)
    return False, len(source.report.errors)


def _applied(text: str, edits: list[_Edit]) -> str:
    for edit in sorted(edits, key=lambda e: e.start, reverse=True):
        text = text[: edit.start] + edit.text + text[edit.end :]
    return text


def _edits(source: Source) -> list[_Edit]:
    """Edits that do not touch one another."""
    try:
        root = compose(source)
    except yaml.YAMLError:
        return []
    if root is None or root.kind != "map":
        return []
    decoder = Decoder(source)
    decoder.read(Function, root)
    found: dict[int, _Edit] = {}
    for edits in (_keys(decoder), _workers(decoder), _quotes(decoder), _flags(decoder)):
        for edit in edits:
            found.setdefault(edit.start, edit)
    result = list(found.values())
    return result or list(_json_comma(decoder)) or list(_skeletons(decoder))


def _over(source: Source, node: Node, text: str, what: str) -> _Edit:
    start = source.index(node.line, node.column)
    end = source.index(node.end_line, node.end_column)
    return _Edit(start, end, text, node.line, what)


def _keys(decoder: Decoder) -> Iterator[_Edit]:
    for path, key, known in decoder.unknown_keys:
        word = renamed(path, key.text, known)
        if word and key.style is None and (*path, word) not in decoder.places:
            yield _over(decoder.source, key, word, f"{shown(key.text)} became {word}")


def _workers(decoder: Decoder) -> Iterator[_Edit]:
    for path, (key, _) in decoder.places.items():
        outdated = len(path) == 4 and path[1] == "triggers" and path[-1] == "maxWorkers"
        if not outdated or key is None or key.style is not None:
            continue
        if (*path[:3], "numWorkers") not in decoder.places:
            yield _over(decoder.source, key, "numWorkers", "maxWorkers became numWorkers")


def _quotes(decoder: Decoder) -> Iterator[_Edit]:
    for node in decoder.needless_quotes:
        if node.style in ("'", '"') and node.line == node.end_line:
            what = f"the quotes around {shown(node.text)} are gone"
            yield _over(decoder.source, node, node.text.strip(), what)


def _flags(decoder: Decoder) -> Iterator[_Edit]:
    source = decoder.source
    for name in ("startswith_box", "startswith_box_optional"):
        key, value = decoder.places.get(("metadata", "annotations", name), (None, None))
        if key is None or value is None:
            continue
        if value.text.lower() not in _FALSE_WORDS or key.line != value.end_line:
            continue
        line, what = source.lines[key.line], f"{name} says false now: CVAT read it as true"
        if line[: key.column].strip() or line[value.end_column :].strip():
            # Something else stands on the line, maybe a comment: only the value goes.
            yield _over(source, value, '""', what)
        else:
            start = source.index(key.line, 0)
            end = min(source.index(key.line + 1, 0), len(source.text))
            yield _Edit(start, end, "", key.line, what)


def _json_comma(decoder: Decoder) -> Iterator[_Edit]:
    place = decoder.places.get(("metadata", "annotations", "spec"))
    if place is None or place[1].kind != "scalar":
        return
    node = place[1]
    try:
        json.loads(node.text)
    except json.JSONDecodeError as error:
        comma = _comma_before_end(node.text, error.pos)
        span = None if comma is None else Embedded(decoder.source, node).at_index(comma)
        if span is None:
            return
        start = decoder.source.index(span.line - 1, span.column - 1)
        if decoder.source.text[start : start + 1] == ",":
            what = "a comma before the end of a JSON list is gone"
            yield _Edit(start, start + 1, "", span.line - 1, what)
    except RecursionError:
        return


def _skeletons(decoder: Decoder) -> Iterator[_Edit]:
    """Write the svg of the first skeleton that has sublabels and no svg."""
    place = decoder.places.get(("metadata", "annotations", "spec"))
    if place is None or place[1].kind != "scalar" or place[1].style not in ("|", "'", '"', ">"):
        return
    node, source = place[1], decoder.source
    insertion = svg_insertion(node.text)
    if insertion is None:
        return
    index, text, name = insertion
    # The insertion goes after a character that has a place in the file.
    span = Embedded(source, node, len(node.text)).at_index(index - 1)
    if span is None:
        return
    start = source.index(span.line - 1, span.column - 1)
    start += 2 if node.style == '"' and source.text[start] == "\\" else 1
    column = index - 2 - node.text.rfind("\n", 0, index - 1)
    inserted = _inside(text, node, span.column - 1 - column)
    what = f"the skeleton {shown(name)} has an svg of its sublabels and edges"
    edit = _Edit(start, start, inserted, span.line - 1, what)
    expected = node.text[:index] + text + node.text[index:]
    if _label_spec(_applied(source.text, [edit])) == json.loads(expected):
        yield edit


def _label_spec(text: str) -> Any:
    """Return the label spec in the text of a configuration file, None if it is not valid."""
    try:
        root = compose(Source(text, ""))
        if root is None:
            return None
        decoder = Decoder(Source(text, ""))
        decoder.read(Function, root)
        return json.loads(decoder.places["metadata", "annotations", "spec"][1].text)
    except (yaml.YAMLError, KeyError, ValueError):
        return None


def _inside(text: str, node: Node, indent: int) -> str:
    """Return a text in the form it has inside the scalar with its indentation."""
    if node.style == "|":
        return text.replace("\n", "\n" + " " * indent)
    if node.style == "'":
        text = text.replace("'", "''")
    elif node.style == '"':
        text = text.replace("\\", "\\\\").replace('"', '\\"')
    return " ".join(text.splitlines())


def _comma_before_end(text: str, position: int) -> int | None:
    """The index of a comma that only blanks divide from the bracket behind it."""
    before = len(text[:position].rstrip()) - 1
    for index in (before, position):
        if text[index : index + 1] == "," and text[index + 1 :].lstrip()[:1] in ("]", "}"):
            return index
    return None


def _replace(path: Path, text: str) -> None:
    """Write a file anew in one step, with its mode and owner, its byte order mark and all."""
    with path.open("rb") as old:
        data = (_BOM if old.read(3) == _BOM else b"") + text.encode()
        status = os.fstat(old.fileno())
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            os.fchmod(file.fileno(), status.st_mode & 0o7777)
            with contextlib.suppress(PermissionError):
                os.fchown(file.fileno(), status.st_uid, status.st_gid)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
