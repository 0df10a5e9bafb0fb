"""Read label specs: CVAT's JSON, COCO's categories, the data.yaml of YOLO, names, label sets.

Labels are dictionaries as in CVAT's label JSON, whichever format they are read from.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from fnbuild.errors import InputError, NotFoundError, Report
from fnbuild.function.files import display_path
from fnbuild.function.labels import parse_edges, skeleton_svg
from fnbuild.function.source_text import SourceText, quoted
from fnbuild.function.suggestions import did_you_mean
from fnbuild.function.yaml_parser import parse_yaml, span_of_value

RawLabel = dict[str, Any]

LABEL_SETS = Path(__file__).with_name("label_sets")
"""The label sets of function-specs/labels, as installed with fnbuild."""

FILE_SUFFIXES = (".json", ".yaml", ".yml", ".txt", ".names")
"""The suffixes of files with labels."""

_DEFAULT_TYPE = "rectangle"
_NO_NAME = "N/A"
_LARGEST_LOCATED = 1_000_000
"""Positions of values are computed only in files up to this size, in characters."""


def label_set_names() -> list[str]:
    """Return the names of the label sets that come with fnbuild."""
    return sorted(path.stem for path in LABEL_SETS.glob("*.json"))


def load_labels(source: str) -> list[RawLabel]:
    """Return the labels of a file, a function's folder or a label set.

    Raises `NotFoundError` or `InputError`, or `ConfigError` for a function.
    """
    path = Path(source)
    if not path.exists():
        if source not in label_set_names():
            names = label_set_names()
            hint = did_you_mean(source, names) or f"label sets: {', '.join(names)}"
            raise NotFoundError(f"no file, folder or label set is called {source}", hint=hint)
        path = LABEL_SETS / f"{source}.json"
    if path.is_dir():
        return _labels_of_function(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"cannot read {source}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{source} is not UTF-8 text", hint="convert it to UTF-8") from None
    return read_labels(text, display_path(path))


def read_labels(text: str, file: str) -> list[RawLabel]:
    """Return the labels in a file's text; its suffix tells JSON, YAML and names apart."""
    suffix = Path(file).suffix.lower()
    if suffix == ".json":
        return _LabelReader(text, file).read(_parse_json(text, file))
    if suffix in (".yaml", ".yml"):
        return _LabelReader(text, file).read(_parse_yaml(text, file))
    if suffix in (".txt", ".names", ""):
        return _labels_of_lines(text, file)
    raise InputError(
        f"{file} is no label spec by its suffix",
        hint="JSON (.json) of CVAT or COCO, data.yaml of YOLO, or a name on each line (.txt)",
    )


def _labels_of_function(folder: Path) -> list[RawLabel]:
    from fnbuild.function.reader import load_function

    loaded = load_function(folder)
    text = loaded.function.metadata.annotations.get("spec", "").strip()
    file = f"{display_path(folder)}/function.yaml"
    labels = _LabelReader("", file).read(json.loads(text or "[]"))
    if not labels:
        raise InputError(f"{file} has no labels", hint="the annotation `spec` lists them")
    return labels


def _parse_json(text: str, file: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{file}:{error.lineno}: not valid JSON: {error.msg}",
            hint=f"mend it at column {error.colno}",
        ) from None
    except RecursionError:
        raise InputError(f"{file} is nested too deeply") from None


def _parse_yaml(text: str, file: str) -> Any:
    report = Report()
    parsed = parse_yaml(SourceText(text, file, report))
    if parsed is None or report.errors:
        first = report.errors[0]
        place = f"{file}:{first.span.line}: " if first.span else f"{file}: "
        raise InputError(place + first.message, hint=first.hint)
    return parsed[0].to_value()


def _labels_of_lines(text: str, file: str) -> list[RawLabel]:
    lines: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        name = line.strip()
        if problem := name and _name_problem(name):
            raise InputError(f"{file}:{number}: {problem}", hint="rename the label")
        if name and lines.setdefault(name, number) != number:
            raise InputError(
                f"{file}:{number}: the name {quoted(name)} stands in line {lines[name]} as well",
                hint="remove one of the lines: the names of labels are unique",
            )
    if not lines:
        raise InputError(f"{file} is empty", hint="write a name on each line")
    return _labels_of_names(list(lines))


def _name_problem(name: str) -> str:
    """Return the reason why CVAT cannot store a name; empty without one."""
    if not name.strip():
        return "a name is blank"
    if any(unicodedata.category(character) == "Cc" for character in name):
        return f"the name {quoted(name)} has a control character"
    return ""


def _labels_of_names(names: list[str]) -> list[RawLabel]:
    return [{"id": i, "name": name, "type": _DEFAULT_TYPE} for i, name in enumerate(names)]


