import json
from pathlib import Path

from fnbuild.function import labels
from fnbuild.function.reader import check_text
from fnbuild.function.types import Function, Metadata

SPECS = Path(__file__).resolve().parents[2] / "function-specs" / "labels"


def function(**annotations: str) -> Function:
    return Function(metadata=Metadata(name="f", annotations=annotations))


def test_reads_every_part_of_a_label():
    spec = [
        {
            "id": 7,
            "name": "car",
            "type": "rectangle",
            "attributes": [
                {"name": "doors", "input_type": "number", "values": ["2", "5", "1"]},
                {"name": "parked", "input_type": "checkbox", "values": ["false"]},
            ],
        },
        {"name": "thing"},
    ]
    car, object_ = labels.function_labels(function(spec=json.dumps(spec)))
    assert (car.name, car.type, car.id) == ("car", "rectangle", 7)
    assert car.attributes[0] == labels.Attribute("doors", "number", ("2", "5", "1"))
    assert (object_.type, object_.id, object_.attributes) == ("any", None, ())


def test_a_spec_that_cannot_be_parsed_has_no_labels():
    for text in ("", "   ", "[{'name': 'x'}]", '[{"name": "x"},]', '{"name": "x"}', "null", "3"):
        assert labels.function_labels(function(spec=text)) == []
    assert labels.function_labels(function()) == []


def test_an_invalid_label_does_not_hide_the_others():
    assert [each.name for each in labels.parse_labels('[3, {"name": 4}, {}, {"name": "x"}]')] == [
        "x"
    ]


def test_kinds_are_exact():
    assert labels.function_kind(function(type="detector")) == "detector"
    assert labels.function_kind(function(type="Detector")) is None
    assert labels.function_kind(function()) is None


def test_shape_types_of_a_tracker_are_stripped():
    declared = function(supported_shape_types=" polygon, rectangle ,")
    assert labels.tracked_shape_types(declared) == ("polygon", "rectangle")
    assert labels.tracked_shape_types(function()) == ()


def test_neighbouring_labels_differ_in_colour_and_colours_are_stable():
    many = [labels.Label(str(i)) for i in range(80)]
    once, again = labels.label_colours(many), labels.label_colours(list(many))
    assert once == again
    assert all(once[str(i)] != once[str(i + 1)] for i in range(79))
    assert len(set(labels.PALETTE)) == len(labels.PALETTE)


def test_a_label_without_a_spec_keeps_its_colour():
    assert labels.label_colour("dog") == labels.label_colour("dog", {"cat": (1, 2, 3)})
    assert labels.label_colour("cat", {"cat": (1, 2, 3)}) == (1, 2, 3)


def test_edges_follow_the_names_in_the_svg():
    svg = (
        '<line x1="1" y1="2" x2="3" y2="4" data-type="edge" data-node-from="2" data-node-to="9">\n'
        '<circle cx="1" cy="1" data-type="element node" data-node-id="2" data-label-name="head">'
        '<circle cx="1" cy="1" data-type="element node" data-node-id="9" data-label-name="tail">'
    )
    assert labels.Label("fish", "skeleton", svg=svg).edges() == [("head", "tail")]
    assert labels.Label("fish", svg="<no <<svg").edges() == []


def test_the_shared_coco_classes():
    coco = labels.parse_labels((SPECS / "coco-80.json").read_text())
    assert len({each.name for each in coco}) == 80
    assert [each.id for each in coco] == list(range(80))
    assert (coco[0].name, coco[79].name) == ("person", "toothbrush")


def test_a_spec_nested_too_deeply_has_no_labels():
    assert labels.parse_labels("[" * 100_000) == []
    deep = '[{"name": "x", "sublabels": ' * 400 + "[]" + "}]" * 400
    assert isinstance(labels.parse_labels(deep), list)


def test_the_shared_keypoints_form_one_connected_figure():
    (person,) = labels.parse_labels((SPECS / "coco-17-keypoints.json").read_text())
    names = {each.name for each in person.sublabels}
    assert len(names) == 17
    edges = person.edges()
    assert len(edges) == 19
    reached = {"nose"}
    while grown := {b for a, b in edges + [e[::-1] for e in edges] if a in reached} - reached:
        reached |= grown
    assert reached == names


def test_every_label_type_of_cvat_is_known() -> None:
    spec = [{"name": kind, "type": kind} for kind in labels.LABEL_TYPES if kind != "skeleton"]
    text = json.dumps(
        {"metadata": {"name": "f", "annotations": {"type": "detector", "spec": json.dumps(spec)}}}
    )
    _, report = check_text(text.encode(), "function.json")
    assert "interval" in labels.LABEL_TYPES
    assert [warning for warning in report.warnings if warning.rule == "cvat-label-type"] == []
