"""Every seeded mistake of a reply is found, by its rule and at its place."""

import json
from typing import Any

import pytest

from fnbuild.cvat.check.findings import FindingCollector, excerpt
from fnbuild.cvat.replies import read_reply
from fnbuild.cvat.request import CvatRequest, EncodedImage
from fnbuild.cvat.rules import RULES
from tests.cvat.check.seeded_replies import LABELS, REPLIES, SIZE, shape

SENT = {"tracker": ((1,), True), "reid": ((2, 2), False)}


def diagnostics(kind: str, reply: Any) -> Any:
    counts, continues = SENT.get(kind, ((), False))
    image = EncodedImage(b"", "PNG", SIZE)
    sent = CvatRequest(kind, b"", image, counts=counts, continues_track=continues)
    text = reply if isinstance(reply, str) else json.dumps(reply)
    return read_reply(kind, text, LABELS, SIZE, sent).diagnostics


@pytest.mark.parametrize(
    ("kind", "reply", "rule", "path"),
    REPLIES,
    ids=[f"{row[0]}-{row[2]}-{i}" for i, row in enumerate(REPLIES)],
)
def test_a_seeded_mistake_is_found_at_its_place(
    kind: str, reply: Any, rule: str, path: str
) -> None:
    assert (rule, path) in {(item.rule, item.path) for item in diagnostics(kind, reply)}


def test_there_are_eighty_seeded_replies() -> None:
    assert len(REPLIES) >= 80


def test_every_rule_on_replies_has_a_seeded_mistake() -> None:
    behaviour = {
        "reply-kind", "no-labels", "embedding-name", "state-json", "state-size", "state-worker",
        "status", "no-answer", "slow", "bad-request-status", "bad-request-accepted",
        "bad-request-message", "threshold", "repeatable", "independent", "picture-mode",
    }  # fmt: skip
    assert set(RULES) - {row[2] for row in REPLIES} == behaviour


def test_findings_at_corresponding_places_are_counted_once() -> None:
    collector = FindingCollector()
    reply = [{"label": "bird", "type": "tag"} for _ in range(3)]
    for name in ("photo", "grey"):
        collector.add_reply(name, diagnostics("detector", reply), reply)
    (finding,) = collector.findings
    assert (finding.path, finding.value, finding.count) == ("[0].label", '"bird"', 6)
    assert finding.cases == ["photo", "grey"]
    assert "known" in finding.remedy


def test_half_a_surrogate_pair_can_be_printed() -> None:
    collector = FindingCollector()
    reply = [shape(label="\ud800")]
    collector.add_reply("photo", diagnostics("detector", reply), reply)
    (finding,) = collector.findings
    assert f"{finding.message} {finding.value}".encode().count(b"?") == 2


def test_the_excerpt_of_a_long_list_is_short() -> None:
    reply = {"shapes": [{"points": list(range(1_000_000))}]}
    assert excerpt(reply, "shapes[0].points") == "[0, 1, 2, 3, 4, 5, 6, 7, … 1000000 items]"
    assert excerpt(reply, "shapes[1].points") == ""
    assert excerpt(reply, "") == "{shapes}"


@pytest.mark.parametrize(
    ("types", "shape", "path"),
    [
        ((), [1, 2, 30, 40], None),
        ((), {"type": "rectangle", "points": [1, 2, 30, 40]}, "shapes[0]"),
        (("rectangle",), {"type": "rectangle", "points": [1, 2, 30, 40]}, None),
        (("rectangle",), None, None),
        (("rectangle",), [1, 2, 30, 40], "shapes[0]"),
        (("polygon",), {"type": "rectangle", "points": [1, 2, 30, 40]}, "shapes[0].type"),
        (("polygon",), {"type": {}, "points": [1, 2, 30, 40]}, "shapes[0].type"),
    ],
)
def test_a_tracker_answers_as_it_declares(
    types: tuple[str, ...], shape: Any, path: str | None
) -> None:
    image = EncodedImage(b"", "PNG", SIZE)
    sent = CvatRequest("tracker", b"", image, counts=(1,), shape_types=types)
    reply = {"states": [1], "shapes": [shape]}
    diagnostics = read_reply("tracker", reply, [], SIZE, sent).diagnostics
    expected = [("tracker-shape", path)] if path else []
    assert [(item.rule, item.path) for item in diagnostics] == expected
