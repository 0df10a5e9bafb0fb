"""The audit log of changes through the API and the command line."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest

from tests.dashboard.calls import inline, settled
from tests.dashboard.conftest import Dashboard, Started

pytestmark = pytest.mark.system


def test_changes_by_api_and_by_the_command_line(started: Started) -> None:
    with started() as dashboard:
        project = {"metadata": {"name": "by-api", "namespace": "nuclio"}, "spec": {}}
        assert dashboard.request("POST", "/api/projects", json=project).status == 201
        dashboard.cli("create", "project", "by-hand")
        newest, oldest, first = dashboard.request("GET", "/api/audit").json["audit"]
        assert (first["action"], first["target"]) == ("make token", "write")
        assert newest["target"] == "process nuclio/by-hand"
        assert oldest | {"time": ""} == {
            "time": "",
            "actor": "token write from 127.0.0.1",
            "action": "create project",
            "target": "process nuclio/by-api",
            "outcome": "done",
        }
        assert newest["actor"] not in ("", oldest["actor"])
        listed = json.loads(dashboard.cli("get", "audit", "-o", "json").stdout)
        assert listed == [newest, oldest, first]
        line = "token write from 127.0.0.1: create project process nuclio/by-api: done"
        assert line in dashboard.output
        assert "by-hand" in dashboard.cli("get", "audit", "--limit", "1").stdout
        assert dashboard.token not in dashboard.output


def test_function_events_and_tokens(started: Started) -> None:
    with started() as dashboard:
        metadata = {"name": "try", "labels": {"nuclio.io/function-name": "face"}}
        for method, body in (
            ("POST", {"metadata": metadata, "spec": {}}),
            ("PUT", {"metadata": metadata, "spec": {"body": "x"}}),
            ("DELETE", {"metadata": metadata}),
            ("DELETE", {"metadata": metadata}),
        ):
            answer = dashboard.request(method, "/api/function_events", json=body)
            assert answer.status in (201, 204)
        token = dashboard.cli("dashboard", "token", "--new").stdout.strip()
        bearer = {"Authorization": f"Bearer {token}"}
        rows = dashboard.request("GET", "/api/audit", headers=bearer).json["audit"]
        assert [(row["action"], row["target"]) for row in rows] == [
            ("renew token", "write"),
            ("delete function event", "nuclio/try"),
            ("update function event", "nuclio/try"),
            ("create function event", "nuclio/try"),
            ("make token", "write"),
        ]


def test_each_failed_change_has_a_line(started: Started) -> None:
    """One fails before the platform is called, without its code; one does not start."""
    with started() as dashboard:
        early = {"build": {"codeEntryType": "archive", "path": "http://127.0.0.1:9/a.zip"}}
        bodies = {
            "early": {"metadata": {"name": "early"}, "spec": early},
            "late": inline("late", "raise RuntimeError('no weights')\n"),
        }
        for name, body in bodies.items():
            dashboard.request("POST", "/api/functions", json=body)
            assert settled(dashboard, name)["state"] == "error"
        headers = {"X-Nuclio-Function-Name": "early"}
        answer = dashboard.request("GET", "/api/function_invocations", headers=headers)
        assert answer.status == 503
        assert answer.json["error"].startswith("early is error: ")
        for name in bodies:
            assert dashboard.request("DELETE", f"/api/functions/{name}").status == 204
        rows = dashboard.request("GET", "/api/audit").json["audit"]
        noted = [(row["action"], row["target"], row["outcome"].split(":")[0]) for row in rows]
        assert sorted(noted[:-1]) == [
            ("delete", "process nuclio/early", "done"),
            ("delete", "process nuclio/late", "done"),
            ("deploy", "process nuclio/early", "failed"),
            ("deploy", "process nuclio/late", "failed"),
        ]
        assert {row["actor"] for row in rows[:-1]} == {"token write from 127.0.0.1"}
        for action, target, outcome in noted[:-1]:
            assert dashboard.output.count(f": {action} {target}: {outcome}") == 1


@pytest.mark.parametrize("path", ["projects", "function_events"])
def test_no_line_can_be_forged(dashboard: Dashboard, path: str) -> None:
    labels = {"nuclio.io/function-name": "face"}
    metadata = {"name": "forged", "namespace": "a\n2026 somebody: done", "labels": labels}
    answer = dashboard.request("POST", f"/api/{path}", json={"metadata": metadata, "spec": {}})
    assert answer.status == 400
    assert "cannot be a namespace" in answer.json["error"]
    assert "somebody" not in dashboard.output


def test_the_number_of_lines_is_limited(dashboard: Dashboard) -> None:
    dashboard.cli("create", "project", "counted-1")
    dashboard.cli("create", "project", "counted-2")
    assert len(dashboard.request("GET", "/api/audit?limit=2").json["audit"]) == 2
    for name in ("counted-1", "counted-2"):
        dashboard.cli("delete", "project", name)


@pytest.mark.parametrize("limit", ["0x1", "-1", "many", "", "9" * 10, "²"])
def test_an_invalid_number(dashboard: Dashboard, limit: str) -> None:
    answer = dashboard.request("GET", f"/api/audit?limit={quote(limit)}")
    assert answer.status == 400
    assert "limit" in answer.json["error"]


def test_the_audit_log_needs_the_write_role(dashboard: Dashboard) -> None:
    assert dashboard.request("GET", "/api/audit", token=False).status == 401