class _LabelReader:
    """Labels of decoded JSON or YAML. `text` is the file's, for the lines of errors."""

    def __init__(self, text: str, file: str) -> None:
        self.text = text
        self.file = file

    def read(self, value: Any) -> list[RawLabel]:
        """Return the labels of a value in any of the formats."""
        path = ""
        if isinstance(value, dict):
            for key in ("categories", "names", "id2label", "labels"):
                if key in value:
                    value, path, whole = value[key], key, value
                    break
            else:
                whole = value
            if path == "names":
                return self._yolo_labels(value, whole)
            if path == "id2label":
                return self._transformers_labels(value)
            if not path and all(key.isdecimal() for key in value):
                return _labels_of_names(self._names(value, path))
        if not isinstance(value, list):
            raise self._error(path, "no labels", _FORMATS)
        if all(isinstance(item, str) for item in value):
            return _labels_of_names(self._names(value, path))
        return self._listed_labels(value, path)

    def _listed_labels(self, items: list[Any], path: str) -> list[RawLabel]:
        is_coco = path == "categories" or any(
            isinstance(item, dict) and item.keys() & {"supercategory", "keypoints"}
            for item in items
        )
        read: Callable[[RawLabel, str], RawLabel] = (
            self._coco_label if is_coco else self._cvat_label
        )
        labels = []
        for index, item in enumerate(items):
            place = f"{path}[{index}]"
            if not isinstance(item, dict):
                raise self._error(place, f"a label is an object, not {quoted(item)}", _FORMATS)
            labels.append(read(item, place))
        self._check_unique(labels, path)
        if is_coco:
            self._check_unique_ids(labels, path)
        return labels

    def _cvat_label(self, item: RawLabel, place: str) -> RawLabel:
        self._check_name(item, place)
        if not isinstance(item.get("type", ""), str):
            raise self._error(f"{place}.type", "the type of a label is text", 'as in "rectangle"')
        for key in ("sublabels", "attributes"):
            value = item.get(key, [])
            if not isinstance(value, list) or not all(isinstance(part, dict) for part in value):
                raise self._error(f"{place}.{key}", f"{key} is a list of objects", _FORMATS)
            for index, part in enumerate(value):
                self._check_name(part, f"{place}.{key}[{index}]")
                if key == "attributes" and not part.keys() >= {"input_type", "values"}:
                    message = "an attribute needs `input_type` and `values`: CVAT lists no function"
                    raise self._error(f"{place}.{key}[{index}]", f"{message} without them", "")
            self._check_unique(value, f"{place}.{key}")
        label = {key: value for key, value in item.items() if key != "edges"}
        if item.get("type") == "skeleton":
            if not item.get("sublabels"):
                raise self._error(
                    place, "a skeleton has no sublabels", "list its points in `sublabels`"
                )
            names = [part["name"] for part in item["sublabels"]]
            label.setdefault("svg", skeleton_svg(names, parse_edges(item.get("edges"))))
        return label

    def _coco_label(self, item: RawLabel, place: str) -> RawLabel:
        self._check_name(item, place)
        number = item.get("id")
        if number is not None and (isinstance(number, bool) or not isinstance(number, int)):
            raise self._error(f"{place}.id", f"the id {quoted(number)} is no whole number", "")
        label = {} if number is None else {"id": number}
        if not item.get("keypoints"):
            return {**label, "name": item["name"], "type": _DEFAULT_TYPE}
        names = item["keypoints"]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise self._error(f"{place}.keypoints", "keypoints is a list of names", "")
        self._check_unique([{"name": name} for name in names], f"{place}.keypoints")
        edges = []
        for index, pair in enumerate(item.get("skeleton") or []):
            if not _is_edge(pair, len(names)):
                raise self._error(
                    f"{place}.skeleton[{index}]",
                    f"{quoted(json.dumps(pair))} is no pair of keypoints",
                    f"keypoints count from 1 to {len(names)} there",
                )
            edges.append((names[pair[0] - 1], names[pair[1] - 1]))
        return {**label, "name": item["name"], **skeleton_keys(names, edges)}

    def _yolo_labels(self, value: Any, whole: dict[str, Any]) -> list[RawLabel]:
        names = self._names(value, "names")
        if whole.get("nc", len(names)) != len(names):
            raise self._error(
                "nc",
                f"nc is {whole['nc']}, and there are {len(names)} names",
                "correct nc or names",
            )
        if "kpt_shape" not in whole:
            return _labels_of_names(names)
        shape = whole["kpt_shape"]
        if not (isinstance(shape, list) and shape and type(shape[0]) is int and shape[0] > 0):
            raise self._error(
                "kpt_shape", "kpt_shape is a number of keypoints and dimensions", "as in [17, 3]"
            )
        named = whole.get("kpt_names") or {}
        labels = []
        for index, name in enumerate(names):
            points = named.get(str(index)) if isinstance(named, dict) else None
            points = points or list(range(1, shape[0] + 1))
            texts = self._names(points, f"kpt_names.{index}")
            if len(texts) != shape[0]:
                raise self._error(
                    f"kpt_names.{index}", f"not the {shape[0]} names that kpt_shape states", ""
                )
            labels.append({"id": index, "name": name, **skeleton_keys(texts, [])})
        return labels

    def _transformers_labels(self, value: Any) -> list[RawLabel]:
        """Return a label for each name, with its first number; `N/A` marks numbers without one."""
        if not isinstance(value, dict) or not all(str(key).isdecimal() for key in value):
            raise self._error("id2label", "id2label is an object with numbers as keys", "")
        numbers: dict[str, int] = {}
        for key in sorted(value, key=int):
            self._check_text(str(value[key]), f"id2label.{key}")
            numbers.setdefault(str(value[key]), int(key))
        numbers.pop(_NO_NAME, None)
        return [
            {"id": number, "name": name, "type": _DEFAULT_TYPE} for name, number in numbers.items()
        ]

    def _names(self, value: Any, path: str) -> list[str]:
        """Return names of a list, or of a mapping from numbers, which count from 0."""
        if isinstance(value, dict):
            numbers = {key: int(key) for key in value if str(key).isdecimal()}
            missing = set(range(len(value))) - set(numbers.values())
            if missing or len(numbers) != len(value):
                raise self._error(
                    path,
                    f"the class {min(missing, default=0)} has no name",
                    "number the names from 0 on without a gap",
                )
            items = [
                (f"{path}.{key}", value[key]) for key in sorted(numbers, key=numbers.__getitem__)
            ]
        elif isinstance(value, list):
            items = [(f"{path}[{index}]", name) for index, name in enumerate(value)]
        else:
            items = []
        if not items:
            raise self._error(path, "no names", _FORMATS)
        names = []
        for place, name in items:
            if isinstance(name, bool) or not isinstance(name, str | int | float):
                raise self._error(place, f"the name {quoted(name)} is no text", "put it in quotes")
            self._check_text(str(name), place)
            names.append(str(name))
        self._check_unique([{"name": name} for name in names], path, [place for place, _ in items])
        return names

    def _check_name(self, item: RawLabel, place: str) -> None:
        name = item.get("name")
        if not isinstance(name, str) or not name:
            where = f"{place}.name" if "name" in item else place
            raise self._error(where, "a label needs a name, which is text", 'as in "name": "car"')
        self._check_text(name, f"{place}.name")

    def _check_text(self, name: str, place: str) -> None:
        if problem := _name_problem(name):
            raise self._error(place, problem, "rename the label")

    def _check_unique(
        self, items: Iterable[RawLabel], path: str, places: list[str] | None = None
    ) -> None:
        names: set[str] = set()
        for index, item in enumerate(items):
            if item["name"] in names:
                place = places[index] if places else f"{path}[{index}]"
                raise self._error(
                    place, f"the name {quoted(item['name'])} is used twice", "rename one of the two"
                )
            names.add(item["name"])

    def _check_unique_ids(self, labels: list[RawLabel], path: str) -> None:
        places: dict[int, int] = {}
        for index, label in enumerate(labels):
            if "id" in label and places.setdefault(label["id"], index) != index:
                raise self._error(
                    f"{path}[{index}].id",
                    f"the id {label['id']} is used twice",
                    "annotations refer to categories by it: number one of the two anew",
                )

    def _error(self, path: str, message: str, hint: str) -> InputError:
        span = None
        if path and len(self.text) <= _LARGEST_LOCATED:
            span = span_of_value(self.text, self.file, path)
        place = f"{self.file}:{span.line}" if span else self.file
        inside = f" ({path})" if path and not span else ""
        return InputError(f"{place}: {message}{inside}", hint=hint or None)


_FORMATS = (
    "CVAT's label JSON is a list of labels, COCO's has `categories`, YOLO's data.yaml has `names`"
)


def _is_edge(pair: Any, count: int) -> bool:
    return (
        isinstance(pair, list)
        and len(pair) == 2
        and all(type(end) is int and 1 <= end <= count for end in pair)
    )


def skeleton_keys(names: list[str], edges: list[tuple[str, str]]) -> RawLabel:
    """Return the keys of a skeleton label: its type, a sublabel for each point, and the svg."""
    return {
        "type": "skeleton",
        "sublabels": [{"id": i, "name": name, "type": "points"} for i, name in enumerate(names)],
        "svg": skeleton_svg(names, edges),
    }
