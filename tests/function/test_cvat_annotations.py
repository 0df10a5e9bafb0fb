"""The rules on CVAT's annotations of a function that is known without its files."""

import json
from typing import Any

import pytest

from fnbuild.function.rules import check_cvat_annotations
from fnbuild.function.types import Function, Metadata, Spec, Trigger

ATTRIBUTE = {"name": "age", "input_type": "number", "values": ["0", "9", "1"]}
BODY = {"name": "body", "type": "skeleton", "sublabels": [{"name": "head"}, {"name": "foot"}]}
HEAD = '<circle data-type="element node" data-node-id="1" data-label-name="head"></circle>'


def rules(annotations: dict[str, str]) -> list[str]:
    trigger = Trigger(kind="http", attributes={"maxRequestBodySize": 32 << 20})
    spec = Spec(description="Finds cars", triggers={"http": trigger})
    function = Function(metadata=Metadata(name="own", annotations=annotations), spec=spec)
    return [diagnostic.rule for diagnostic in check_cvat_annotations(function)]


def labelled(*labels: Any) -> dict[str, str]:
    return {"type": "detector", "spec": json.dumps(labels)}


@pytest.mark.parametrize(
    ("annotations", "rule"),
    [
        ({"type": "Detector", "spec": "[]"}, "cvat-type"),
        ({"type": "detector", "spec": '[{"name": "car"},]'}, "cvat-json"),
        ({"type": "detector", "spec": '{"name": "car"}'}, "cvat-labels"),
        ({"type": "detector"}, "cvat-no-labels"),
        (labelled({"type": "tag"}), "cvat-labels"),
        (labelled({"name": "car"}, {"name": "car"}), "cvat-duplicate-label"),
        (labelled({"name": "car", "type": "box"}), "cvat-label-type"),
        (labelled({"name": "car", "attributes": [{"name": "age"}]}), "cvat-attributes"),
        (labelled({"name": "car", "attributes": [ATTRIBUTE, ATTRIBUTE]}), "cvat-attributes"),
        (labelled(BODY), "cvat-skeleton"),
        (labelled({**BODY, "svg": HEAD}), "cvat-skeleton"),
        (labelled({"name": "body", "type": "skeleton", "svg": HEAD}), "cvat-skeleton"),
        ({**labelled({"name": "car"}), "version": "1.0"}, "cvat-number"),
        ({"type": "interactor", "version": "1"}, "cvat-version"),
        ({"type": "interactor", "startswith_box": "false"}, "cvat-flag"),
        ({"type": "tracker", "supported_shape_types": " "}, "cvat-shapes"),
    ],
)
def test_a_seeded_mistake_is_found(annotations: dict[str, str], rule: str) -> None:
    assert rules(annotations) == [rule]


def test_valid_annotations() -> None:
    foot = HEAD.replace('"1"', '"2"').replace("head", "foot")
    svg = {**BODY, "svg": HEAD + foot}
    assert rules(labelled({"name": "car", "attributes": [ATTRIBUTE]}, svg)) == []
    assert rules({"name": "no model"}) == []
