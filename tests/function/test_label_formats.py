"""Label specs read from and written as CVAT's JSON, COCO's categories, data.yaml and names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fnbuild.errors import InputError, NotFoundError, UsageError
from fnbuild.function.label_sources import (
    LABEL_SETS,
    label_set_names,
    load_labels,
    read_labels,
    skeleton_keys,
)
from fnbuild.function.label_targets import lost_details, with_type, write_labels
from fnbuild.function.labels import LABEL_TYPES, SkeletonSvg, parse_labels
from fnbuild.function.reader import check_text

ROOT = Path(__file__).resolve().parents[2]
FILES = {"cvat": "labels.json", "coco": "coco.json", "yolo": "data.yaml", "names": "names.txt"}
CHARACTERS = st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp", "Zs", "Cn"))
# A busy machine is slow to draw and to run an example.
EXAMPLES = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
NAMES = st.text(CHARACTERS, min_size=1, max_size=8).filter(lambda text: text == text.strip())
UNIQUE_NAMES = st.lists(NAMES, min_size=1, max_size=6, unique=True)


@st.composite
def skeletons(draw: st.DrawFn, count: int | None = None) -> dict[str, Any]:
    number = count or draw(st.integers(1, 5))
    points = draw(st.lists(NAMES, min_size=number, max_size=number, unique=True))
    edges = draw(st.lists(st.tuples(st.sampled_from(points), st.sampled_from(points)), max_size=4))
    return skeleton_keys(points, edges)


@st.composite
def label_lists(draw: st.DrawFn, count: int | None = None) -> list[dict[str, Any]]:
    """Labels with ids; all are skeletons of `count` points if it is set."""
    labels = []
    for number, name in enumerate(draw(UNIQUE_NAMES)):
        keys = draw(skeletons(count) if count else skeletons() | st.just({"type": "rectangle"}))
        labels.append({"id": number, "name": name, **keys})
    return labels


def convert(labels: list[dict[str, Any]], target: str) -> list[dict[str, Any]]:
    return read_labels(write_labels(labels, target), FILES[target])


@EXAMPLES
@given(label_lists())
def test_coco_keeps_names_ids_keypoints_and_edges(labels: list[dict[str, Any]]) -> None:
    assert convert(labels, "coco") == labels


@EXAMPLES
@given(label_lists(count=3))
def test_yolo_keeps_names_and_keypoints(labels: list[dict[str, Any]]) -> None:
    for before, after in zip(labels, convert(labels, "yolo"), strict=True):
        assert {**before, "svg": ""} == {**after, "svg": ""}
        assert list(SkeletonSvg(after["svg"]).nodes.values()) == [
            point["name"] for point in before["sublabels"]
        ]


@EXAMPLES
@given(UNIQUE_NAMES, st.sampled_from(sorted({*LABEL_TYPES} - {"skeleton"})))
def test_names_survive_every_format(names: list[str], label_type: str) -> None:
    labels: list[dict[str, Any]] = [{"id": i, "name": name} for i, name in enumerate(names)]
    for target in FILES:
        labels = convert(with_type(labels, label_type if target == "cvat" else "tag"), target)
        assert [label["name"] for label in labels] == names
        assert [label["id"] for label in labels] == list(range(len(names)))


@EXAMPLES
@given(label_lists())
def test_cvat_json_is_kept_as_it_is(labels: list[dict[str, Any]]) -> None:
    labels[0]["attributes"] = [{"name": "a", "input_type": "text", "values": []}]
    labels[0]["color"] = "#ff0000"
    assert convert(labels, "cvat") == labels


@pytest.mark.parametrize(
    ("name", "count", "label_type", "some"),
    [
        ("coco-80", 80, "rectangle", {0: "person", 79: "toothbrush"}),
        ("coco-17-keypoints", 1, "skeleton", {0: "person"}),
        ("voc-20", 20, "rectangle", {0: "aeroplane", 14: "person", 19: "tvmonitor"}),
        ("cityscapes-19", 19, "mask", {0: "road", 11: "person", 18: "bicycle"}),
        ("cityscapes-34", 34, "mask", {0: "unlabeled", 7: "road", 33: "bicycle"}),
        ("imagenet-1k", 1000, "tag", {0: "tench", 281: "tabby", 999: "toilet tissue"}),
        ("open-images-v7", 601, "rectangle", {0: "Accordion", 600: "Zucchini"}),
    ],
)
def test_each_label_set_is_complete_and_valid(
    name: str, count: int, label_type: str, some: dict[int, str]
) -> None:
    labels = load_labels(name)
    assert len({label["name"] for label in labels}) == len(labels) == count
    assert {label["type"] for label in labels} == {label_type}
    assert {index: labels[index]["name"] for index in some} == some
    text = (LABEL_SETS / f"{name}.json").read_text()
    assert len(parse_labels(text)) == count
    config = {
        "metadata": {"name": "f", "annotations": {"type": "detector", "spec": text}},
        "spec": {"runtime": "python:3.11", "handler": "main:handler", "description": "f"},
    }
    _, report = check_text(json.dumps(config).encode(), "function.yaml")
    assert not [entry for entry in report if "label" in entry.rule or "skeleton" in entry.rule]


def test_all_label_sets_are_tested() -> None:
    files = {path.stem for path in (ROOT / "function-specs" / "labels").glob("*.json")}
    tested = {"coco-80", "coco-17-keypoints", "voc-20", "imagenet-1k", "open-images-v7"}
    assert set(label_set_names()) == files == tested | {"cityscapes-19", "cityscapes-34"}


def test_cityscapes_colours_agree_between_the_two_sets() -> None:
    evaluated = {label["name"]: label["color"] for label in load_labels("cityscapes-19")}
    complete = {label["name"]: label["color"] for label in load_labels("cityscapes-34")}
    assert {name: complete[name] for name in evaluated} == evaluated


def test_a_function_is_a_source() -> None:
    labels = load_labels(str(ROOT / "functions/opencv/face-haar"))
    assert [(label["name"], label["type"]) for label in labels] == [("face", "rectangle")]


def test_the_flip_of_keypoints_follows_left_and_right() -> None:
    text = write_labels(load_labels("coco-17-keypoints"), "yolo")
    flips = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
    assert "flip_idx:\n" + "".join(f"- {index}\n" for index in flips) in text


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("a.json", '[{"name": "x"},\n]', "a.json:2: not valid JSON"),
        ("a.json", '[\n{"name": "x"},\n{"title": "y"}]', "a.json:3: a label needs a name"),
        ("a.json", '[\n{"name": "x"},\n{"name": "x"}]', "a.json:3: the name 'x' is used twice"),
        ("a.json", '[{"name": "x"}, 3]', "a.json:1: a label is an object, not 3"),
        ("a.json", '[{"name": "x", "type": "skeleton"}]', "a.json:1: a skeleton has no sublabels"),
        ("a.json", '{"images": []}', "a.json: no labels"),
        ("a.json", "[]", "a.json: no names"),
        ("a.json", '{"categories": [{"name": "x",\n"id": "1"}]}', "a.json:2: the id '1'"),
        (
            "a.json",
            '{"categories": [{"name": "x", "keypoints": ["a"],\n"skeleton": [[0, 1]]}]}',
            "a.json:2: '[0, 1]' is no pair of keypoints",
        ),
        ("d.yaml", "names:\n  0: a\n  2: b\n", "d.yaml:2: the class 1 has no name"),
        ("d.yaml", "names:\n- yes\n- b\n", "d.yaml:2: the name true is no text"),
        ("d.yaml", "names: [a]\nkpt_shape: 3\n", "d.yaml:2: kpt_shape is a number"),
        ("d.yaml", "names: [a\n", "d.yaml:"),
        ("d.yaml", "nc: 3\nnames: [a, b]\n", "d.yaml:1: nc is 3, and there are 2 names"),
        ("d.yaml", 'names:\n- a\n- " "\n', "d.yaml:3: a name is blank"),
        (
            "a.json",
            '{"categories": [{"id": 9, "name": "x"},\n{"id": 9, "name": "y"}]}',
            "a.json:2: the id 9 is used twice",
        ),
        ("a.json", '[{"name": "x",\n"type": 3}]', "a.json:2: the type of a label is text"),
        (
            "a.json",
            '[{"name": "x", "attributes": [\n{"name": "a", "input_type": "text"}]}]',
            "a.json:2: an attribute needs `input_type` and `values`",
        ),
        ("c.json", '{"id2label":\n["a"]}', "c.json:2: id2label is an object with numbers"),
        ("c.json", '{"id2label": {"0": "a",\n"b": "c"}}', "c.json:1: id2label is an object"),
        ("n.txt", "a\nb\0\n", "n.txt:2: the name 'b\\x00' has a control character"),
        ("n.txt", "a\nb\n\na\n", "n.txt:4: the name 'a' stands in line 1 as well"),
        ("n.txt", "\n", "n.txt is empty"),
        ("n.csv", "a", "n.csv is no label spec by its suffix"),
    ],
)
def test_errors_name_the_line_and_the_remedy(file: str, text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        read_labels(text, file)
    assert caught.value.message.startswith(message)


def test_an_unknown_source_suggests_a_label_set() -> None:
    with pytest.raises(NotFoundError) as caught:
        load_labels("coco-8")
    assert caught.value.hint is not None
    assert "coco-80" in caught.value.hint


def test_yolo_takes_one_number_of_keypoints() -> None:
    labels = [{"name": "a", **skeleton_keys(["p"], [])}, {"name": "b", "type": "rectangle"}]
    with pytest.raises(InputError, match="one number of keypoints"):
        write_labels(labels, "yolo")


def test_a_type_may_drop_points_but_not_invent_them() -> None:
    (person,) = with_type(load_labels("coco-17-keypoints"), "rectangle")
    assert set(person) == {"name", "type"}
    with pytest.raises(UsageError, match="has no points"):
        with_type(load_labels("voc-20"), "skeleton")


def test_lost_details_are_named() -> None:
    labels = [{"name": "a", "attributes": [{"name": "b"}]}, {"name": "c", "sublabels": [{}]}]
    assert lost_details(labels, "cvat") == []
    assert lost_details(labels, "coco") == ["a"]
    assert lost_details(labels, "names") == ["a", "c"]


def test_identifiers_of_transformers_are_names() -> None:
    names = {"0": "N/A", "1": "person", "2": "crane", "10": "N/A", "11": "crane", "3": "car"}
    labels = read_labels(json.dumps({"model_type": "detr", "id2label": names}), "config.json")
    # Pipelines answer with names, so that a name needs one label.
    assert [(label["id"], label["name"]) for label in labels] == [
        (1, "person"),
        (2, "crane"),
        (3, "car"),
    ]
