"""Operations: their output, complete and as a stream, and their end."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fnbuild.dashboard.operations.model import FAILURE_SHOWN_SECONDS, Operation, function_status
from fnbuild.function.types import Function, Metadata
from fnbuild.platforms import Deployment
from tests.dashboard.calls import (
    answering,
    deployed,
    gated,
    gone_at_the_end,
    inline,
    operation,
    status,
)
from tests.dashboard.conftest import Dashboard, Started
from tests.dashboard.waiting import until

pytestmark = pytest.mark.system

SLOW = """\
import time


def init_context(context):
    time.sleep(SECONDS)


def handler(context, event):
    return "slow"
"""


@pytest.fixture
def name(dashboard: Dashboard) -> Iterator[str]:
    with gone_at_the_end(dashboard, f"changing-{uuid.uuid4().hex[:8]}") as unique_name:
        yield unique_name


def slow(name: str, seconds: float, **spec: Any) -> dict[str, Any]:
    return inline(name, SLOW.replace("SECONDS", str(seconds)), **spec)


def events(text: str) -> list[tuple[str, dict[str, Any]]]:
    results = []
    for block in text.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "event" in fields:
            results.append((fields["event"], json.loads(fields["data"])))
    return results


def test_the_stream_has_every_line_from_the_first_and_ends_with_the_change(
    dashboard: Dashboard, name: str
) -> None:
    dashboard.request("POST", "/api/functions", json=slow(name, 1))
    answer = dashboard.request("GET", f"/api/functions/{name}/operation/stream")
    assert answer.headers["content-type"].startswith("text/event-stream")
    seen = events(answer.text)
    states = [value["state"] for kind, value in seen if kind == "state"]
    assert states[-1] == "done"
    assert set(states) <= {"waiting", "running", "done"}
    lines = [value for kind, value in seen if kind == "line"]
    assert any("staging" in entry["message"] for entry in lines)
    assert any(entry["message"].startswith("ready on") for entry in lines)
    times = [line["time"] for line in lines]
    assert times == sorted(set(times)), "clients take lines of one time for one"
    kept = operation(dashboard, name)
    assert (kept["state"], kept["action"], kept["lines"]) == ("done", "deploy", lines)
    assert kept["actor"].startswith("token write from 127.0.0.1")
    assert kept["started"] < kept["ended"]


def test_lines_are_sent_while_the_change_is_running(
    dashboard: Dashboard, name: str, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    dashboard.request("POST", "/api/functions", json=gated(name, gate, "slow"))
    until(lambda: operation(dashboard, name)["lines"], "the first line")
    assert operation(dashboard, name)["state"] == "running"
    assert status(dashboard, name)["operation"]["state"] == "running"
    (first, *_) = status(dashboard, name)["logs"]
    assert set(first) == {"time", "level", "message", "name"}
    gate.touch()


def test_without_a_change_there_is_no_stream(dashboard: Dashboard) -> None:
    for path in ("operation", "operation/stream"):
        answer = dashboard.request("GET", f"/api/functions/never-there/{path}")
        assert answer.status == 404
        assert answer.json["hint"]


def test_the_reason_of_a_failure_is_kept_if_the_output_is_truncated(
    dashboard: Dashboard, name: str
) -> None:
    code = "raise RuntimeError('\\n'.join(f'reason {n}' for n in range(900)))\n"
    dashboard.request("POST", "/api/functions", json=inline(name, code))
    until(lambda: operation(dashboard, name)["state"] == "failed", "it has failed")
    assert len(operation(dashboard, name)["lines"]) < 600
    assert "reason 1" in operation(dashboard, name)["message"]


def test_changes_beyond_the_limit_wait(started: Started, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with started() as own:
        names = [f"one-of-{number}" for number in range(6)]
        for function in names:
            own.request("POST", "/api/functions", json=gated(function, gate, "slow"))
        states = {operation(own, function)["state"] for function in names}
        assert "waiting" in states
        gate.touch()
        until(
            lambda: all(operation(own, function)["state"] == "done" for function in names),
            "all are done",
        )
        assert all(status(own, function)["state"] == "ready" for function in names)


def test_a_terminated_dashboard_ends_its_changes_first(started: Started) -> None:
    with started() as own:
        own.request("POST", "/api/functions", json=slow("until-the-end", 2))
        until(lambda: operation(own, "until-the-end")["state"] == "running", "it runs")
        assert own.stop() == 0
    with started() as again:
        assert operation(again, "until-the-end")["state"] == "done"
        assert status(again, "until-the-end")["state"] == "ready"


def test_changes_of_a_dead_dashboard_are_reported_by_others(started: Started) -> None:
    with started() as first, started() as second:
        deployed(first, answering("left", "one"))
        first.request("PUT", "/api/functions", json=slow("left", 90))
        until(lambda: operation(second, "left")["state"] == "running", "the other sees it", 30)
        refused = second.request("PUT", "/api/functions", json=answering("left", "two"))
        assert refused.status == 412
        first.kill()
        until(lambda: operation(second, "left")["state"] == "failed", "the other tells it", 30)
        assert "ended before" in operation(second, "left")["message"]
        newest = second.request("GET", "/api/audit").json["audit"][0]
        assert newest["target"] == "process nuclio/left"
        assert newest["outcome"].startswith("failed: the dashboard ended before")


# The function's state for each state of a change

NOW = datetime(2026, 11, 1, tzinfo=UTC)
SERVING = Deployment(
    Function(metadata=Metadata(name="it")), "process", "ready", revision=3, replicas=(1, 1)
)
ENDED = Operation(
    1, "nuclio", "it", "process", "deploy", "me", "failed", "it broke", NOW.isoformat(),
    NOW.isoformat(), None, 3,
)  # fmt: skip
REFUSED = replace(ENDED, message="he is at it", refused=True)


@pytest.mark.parametrize(
    ("operation", "deployment", "later", "wanted"),
    [
        (None, SERVING, 0, ("ready", "")),
        (replace(ENDED, state="waiting", message=""), SERVING, 0, ("building", "")),
        (replace(ENDED, state="running", action="delete"), SERVING, 0, ("ready", "")),
        (replace(ENDED, state="done"), SERVING, 0, ("ready", "")),
        (ENDED, SERVING, 0, ("error", "it broke; revision 3 goes on serving")),
        (
            replace(ENDED, message="no; revision 3 goes on serving"),
            SERVING,
            0,
            ("error", "no; revision 3 goes on serving"),
        ),
        (ENDED, SERVING, FAILURE_SHOWN_SECONDS + 1, ("ready", "")),
        (ENDED, replace(SERVING, revision=4), 0, ("ready", "")),
        (
            ENDED,
            replace(SERVING, state="unhealthy", replicas=(0, 1)),
            FAILURE_SHOWN_SECONDS + 1,
            ("error", "it broke"),
        ),
        (
            ENDED,
            replace(SERVING, state="error", message="its own", replicas=(0, 1)),
            0,
            ("error", "its own"),
        ),
        (
            REFUSED,
            SERVING,
            0,
            ("ready", "the last deploy requested here was refused: he is at it"),
        ),
        (
            REFUSED,
            replace(SERVING, revision=4),
            0,
            ("ready", "the last deploy requested here was refused: he is at it"),
        ),
        (REFUSED, SERVING, FAILURE_SHOWN_SECONDS + 1, ("ready", "")),
        (
            REFUSED,
            SERVING.with_ongoing_change("being deployed from there"),
            0,
            (
                "building",
                "it is being deployed from there\n"
                "the last deploy requested here was refused: he is at it",
            ),
        ),
        (
            REFUSED,
            replace(SERVING, state="unhealthy", message="its own", replicas=(0, 1)),
            FAILURE_SHOWN_SECONDS + 1,
            ("unhealthy", "its own"),
        ),
    ],
)
def test_the_state_of_a_function_with_a_change(
    operation: Operation | None,
    deployment: Deployment,
    later: float,
    wanted: tuple[str, str],
) -> None:
    assert function_status(deployment, operation, NOW.timestamp() + later) == wanted
