"""The API checks replies as `fnbuild invoke --image` does."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fnbuild.cvat.replies import read_reply
from tests.dashboard.conftest import Dashboard

pytestmark = pytest.mark.system

SPEC = '[{"name": "face", "type": "rectangle"}]'
BOX = {"label": "face", "type": "rectangle", "points": [1, 2, 30, 40]}


def findings(dashboard: Dashboard, reply: str, **more: Any) -> list[dict[str, str]]:
    body = {"kind": "detector", "spec": SPEC, "reply": reply, "width": 64, "height": 48, **more}
    answer = dashboard.request("POST", "/api/checks", json=body, token=False)
    assert answer.status == 200, answer.text
    reported: list[dict[str, str]] = answer.json["findings"]
    return reported


def test_a_valid_reply(dashboard: Dashboard) -> None:
    assert findings(dashboard, json.dumps([BOX])) == []


def test_the_findings_are_those_of_the_command_line(dashboard: Dashboard) -> None:
    reply = json.dumps([{**BOX, "label": "fase"}, {**BOX, "points": [1, 2, 3]}, {"type": "mask"}])
    problems = read_reply("detector", reply, [], (64, 48)).diagnostics
    reported = findings(dashboard, reply, spec="")
    assert [record["message"] for record in reported] == [problem.message for problem in problems]
    mended = findings(dashboard, reply)[0]
    assert mended["severity"] == "warning"
    assert mended["rule"] == "label-unknown"
    assert mended["path"] == "[0].label"
    assert "face" in mended["hint"]


@pytest.mark.parametrize("reply", ["", "None", "{'a': 1}", "[" * 100_000, "\ud7ff\x00", "[NaN]"])
def test_any_reply_is_checked(dashboard: Dashboard, reply: str) -> None:
    assert findings(dashboard, reply)[0]["severity"] == "error"


def test_a_spec_that_is_nested_too_deeply(dashboard: Dashboard) -> None:
    assert len(findings(dashboard, json.dumps([BOX]), spec="[" * 100_000)) == 1


def test_the_request_is_part_of_the_check(dashboard: Dashboard) -> None:
    reply = json.dumps({"states": [1]})
    assert findings(dashboard, reply, kind="tracker", counts=[1]) == []
    (less,) = findings(dashboard, reply, kind="tracker", counts=[2])
    assert "1 entries for 2 shapes" in less["message"]
    (follows,) = findings(dashboard, reply, kind="tracker", counts=[1], follows=True)
    assert follows["path"] == "shapes"
    assert findings(dashboard, "[0, -1]", kind="reid", counts=[2, 1]) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "classifier"},
        {"kind": None},
        {"kind": []},
        {"reply": [BOX]},
        {"width": 0},
        {"height": "48"},
        {"width": True},
        {"counts": [-1]},
        {"counts": 2},
        {"counts": [True]},
    ],
)
def test_an_invalid_request(dashboard: Dashboard, wrong: dict[str, Any]) -> None:
    body = {"kind": "detector", "reply": "[]", "width": 64, "height": 48, **wrong}
    answer = dashboard.request("POST", "/api/checks", json=body, token=False)
    assert answer.status == 400
    assert answer.json["error"]
