"""The attributes of shapes if a spec has very many of them."""

from __future__ import annotations

import json
from collections.abc import Iterator

from fnbuild.cvat.replies import ParsedReply, read_reply
from fnbuild.function.labels import Attribute, Label

MANY = 200
SIZE = (100, 80)


class Counted(tuple):
    """A tuple that counts how often it is iterated."""

    times = 0

    def __iter__(self) -> Iterator:
        self.times += 1
        return super().__iter__()

    def __contains__(self, value: object) -> bool:
        return any(item == value for item in self)


def detect(label: Label, *attributes: dict[str, str], times: int = MANY) -> ParsedReply:
    """Return the result for a reply with the same shape that many times."""
    shape = {
        "label": label.name,
        "type": "rectangle",
        "points": [1, 2, 30, 40],
        "attributes": attributes,
    }
    return read_reply("detector", json.dumps([shape] * times), [label], SIZE)


def test_attributes_of_a_label_are_iterated_once_for_a_reply() -> None:
    attributes = Counted(Attribute(f"a{i}", "text") for i in range(MANY))
    reading = detect(Label("cat", attributes=attributes), {"name": "a7", "value": "x"})
    assert reading.diagnostics == ()
    assert [shape.attributes for shape in reading.shapes] == [(("a7", "x"),)] * MANY
    assert attributes.times == 1


def test_values_are_iterated_once_for_a_reply() -> None:
    values = Counted(str(i) for i in range(MANY))
    label = Label("cat", attributes=(Attribute("age", "select", values),))
    allowed, unknown = {"name": "age", "value": "199"}, {"name": "age", "value": "old"}
    reading = detect(label, allowed, unknown)
    assert len(reading.diagnostics) == MANY
    assert values.times == 1


def test_a_message_names_some_of_many_values() -> None:
    label = Label("cat", attributes=(Attribute("age", "radio", tuple(map(str, range(MANY)))),))
    (problem,) = detect(label, {"name": "age", "value": "old"}, times=1).diagnostics
    assert "is not one of 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, …: CVAT" in problem.message


def test_sublabels_of_one_name_have_separate_attributes() -> None:
    def skeleton(name: str, attribute: str) -> Label:
        head = Label("head", "points", attributes=(Attribute(attribute, "text"),))
        return Label(name, "skeleton", sublabels=(head,))

    def shape(label: str, attribute: str) -> dict[str, object]:
        named = [{"name": attribute, "value": "x"}]
        point = {"label": "head", "type": "points", "points": [1, 2], "attributes": named}
        return {"label": label, "type": "skeleton", "elements": [point]}

    labels = [skeleton("cat", "fur"), skeleton("fish", "scales")]
    right = json.dumps([shape("cat", "fur"), shape("fish", "scales")])
    assert read_reply("detector", right, labels, SIZE).diagnostics == ()
    wrong = json.dumps([shape("cat", "fur"), shape("fish", "fur")])
    (problem,) = read_reply("detector", wrong, labels, SIZE).diagnostics
    assert problem.path == "[1].elements[0].attributes[0].name"
