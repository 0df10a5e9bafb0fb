"""Diagnostics of a configuration while a user types it."""

from __future__ import annotations

import json
import os
import signal
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.dashboard.conftest import Dashboard

pytestmark = pytest.mark.system

WRONG = """\
metadata:
  name: cars
  annotations:
    type: detecter
spec:
  runtime: pyton:3.9
  eventTimeout: soon
  replica: 2
"""

_VARIABLE = "    - {{name: SETTING_{number}, value: 'number {number}'}}\n"


def validate(dashboard: Dashboard, text: str | bytes) -> dict[str, Any]:
    answer = dashboard.request("POST", "/api/validations", body=text, token=False)
    assert answer.status == 200, answer.text
    reply: dict[str, Any] = answer.json
    return reply


def test_findings_are_those_of_the_command_line(dashboard: Dashboard, tmp_path: Path) -> None:
    (tmp_path / "function.yaml").write_text(WRONG)
    (tmp_path / "main.py").write_text("def handler(context, event):\n    return 1\n")
    (tmp_path / f"{tmp_path.name}.py").write_text("def handler(context, event):\n    return 1\n")
    output = dashboard.cli("validate", str(tmp_path), "-o", "json", check=False).stdout
    checked = validate(dashboard, WRONG)
    assert checked["function"] == "cars"
    shown_by_api = [
        (diagnostic["rule"], diagnostic["message"], diagnostic["line"], diagnostic["column"])
        for diagnostic in checked["diagnostics"]
    ]
    shown_by_command = [
        (log["rule"], log["message"], log["start"]["line"], log["start"]["column"])
        for log in json.loads(output)
    ]
    assert shown_by_api == shown_by_command
    assert ("runtime", 6) in [(rule, line) for rule, _, line, _ in shown_by_api]


def test_a_finding_has_its_position_and_its_remedy(dashboard: Dashboard) -> None:
    checked = validate(dashboard, "metadata:\n  name: cars\nspec:\n  eventTimout: 5s\n")
    assert checked["diagnostics"] == [
        {
            "severity": "warning",
            "rule": "unknown-key",
            "message": "unknown key 'eventTimout' in spec; Nuclio ignores it",
            "hint": "did you mean eventTimeout?",
            "file": "function.yaml",
            "line": 4,
            "column": 3,
            "endLine": 4,
            "endColumn": 14,
            "excerpt": "  eventTimout: 5s",
        }
    ]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\x00\x01",
        b"\xff\xfemetadata",
        b"metadata: [",
        b"- a\n- b\n",
        b"a: &a [*a, *a]\n",
        b"{" * 5000,
        b"x: &x [1,1,1,1]\n" + b"".join(b"y%d: &y%d [*x,*x]\n" % (n, n) for n in range(500)),
        b"metadata: {name: 5}\nspec: {build: {functionSourceCode: '%%%'}}",
        b"\r\n\t:\r\n",
        "metadata: {name: '\ufb00\u202e'}".encode(),
    ],
)
def test_any_text_is_checked(dashboard: Dashboard, text: bytes) -> None:
    validate(dashboard, text)


def test_text_beyond_the_limit_of_a_file(dashboard: Dashboard) -> None:
    checked = validate(dashboard, b"# " + b"x" * (2 << 20))
    assert [diagnostic["rule"] for diagnostic in checked["diagnostics"]] == ["too-large"]
    answer = dashboard.request("POST", "/api/validations", body=b"x" * (9 << 20))
    assert answer.status == 413


def test_paths_in_the_text_are_not_opened(dashboard: Dashboard, tmp_path: Path) -> None:
    (tmp_path / "there.py").write_text("def handler(context, event):\n    return 1\n")
    text = (
        "metadata: {{name: cars}}\nspec: {{handler: '{module}:handler', build: {{path: {path}}}}}\n"
    )
    there = validate(dashboard, text.format(module="there", path=tmp_path))
    missing = validate(dashboard, text.format(module="there", path=tmp_path / "missing"))
    assert there == missing


def test_the_handler_is_looked_for_in_the_code_of_a_function(
    dashboard: Dashboard, greeter: str
) -> None:
    text = "metadata: {name: greeter}\nspec: {handler: 'HERE', runtime: 'python:3.11'}\n"

    def findings(handler: str, query: str = f"?function={greeter}") -> list[Any]:
        answer = dashboard.request(
            "POST", f"/api/validations{query}", body=text.replace("HERE", handler), token=False
        )
        assert answer.status == 200
        reported: list[Any] = answer.json["diagnostics"]
        return reported

    assert findings("main:handler") == []
    (missing,) = findings("main:handel")
    assert (missing["rule"], missing["line"]) == ("handler-function", 2)
    assert missing["message"] == "there is no 'handel' in main.py"
    assert missing["hint"] == "did you mean handler?"
    (module,) = findings("model:handler")
    assert module["rule"] == "handler-module"
    assert findings("main:handel", "") == findings("main:handel", "?function=nobody") == []


def test_concurrent_checks_do_not_delay_invocations(dashboard: Dashboard, greeter: str) -> None:
    """A few checks run and the rest is refused; none runs in the dashboard's own process."""
    heavy = WRONG + "  env:\n" + "".join(_VARIABLE.format(number=n) for n in range(20_000))
    body = {"X-Nuclio-Function-Name": greeter}
    with ThreadPoolExecutor(60) as pool:
        checks = [
            pool.submit(dashboard.request, "POST", "/api/validations", body=heavy, token=False)
            for _ in range(60)
        ]
        seconds = []
        while not all(item.done() for item in checks):
            began = time.perf_counter()
            answer = dashboard.request("POST", "/api/function_invocations", headers=body)
            seconds.append(time.perf_counter() - began)
            assert answer.status == 200
    answers = [check.result() for check in checks]
    refused = [item for item in answers if item.status == 429]
    assert len(refused) >= 60 - 24
    assert {item.headers["Retry-After"] for item in refused} == {"2"}
    assert {item.status for item in answers if item not in refused} == {200}
    print(len(seconds), statistics.median(seconds), max(seconds))
    assert statistics.median(seconds) < 0.05


def test_a_check_that_crashes_affects_no_other(dashboard: Dashboard) -> None:
    validate(dashboard, WRONG)
    for pid in _workers(dashboard):
        os.kill(pid, signal.SIGKILL)
    answers = [
        dashboard.request("POST", "/api/validations", body=WRONG, token=False) for _ in range(4)
    ]
    assert [item.status for item in answers][-1] == 200
    assert {answer.status for answer in answers} <= {200, 500}


def _workers(dashboard: Dashboard) -> list[int]:
    children = Path(f"/proc/{dashboard.process.pid}/task/{dashboard.process.pid}/children")
    return [
        int(pid)
        for pid in children.read_text().split()
        if b"cpu_tasks" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
