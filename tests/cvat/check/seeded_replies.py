"""Replies with one mistake each: kind, reply, the rule that finds it, and its JSON path."""

import base64
import math
from typing import Any

from fnbuild.function.labels import Attribute, Label

SIZE = (100, 80)
LABELS = [
    Label(
        "cat",
        attributes=(
            Attribute("age", "number", ("0", "20", "2")),
            Attribute("colour", "select", ("red", "blue")),
            Attribute("asleep", "checkbox", ("false",)),
        ),
    ),
    Label("dog", "rectangle"),
    Label("body", "skeleton", sublabels=(Label("head", "points"), Label("foot", "points"))),
]
HEAD = {"label": "head", "type": "points", "points": [10, 12]}


def shape(kind: str = "rectangle", label: str = "cat", **more: Any) -> dict[str, Any]:
    points = {} if kind in ("mask", "skeleton", "tag") else {"points": [1, 2, 30, 40]}
    return {"label": label, "type": kind, **points, **more}


def body(*elements: Any, **more: Any) -> dict[str, Any]:
    return shape("skeleton", "body", elements=list(elements), **more)


def aged(value: Any, name: str = "age") -> dict[str, Any]:
    return shape(attributes=[{"name": name, "value": value}])


def runs(*points: Any, **more: Any) -> dict[str, Any]:
    return {"shapes": [{"type": "mask", "points": list(points), **more}]}


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in shape().items() if name != key}


GOOD_RUNS = (1, 2, 1, 5, 5, 6, 6)
ROWS = [[0] * 100 for _ in range(80)]
SCORED = {"attributes": [{"spec_id": 0, "value": 0.9}]}
LOGIT = {"attributes": [{"spec_id": 0, "value": "-3.5"}]}

DETECTIONS: list[tuple[Any, str, str]] = [
    ("[{'label': 'cat'}]", "reply-json", ""),
    ("", "reply-json", ""),
    ({"detections": [shape()]}, "reply-type", ""),
    ('"[]"', "reply-type", ""),
    (None, "reply-type", ""),
    ([shape(), "cat"], "item-type", "[1]"),
    ([without("label")], "missing-key", "[0]"),
    ([without("type")], "missing-key", "[0]"),
    ([without("points")], "missing-key", "[0]"),
    ([shape("mask")], "missing-key", "[0]"),
    ([shape(), shape(label=0)], "label-name", "[1].label"),
    ([shape(label="Cat")], "label-unknown", "[0].label"),
    ([shape("polygon", "dog", points=[1, 1, 9, 1, 9, 9])], "label-shape", "[0].type"),
    ([shape("bbox")], "shape-type", "[0].type"),
    ([shape(attributes=None)], "attributes-list", "[0].attributes"),
    ([shape(attributes=[{"name": "age"}])], "attribute-item", "[0].attributes[0]"),
    ([aged("4", "weight")], "attribute-unknown", "[0].attributes[0].name"),
    ([aged(4)], "attribute-value", "[0].attributes[0].value"),
    ([aged("21")], "attribute-value", "[0].attributes[0].value"),
    ([aged("3")], "attribute-value", "[0].attributes[0].value"),
    ([aged("yes", "asleep")], "attribute-value", "[0].attributes[0].value"),
    ([aged("green", "colour")], "attribute-value", "[0].attributes[0].value"),
    ([aged(1, "colour")], "attribute-choice", "[0].attributes[0].value"),
    ([shape(points="1,2,3,4")], "points-list", "[0].points"),
    ([shape(points=[[1, 2], [30, 40]])], "points-nested", "[0].points"),
    ([shape(points=["1", "2", "30", "40"])], "points-string", "[0].points"),
    ([shape(points=[1, math.nan, 30, 40])], "points-finite", "[0].points"),
    ([shape(points=[1, 2, math.inf, 40])], "points-finite", "[0].points"),
    ([shape(points=[1, None, 30, 40])], "points-number", "[0].points"),
    ([shape(points=[1, 2, 30])], "points-count", "[0].points"),
    ([shape("polygon", points=[1, 2, 30, 40])], "points-count", "[0].points"),
    ([shape("polygon", points=[1, 2, 3, 4, 5, 6, 7])], "points-count", "[0].points"),
    ([shape("cuboid", points=[1] * 8)], "points-count", "[0].points"),
    ([shape(points=[10, 20, 300, 400])], "points-outside", "[0].points"),
    ([shape(points=[0.1, 0.2, 0.5, 0.6])], "coordinates-normalized", "[0].points"),
    ([shape(points=[60, 50, 20, 10])], "rectangle-area", "[0].points"),
    ([shape(rotation=-90)], "rotation", "[0].rotation"),
    ([shape(group_id="a")], "group-id", "[0].group_id"),
    ([shape("interval")], "interval-shape", "[0].type"),
    ([shape(confidence="high")], "confidence-number", "[0].confidence"),
    ([shape(), shape(confidence=97.2)], "confidence-range", "[1].confidence"),
    ([shape(score=-1.5)], "confidence-range", "[0].score"),
    ([shape("mask", mask="0110")], "mask-type", "[0].mask"),
    ([shape("mask", mask=[[0, 1], [1, 0]])], "mask-rows", "[0].mask"),
    ([shape("mask", mask=[5, 5, 6, 6])], "mask-length", "[0].mask"),
    ([shape("mask", mask=[1, 1, 1, 1, 5, 5, 7, 7])], "mask-size", "[0].mask"),
    ([shape("mask", mask=[1, 0, 0, 1, 5.5, 5, 6, 6])], "mask-box", "[0].mask"),
    ([shape("mask", mask=[1, 0, 0, 1, 6, 6, 5, 5])], "mask-box", "[0].mask"),
    ([shape("mask", mask=[1, 1, 99, 79, 100, 79])], "mask-outside", "[0].mask"),
    ([shape("mask", mask=["1", 0, 0, 1, 5, 5, 6, 6])], "mask-pixels", "[0].mask"),
    ([shape("mask", mask=[math.nan, 0, 0, 1, 5, 5, 6, 6])], "mask-pixels", "[0].mask"),
    (
        [shape("mask", mask=[1, 0, 0, 1, 5, 5, 6, 6], points=[5, 5, 6, 6])],
        "points-count",
        "[0].points",
    ),
    ([shape("mask", mask=[0.2, 0.9, 0, 1, 5, 5, 6, 6])], "mask-levels", "[0].mask"),
    ([shape("mask", mask=[0, 0, 0, 0, 5, 5, 6, 6])], "mask-empty", "[0].mask"),
    ([body(HEAD, points=[1, 2])], "skeleton-points", "[0].points"),
    ([body()], "skeleton-elements", "[0].elements"),
    ([body(HEAD, HEAD)], "skeleton-repeated", "[0].elements[1].label"),
    ([body({**HEAD, "outside": True})], "skeleton-hidden", "[0]"),
    ([body(HEAD, {**HEAD, "label": "hand"})], "label-unknown", "[0].elements[1].label"),
    ([body({**HEAD, "type": "point"})], "element-type", "[0].elements[0].type"),
    ([body({**HEAD, "points": [1, 2, 3, 4]})], "element-point", "[0].elements[0].points"),
    ([body({**HEAD, "confidence": 8})], "confidence-range", "[0].elements[0].confidence"),
]

