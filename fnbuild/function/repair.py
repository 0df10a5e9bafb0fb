"""Repair errors that have one correct solution, by edits of single spans that keep the layout.

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
from fnbuild.function.decoder import Decoder
from fnbuild.function.files import display_path, locate_files
from fnbuild.function.labels import FLAG_ANNOTATIONS, parse_edges, skeleton_svg
from fnbuild.function.source_text import SourceText, quoted, read_source, report_conflict_markers
from fnbuild.function.suggestions import corrected_key
from fnbuild.function.types import Function
from fnbuild.function.yaml_nodes import EmbeddedText, YamlNode, compose, compose_or_none
from fnbuild.function.yaml_parser import TabRepairer, row_with_tab

_BOM = b"\xef\xbb\xbf"
_MAX_ROUNDS = 40
_FALSE_WORDS = ("false", "no", "off", "0", "none")


@dataclass(frozen=True, slots=True)
class Repair:
    """One repair of a file. `line` is the line before the repair."""

    file: str
    line: int
    description: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.description}"


@dataclass(frozen=True, slots=True)
class _Edit:
    start: int
    end: int
    text: str
    line: int
    description: str


def repair_file(path: Path) -> list[Repair]:
    """Repair the configuration file of a function and return the repairs.

    `path` is a folder or a YAML file; other files are left alone. The file is replaced atomically
    and keeps its mode. It is not changed if the result would have more errors.
    """
    located = locate_files(path, None, Report())
    if located is None or located.config is None:
        return []
    config = located.config.resolve()
    name = display_path(located.config)
    source = read_source(config, name, Report())
    if source is None or report_conflict_markers(source):
        return []
    text, repairs = repair_text(source.text, name)
    if repairs:
        mark = config.read_bytes()[: len(_BOM)]
        replace_file(config, (mark if mark == _BOM else b"") + text.encode())
    return repairs


def repair_text(text: str, file: str) -> tuple[str, list[Repair]]:
    """Return the repaired text of a configuration file, and the repairs."""
    source = SourceText(text, file)
    repairs: list[Repair] = []
    source = _without_tabs(source, repairs)
    for _ in range(_MAX_ROUNDS):
        edits = _find_edits(source)
        if not edits:
            break
        repairs.extend(Repair(file, edit.line + 1, edit.description) for edit in edits)
        source = SourceText(_apply_edits(source.text, edits), file)
    if not repairs or _error_rank(source) > _error_rank(SourceText(text, file)):
        return text, []
    return source.text, repairs


def _without_tabs(source: SourceText, repairs: list[Repair]) -> SourceText:
    repairer = TabRepairer(20_000_000)
    for _ in source.lines:
        try:
            compose(SourceText(source.text, source.file))
        except yaml.YAMLError as error:
            row = row_with_tab(source, error)
            repaired = None if row is None else repairer.repair(source, row)
            if repaired is None or row is None:
                return source
            repairs.append(Repair(source.file, row + 1, "tabs in the indentation became spaces"))
            source = repaired
        else:
            return source
    return source


def _error_rank(source: SourceText) -> tuple[bool, int]:
    """Return a sort key: True if the text cannot be parsed, then its number of errors."""
    root = compose_or_none(source)
    if root is None:
        return True, 0
    Decoder(source).read(Function, root)
    return False, len(source.report.errors)


def _apply_edits(text: str, edits: list[_Edit]) -> str:
    for edit in sorted(edits, key=lambda e: e.start, reverse=True):
        text = text[: edit.start] + edit.text + text[edit.end :]
    return text


def _find_edits(source: SourceText) -> list[_Edit]:
    """Return edits that do not overlap."""
    root = compose_or_none(source)
    if root is None or root.kind != "map":
        return []
    decoder = Decoder(source)
    decoder.read(Function, root)
    edits_by_start: dict[int, _Edit] = {}
    for edits in (
        _key_edits(decoder),
        _worker_edits(decoder),
        _quote_edits(decoder),
        _flag_edits(decoder),
    ):
        for edit in edits:
            edits_by_start.setdefault(edit.start, edit)
    result = list(edits_by_start.values())
    return result or list(_comma_edits(decoder)) or list(_skeleton_edits(decoder))


def _replace_node(source: SourceText, node: YamlNode, text: str, description: str) -> _Edit:
    start = source.index(node.line, node.column)
    end = source.index(node.end_line, node.end_column)
    return _Edit(start, end, text, node.line, description)


def _key_edits(decoder: Decoder) -> Iterator[_Edit]:
    for path, key, valid_keys in decoder.unknown_keys:
        word = corrected_key(path, key.text, valid_keys)
        if word and key.style is None and (*path, word) not in decoder.nodes:
            yield _replace_node(decoder.source, key, word, f"{quoted(key.text)} became {word}")


def _worker_edits(decoder: Decoder) -> Iterator[_Edit]:
    for path, (key, _) in decoder.nodes.items():
        outdated = len(path) == 4 and path[1] == "triggers" and path[-1] == "maxWorkers"
        if not outdated or key is None or key.style is not None:
            continue
        if (*path[:3], "numWorkers") not in decoder.nodes:
            yield _replace_node(decoder.source, key, "numWorkers", "maxWorkers became numWorkers")


def _quote_edits(decoder: Decoder) -> Iterator[_Edit]:
    for node in decoder.needless_quotes:
        if node.style in ("'", '"') and node.line == node.end_line:
            description = f"the quotes around {quoted(node.text)} were removed"
            yield _replace_node(decoder.source, node, node.text.strip(), description)


def _flag_edits(decoder: Decoder) -> Iterator[_Edit]:
    source = decoder.source
    for name in FLAG_ANNOTATIONS:
        key, value = decoder.nodes.get(("metadata", "annotations", name), (None, None))
        if key is None or value is None:
            continue
        if value.text.lower() not in _FALSE_WORDS or key.line != value.end_line:
            continue
        line, description = source.lines[key.line], f"{name} is false now: CVAT read it as true"
        if line[: key.column].strip() or line[value.end_column :].strip():
            # The line has other content, such as a comment: only the value is removed.
            yield _replace_node(source, value, '""', description)
        else:
            start = source.index(key.line, 0)
            end = min(source.index(key.line + 1, 0), len(source.text))
            yield _Edit(start, end, "", key.line, description)


def _comma_edits(decoder: Decoder) -> Iterator[_Edit]:
    place = decoder.nodes.get(("metadata", "annotations", "spec"))
    if place is None or place[1].kind != "scalar":
        return
    node = place[1]
    try:
        json.loads(node.text)
    except json.JSONDecodeError as error:
        comma = _comma_before_end(node.text, error.pos)
        span = None if comma is None else EmbeddedText(decoder.source, node).span_at_index(comma)
        if span is None:
            return
        start = decoder.source.index(span.line - 1, span.column - 1)
        if decoder.source.text[start : start + 1] == ",":
            description = "a comma before the end of a JSON list was removed"
            yield _Edit(start, start + 1, "", span.line - 1, description)
    except RecursionError:
        return


def _skeleton_edits(decoder: Decoder) -> Iterator[_Edit]:
    """Yield the edit that adds the svg of the first skeleton with sublabels and no svg."""
    place = decoder.nodes.get(("metadata", "annotations", "spec"))
    if place is None or place[1].kind != "scalar" or place[1].style not in ("|", "'", '"', ">"):
        return
    node, source = place[1], decoder.source
    insertion = svg_insertion(node.text)
    if insertion is None:
        return
    index, text, name = insertion
    # The insertion follows a character that exists in the file.
    span = EmbeddedText(source, node, len(node.text)).span_at_index(index - 1)
    if span is None:
        return
    start = source.index(span.line - 1, span.column - 1)
    start += 2 if node.style == '"' and source.text[start] == "\\" else 1
    column = index - 2 - node.text.rfind("\n", 0, index - 1)
    inserted = _escape_for(text, node, span.column - 1 - column)
    description = f"the skeleton {quoted(name)} has an svg of its sublabels and edges"
    edit = _Edit(start, start, inserted, span.line - 1, description)
    expected = node.text[:index] + text + node.text[index:]
    if _label_spec(_apply_edits(source.text, [edit])) == json.loads(expected):
        yield edit


def _label_spec(text: str) -> Any:
    """Return the label spec in the text of a configuration file, None if it is not valid."""
    root = compose_or_none(SourceText(text, ""))
    if root is None:
        return None
    try:
        decoder = Decoder(SourceText(text, ""))
        decoder.read(Function, root)
        return json.loads(decoder.nodes["metadata", "annotations", "spec"][1].text)
    except (KeyError, ValueError):
        return None


def _escape_for(text: str, node: YamlNode, indent: int) -> str:
    """Return a text in the form it has inside the scalar with its indentation."""
    if node.style == "|":
        return text.replace("\n", "\n" + " " * indent)
    if node.style == "'":
        text = text.replace("'", "''")
    elif node.style == '"':
        text = text.replace("\\", "\\\\").replace('"', '\\"')
    return " ".join(text.splitlines())


def _comma_before_end(text: str, position: int) -> int | None:
    """Return the index of a comma that only white space separates from a closing bracket."""
    before = len(text[:position].rstrip()) - 1
    for index in (before, position):
        if text[index : index + 1] == "," and text[index + 1 :].lstrip()[:1] in ("]", "}"):
            return index
    return None


def replace_file(path: Path, data: bytes) -> None:
    """Replace a file atomically, and keep its mode and owner."""
    status = path.stat()
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


def svg_insertion(text: str) -> tuple[int, str, str] | None:
    """Return the insertion for the first skeleton without an svg: index, text and label.

    None if every skeleton has one, or if the text is not a list of labels.
    """
    try:
        labels = json.loads(text)
    except (ValueError, RecursionError):
        return None
    source = SourceText(text, "")
    root = compose_or_none(source)
    if not isinstance(labels, list) or root is None or len(root.items) != len(labels):
        return None
    for label, node in zip(labels, root.items, strict=True):
        if not isinstance(label, dict) or label.get("type") != "skeleton" or "svg" in label:
            continue
        names = _sublabel_names(label.get("sublabels"))
        if names and node.pairs and isinstance(label.get("name"), str):
            svg = skeleton_svg(names, parse_edges(label.get("edges")))
            key, value = node.pairs[-1]
            index = source.index(value.end_line, value.end_column)
            return index, f',{_space_before(source, key)}"svg": {json.dumps(svg)}', label["name"]
    return None


def _sublabel_names(sublabels: Any) -> list[str]:
    """Return the names of the sublabels; none unless all have a unique name."""
    items = sublabels if isinstance(sublabels, list) else []
    names = [item.get("name") for item in items if isinstance(item, dict)]
    texts = [name for name in names if isinstance(name, str)]
    return texts if len(set(texts)) == len(items) else []


def _space_before(source: SourceText, key: YamlNode) -> str:
    """Return the space before a key: a line break and indentation if it begins its line."""
    before = source.lines[key.line][: key.column]
    return " " if before.strip() else "\n" + before
