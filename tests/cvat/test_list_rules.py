"""CVAT's reading of a function object, compared with an independent client."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fnbuild.cvat import list_rules
from tests.cvat_simulator import Function, InvalidMetadataError

Json = Any
LABEL = {"name": "car", "type": "rectangle"}
SKELETON = {"name": "body", "type": "skeleton", "sublabels": [LABEL], "svg": "<circle/>"}
ATTRIBUTE = {"name": "side", "input_type": "select", "values": ["left", "right"]}


def function(**annotations: Json) -> Json:
    return {
        "metadata": {"name": "f", "annotations": {"type": "detector", **annotations}},
        "spec": {"description": ""},
        "status": {"state": "ready", "httpPort": 1},
    }


def spec(*labels: Json) -> Json:
    return function(spec=json.dumps(labels))


def without(path: str) -> Json:
    function_spec = spec(LABEL)
    *way, last = path.split(".")
    place = function_spec
    for key in way:
        place = place[key]
    del place[last]
    return function_spec


OBJECTS = {
    "whole": spec(LABEL, SKELETON, {"name": "x", "attributes": [ATTRIBUTE]}),
    "empty spec": function(spec=""),
    "null spec": function(spec=None),
    "empty list": function(spec="[]"),
    "unknown label type": spec({"name": "a", "type": "foo"}),
    "empty status": {**spec(LABEL), "status": {}},
    "whole numbers": function(version="2", min_pos_points=" 3 ", min_neg_points="-1"),
    "a number that is one": function(version=2),
    "tracker": function(type="tracker", supported_shape_types="polygon, rectangle"),
    "tracker of old": function(type="tracker"),
    "shapes of no tracker": function(supported_shape_types=""),
    "kind in capitals": function(type="Detector"),
    "unknown kind": function(type="classifier", spec="[,"),
    "no kind": without("metadata.annotations.type"),
    "labels twice": spec(LABEL, LABEL),
    "sublabels twice": spec({**SKELETON, "sublabels": [LABEL, LABEL]}),
    "attributes twice": spec({"name": "x", "attributes": [ATTRIBUTE, ATTRIBUTE]}),
    "no shapes": function(type="tracker", supported_shape_types=" , "),
    "no name": without("metadata.name"),
    "no annotations": without("metadata.annotations"),
    "null annotations": {**spec(LABEL), "metadata": {"name": "f", "annotations": None}},
    "no description": without("spec.description"),
    "no status": without("status"),
    "trailing comma": function(spec='[{"name": "car"},]'),
    "single quotes": function(spec="[{'name': 'car'}]"),
    "an object": function(spec='{"name": "car"}'),
    "labels that are texts": function(spec='["car"]'),
    "label without a name": spec({"type": "rectangle"}),
    "attribute without values": spec(
        {"name": "x", "attributes": [{"name": "a", "input_type": "text"}]}
    ),
    "skeleton without sublabels": spec({"name": "b", "type": "skeleton", "svg": ""}),
    "skeleton without svg": spec({"name": "b", "type": "skeleton", "sublabels": []}),
    "version with a point": function(version="1.0"),
    "version in words": function(type="interactor", version="one"),
    "points in words": function(type="interactor", min_pos_points="few"),
    "null version": function(version=None),
    "nested too deeply": function(spec="[" * 100_000),
}


def outcome(value: Json) -> str:
    """Return the result of the simulated client."""
    try:
        Function(value)
    except InvalidMetadataError:
        return "skipped"
    except Exception:  # noqa: BLE001 - any error that CVAT does not handle
        return "breaks"
    return "shown"


@pytest.mark.parametrize("case", OBJECTS)
def test_every_object_is_read_as_cvat_reads_it(case: str) -> None:
    reading = list_rules.verdict_of_object(OBJECTS[case])
    assert reading.outcome == outcome(OBJECTS[case])
    assert bool(reading.reason) == bool(reading.remedy) == (reading.outcome != "shown")


def test_values_that_are_not_objects_break_the_list() -> None:
    for value in (None, [], "text", 1, {}, {"metadata": []}):
        assert list_rules.verdict_of_object(value).outcome == "breaks"


def test_the_reason_names_the_field() -> None:
    def reason(case: str) -> str:
        return list_rules.verdict_of_object(OBJECTS[case]).message

    assert "CVAT lists no function at all: the annotation `spec` is not JSON" in reason(
        "trailing comma"
    )
    assert reason("labels twice") == 'CVAT skips it: the label "car" is defined twice'
    assert '`version` is "1.0"' in reason("version with a point")
    assert "the skeleton \"b\" has no 'svg'" in reason("skeleton without svg")
    assert '"Detector"' in reason("kind in capitals")
    assert reason("whole") == ""


def test_misread_annotations() -> None:
    def warning(**annotations: str) -> str:
        return "; ".join(text for text, _ in list_rules.misread_annotations(annotations))

    assert "as true" in warning(type="interactor", version="2", startswith_box="false")
    assert "outdated" in warning(type="interactor")
    assert "finds nothing" in warning(type="detector")
    assert warning(type="detector", spec='[{"name": "a"}]', startswith_box="true") == ""
