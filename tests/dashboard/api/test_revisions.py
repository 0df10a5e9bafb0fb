"""The configuration and revisions of a function, and rollback."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.dashboard.conftest import Dashboard, write_function
from tests.dashboard.waiting import until

pytestmark = pytest.mark.system

CODE = "def handler(context, event):\n    return 'WORD'\n"
SPEC = """
eventTimeout: 30s
env:
- {name: PLAIN, value: seen}
- {name: API_TOKEN, value: s3cret}
"""
WAIT = {"x-nuclio-wait-function-action": "true"}


@pytest.fixture(scope="module")
def revised_function(
    dashboard: Dashboard, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A function with two revisions, which differ in code and configuration."""
    home = tmp_path_factory.mktemp("functions")
    folder = write_function(home, "reviser", CODE.replace("WORD", "one"), spec=SPEC)
    dashboard.deploy(folder)
    (folder / "main.py").write_text(CODE.replace("WORD", "two"))
    config = folder / "function.yaml"
    config.write_text(config.read_text().replace("30s", "40s"))
    yield dashboard.deploy(folder)
    dashboard.cli("delete", "function", "reviser")


def get(dashboard: Dashboard, path: str) -> dict[str, Any]:
    answer = dashboard.request("GET", f"/api/functions/{path}", token=False)
    assert answer.status == 200, answer.text
    reply: dict[str, Any] = answer.json
    return reply


def reply_of(dashboard: Dashboard, name: str) -> str:
    headers = {"x-nuclio-function-name": name}
    return dashboard.request("POST", "/api/function_invocations", headers=headers).text


def numbers(dashboard: Dashboard, name: str) -> list[tuple[int, str]]:
    revisions = get(dashboard, f"{name}/revisions")["revisions"]
    return [(revision["number"], revision["state"]) for revision in revisions]


def test_the_configuration_is_yaml_without_secrets(
    dashboard: Dashboard, revised_function: str
) -> None:
    answer = dashboard.request(
        "GET", f"/api/functions/{revised_function}/configuration", token=False
    )
    assert answer.headers["content-type"].startswith("application/yaml")
    assert "s3cret" not in answer.text
    raw = yaml.safe_load(answer.text)
    assert raw["metadata"]["name"] == revised_function
    assert raw["spec"]["eventTimeout"] == "40s"
    assert raw["spec"]["env"] == [
        {"name": "PLAIN", "value": "[redacted]"},
        {"name": "API_TOKEN", "value": "[redacted]"},
    ]
    writers = dashboard.request("GET", f"/api/functions/{revised_function}/configuration").text
    assert yaml.safe_load(writers)["spec"]["env"] == [
        {"name": "PLAIN", "value": "seen"},
        {"name": "API_TOKEN", "value": "[redacted]"},
    ]
    reply = dashboard.request("POST", "/api/validations", body=answer.body).json
    assert [
        diagnostic for diagnostic in reply["diagnostics"] if diagnostic["severity"] == "error"
    ] == []


def test_revisions_are_listed_and_compared(dashboard: Dashboard, revised_function: str) -> None:
    assert numbers(dashboard, revised_function)[-2:] == [(2, "active"), (1, "superseded")] or (
        numbers(dashboard, revised_function)[-2:] == [(2, "superseded"), (1, "superseded")]
    )
    difference = get(dashboard, f"{revised_function}/revisions/2/difference")
    assert (difference["from"], difference["to"]) == (1, 2)
    configuration, code = str(difference["configuration"]), str(difference["code"])
    assert "--- function.yaml (revision 1)\n+++ function.yaml (revision 2)\n" in configuration
    assert "-  eventTimeout: 30s\n+  eventTimeout: 40s\n" in configuration
    assert "--- main.py (revision 1)\n+++ main.py (revision 2)\n" in code
    assert "-    return 'one'\n+    return 'two'\n" in code
    assert "s3cret" not in configuration + code

    back = get(dashboard, f"{revised_function}/revisions/1/difference?with=2")
    assert (back["from"], back["to"]) == (2, 1)
    assert "-    return 'two'\n+    return 'one'\n" in str(back["code"])
    same = get(dashboard, f"{revised_function}/revisions/1/difference")
    assert same == {"from": 1, "to": 1, "configuration": "", "code": ""}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("reviser/revisions/99/difference", 404),
        ("reviser/revisions/1/difference?with=99", 404),
        ("reviser/revisions/one/difference", 400),
        ("reviser/revisions/-1/difference", 400),
        ("reviser/revisions/1/difference?with=", 400),
        ("reviser/revisions/%D9%A1/difference", 400),
        ("reviser/revisions/1e3/difference", 400),
        ("nobody/revisions", 404),
        ("nobody/configuration", 404),
        ("nobody/revisions/1/difference", 404),
    ],
)
def test_missing_functions_and_revisions(
    dashboard: Dashboard, revised_function: str, path: str, status: int
) -> None:
    answer = dashboard.request("GET", f"/api/functions/{path}")
    assert answer.status == status, answer.text
    assert answer.json["error"]