INTERACTIONS: list[tuple[Any, str, str]] = [
    ([], "reply-type", ""),
    ({"result": []}, "interactor-keys", ""),
    ({"shapes": {}}, "shapes-list", "shapes"),
    ({"shapes": ["mask"]}, "item-type", "shapes[0]"),
    (
        {"shapes": [shape("polygon", points=[1, 1, 9, 1, 9, 9])]},
        "interactor-shape",
        "shapes[0].type",
    ),
    (runs(0, 1, 1, 0, 5, 5, 6, 6), "mask-size", "shapes[0].points"),
    (runs(-1, 5, 5, 5, 6, 6), "mask-runs", "shapes[0].points"),
    (runs(*GOOD_RUNS, **SCORED), "interactor-confidence", "shapes[0].attributes[0].value"),
    (runs(*GOOD_RUNS, **LOGIT), "confidence-range", "shapes[0].attributes[0].value"),
    (runs(*GOOD_RUNS, attributes={}), "attributes-list", "shapes[0].attributes"),
    ({"mask": []}, "mask-rows", "mask"),
    ({"mask": ROWS[:40]}, "mask-size", "mask"),
    ({"mask": ROWS}, "mask-empty", "mask"),
    ({"mask": [[100, 255] + [0] * 98, *ROWS[1:]]}, "mask-levels", "mask[0]"),
    ({"blob": base64.b64encode(bytes(100)).decode()}, "embedding", "blob"),
]

TRACKS: list[tuple[Any, str, str]] = [
    ([[1, 2, 3, 4]], "reply-type", ""),
    (
        {"shapes": [{"type": [None], "points": []}], "states": [1]},
        "tracker-shape",
        "shapes[0].type",
    ),
    ({"shapes": [[1, 2, 30, 40]]}, "tracker-states", "states"),
    ({"shapes": [[1, 2, 30, 40]], "states": [1, 2]}, "tracker-count", "states"),
    ({"shapes": [], "states": [1]}, "tracker-count", "shapes"),
    ({"states": [1]}, "shapes-list", "shapes"),
    ({"shapes": [None], "states": [1]}, "tracker-lost", "shapes[0]"),
    (
        {"shapes": [{"type": "blob", "points": []}], "states": [1]},
        "tracker-shape",
        "shapes[0].type",
    ),
    ({"shapes": [[1, 2, 30]], "states": [1]}, "points-count", "shapes[0]"),
]

MATCHES: list[tuple[Any, str, str]] = [
    ({"matches": [0, 1]}, "reply-type", ""),
    ([0], "reid-length", ""),
    ([0, 3], "reid-index", "[1]"),
    ([0, 0.5], "reid-index", "[1]"),
    ([0, -2], "reid-index", "[1]"),
    ([1, 1], "reid-repeated", "[1]"),
]

REPLIES = [
    (kind, *row)
    for kind, rows in {
        "detector": DETECTIONS,
        "interactor": INTERACTIONS,
        "tracker": TRACKS,
        "reid": MATCHES,
    }.items()
    for row in rows
]