def test_rollback_to_a_revision(dashboard: Dashboard, revised_function: str) -> None:
    path = f"/api/functions/{revised_function}/rollback"
    before = numbers(dashboard, revised_function)
    assert reply_of(dashboard, revised_function) == "two"
    begun = dashboard.request("POST", path, json={"revision": 1})
    assert begun.status == 202
    assert begun.json["action"] == "rollback"
    until(
        lambda: get(dashboard, revised_function)["status"]["state"] == "ready",
        "it has rolled back",
    )
    until(lambda: reply_of(dashboard, revised_function) == "one", "it says one")
    operation = get(dashboard, f"{revised_function}/operation")
    assert (operation["action"], operation["state"]) == ("rollback", "done")
    assert any("revision 1" in line["message"] for line in operation["lines"])
    listed = get(dashboard, f"{revised_function}/revisions")["revisions"]
    assert len(listed) == len(before) + 1
    assert "rollback to revision 1" in listed[0]["message"]
    notes = dashboard.request("GET", "/api/audit").json["audit"]
    note = next(entry for entry in notes if entry["action"] == "rollback")
    assert note["target"] == f"process nuclio/{revised_function}"
    assert note["actor"].startswith("token write from 127.0.0.1")


def test_rollback_without_a_number(dashboard: Dashboard, revised_function: str) -> None:
    path = f"/api/functions/{revised_function}/rollback"
    dashboard.request("POST", path, json={"revision": 2}, headers=WAIT)
    until(lambda: reply_of(dashboard, revised_function) == "two", "it says two")
    done = dashboard.request("POST", path, json={"revision": None}, headers=WAIT)
    assert (done.status, done.json["state"]) == (202, "done")
    until(lambda: reply_of(dashboard, revised_function) == "one", "it says one")
    again = dashboard.request("POST", path, json={}, headers=WAIT)
    assert again.status == 404, again.text
    assert "served before" in again.json["error"]
    status = get(dashboard, revised_function)["status"]
    assert status["state"] == "error"
    assert "served before" in status["message"]
    assert reply_of(dashboard, revised_function) == "one"
    dashboard.request("POST", path, json={"revision": 2}, headers=WAIT)


def test_an_invalid_rollback(dashboard: Dashboard, revised_function: str) -> None:
    path = f"/api/functions/{revised_function}/rollback"
    before = numbers(dashboard, revised_function)
    for body, status in (
        ({"revision": 99}, 404),
        ({"revision": "one"}, 400),
        ({"revision": True}, 400),
        ({"revision": -1}, 400),
        ({"revision": [1]}, 400),
        ([], 400),
    ):
        assert dashboard.request("POST", path, json=body).status == status
    assert dashboard.request("POST", path, json={"revision": 1}, token=False).status == 401
    missing = "/api/functions/nobody/rollback"
    assert dashboard.request("POST", missing, json={"revision": 1}).status == 404
    assert numbers(dashboard, revised_function) == before


def test_a_rollback_by_the_command_line_is_shown(
    dashboard: Dashboard, revised_function: str
) -> None:
    count = len(numbers(dashboard, revised_function))
    dashboard.cli("rollback", revised_function, "1")
    assert len(numbers(dashboard, revised_function)) == count + 1
    assert "return 'one'" in str(
        get(dashboard, f"{revised_function}/revisions/{count + 1}/difference?with=2")["code"]
    )
    dashboard.cli("rollback", revised_function, "2")
