"""Functions are created, changed, started again and deleted through the API, as processes."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dashboard.calls import (
    IGNORE_STATE,
    WAIT,
    answering,
    deployed,
    encoded,
    function,
    gated,
    gone_at_the_end,
    inline,
    invoked,
    operation,
    settled,
    status,
)
from tests.dashboard.conftest import Dashboard, Started
from tests.dashboard.waiting import until

pytestmark = pytest.mark.system

BROKEN = """\
def init_context(context):
    raise RuntimeError("no weights")


def handler(context, event):
    pass
"""
SLOW = """\
import time


def init_context(context):
    time.sleep(3)


def handler(context, event):
    return "slow"
"""


@pytest.fixture
def name(dashboard: Dashboard) -> Iterator[str]:
    """A name for one test; its function is deleted at the end."""
    with gone_at_the_end(dashboard, f"changed-{uuid.uuid4().hex[:8]}") as unique_name:
        yield unique_name


def answers(dashboard: Dashboard, name: str, text: str) -> None:
    """Send requests until a new connection reaches the new revision."""
    until(lambda: invoked(dashboard, name) == text, f"{name} answers {text}")


def test_a_new_function_is_building_at_once_and_then_ready(
    dashboard: Dashboard, name: str, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    answer = dashboard.request("POST", "/api/functions", json=gated(name, gate, "one"))
    assert (answer.status, answer.body) == (202, b"")
    assert status(dashboard, name)["state"] == "building"
    gate.touch()
    final_status = settled(dashboard, name)
    assert (final_status["state"], final_status["platform"]) == ("ready", "process")
    assert final_status["httpPort"] > 0
    assert invoked(dashboard, name) == "one"
    assert name in dashboard.cli("get", "functions").stdout


def test_a_waiting_client_gets_its_reply_when_the_function_is_ready(
    dashboard: Dashboard, name: str
) -> None:
    answer = dashboard.request("POST", "/api/functions", json=answering(name, "one"), headers=WAIT)
    assert answer.status == 202
    assert status(dashboard, name)["state"] == "ready"


def test_a_waiting_client_gets_the_error_of_a_failed_change(
    dashboard: Dashboard, name: str
) -> None:
    body = inline(name, "def handler(context, event)\n    return 1\n")
    answer = dashboard.request("POST", "/api/functions", json=body, headers=WAIT)
    assert answer.status == 503, answer.text
    assert name in answer.json["error"]
    assert answer.json["code"] == "not-ready"
    assert "SyntaxError" in answer.json["errorStackTrace"]
    assert status(dashboard, name)["state"] == "error"


def test_creating_an_existing_function_is_a_conflict_and_put_changes_it(
    dashboard: Dashboard, name: str
) -> None:
    deployed(dashboard, answering(name, "one"), "PUT")
    answer = dashboard.request("POST", "/api/functions", json=answering(name, "two"))
    assert answer.status == 409
    assert answer.json["error"] == "Cannot create two functions with the same name"
    assert invoked(dashboard, name) == "one"
    assert deployed(dashboard, answering(name, "two"), "PUT")["revision"] == 2
    answers(dashboard, name, "two")


def test_the_name_in_the_body_of_put_precedes_the_one_in_the_path(
    dashboard: Dashboard, name: str
) -> None:
    path = "/api/functions/another-name"
    answer = dashboard.request("PUT", path, json=answering(name, "one"), headers=WAIT)
    assert answer.status == 202
    assert invoked(dashboard, name) == "one"
    assert dashboard.request("GET", path).status == 404


@pytest.mark.parametrize(
    ("body", "wanted", "message"),
    [
        ({"metadata": {"name": "x1"}}, 400, "no spec"),
        ({"spec": {}}, 400, "no metadata"),
        ({"metadata": {"name": "x1"}, "spec": {}}, 400, "the code of"),
        (answering("x/1", "one"), 400, "cannot be a function's name"),
        (answering("", "one"), 400, "no metadata.name"),
        (answering("dashboard", "one"), 412, "part of Nuclio"),
        (answering("x1", "one", runtime="golang"), 400, "not a runtime"),
        (answering("x1", "one", triggers={"a": {"kind": 7}}), 400, "kind"),
        (
            {"metadata": {"name": "x1"}, "spec": {"build": {"path": "/etc"}}},
            400,
            "paths of this machine are not opened",
        ),
        (
            {"metadata": {"name": "x1"}, "spec": {"image": "nginx", "handler": "main:handler"}},
            503,
            "is an image",
        ),
    ],
)
def test_an_invalid_request_is_refused_at_once_and_changes_nothing(
    dashboard: Dashboard, body: dict[str, object], wanted: int, message: str
) -> None:
    answer = dashboard.request("POST", "/api/functions", json=body)
    assert answer.status == wanted, answer.text
    assert message in answer.json["error"] + str(answer.json["diagnostics"])
    assert answer.json["hint"] or answer.json["diagnostics"]
    assert dashboard.request("GET", "/api/functions/x1/operation").status == 404
    assert "x1" not in dashboard.request("GET", "/api/functions").json


@pytest.mark.parametrize("kind", ["json", "yaml"])
def test_a_request_without_code_reports_all_errors(dashboard: Dashboard, kind: str) -> None:
    body = {"metadata": {"name": "x1"}, "spec": {"runtime": "pythn:3.11", "replicass": 2}}
    text = json.dumps(body, indent=1)
    headers = {"content-type": f"application/{kind}"}
    answer = dashboard.request("POST", "/api/functions", body=text, headers=headers)
    assert answer.status == 400
    assert "the code of" in answer.json["error"]
    findings = {diagnostic["rule"]: diagnostic for diagnostic in answer.json["diagnostics"]}
    assert set(findings) == {"no-code", "runtime", "unknown-key"}
    assert "pythn:3.11" in findings["runtime"]["message"]
    assert "replicass" in findings["unknown-key"]["message"]
    assert findings["runtime"]["line"] == (6 if kind == "yaml" else 0)


def test_the_project_must_exist_and_the_header_precedes_the_label(
    dashboard: Dashboard, name: str
) -> None:
    project = f"of-{name}"
    headers = {"x-nuclio-project-name": project, **WAIT}
    body = answering(name, "one")
    body["metadata"]["labels"] = {"nuclio.io/project-name": "another"}
    answer = dashboard.request("POST", "/api/functions", json=body, headers=headers)
    assert answer.status == 412
    assert answer.json["error"].startswith("Project does not exist")
    dashboard.cli("create", "project", project)
    answer = dashboard.request("POST", "/api/functions", json=body, headers=headers)
    assert answer.status == 202, answer.text
    labels = function(dashboard, name)["metadata"]["labels"]
    assert labels["nuclio.io/project-name"] == project


def test_yaml_is_accepted_and_its_errors_have_their_lines(dashboard: Dashboard, name: str) -> None:
    code = encoded("def handler(context, event):\n    return 'from yaml'\n")
    text = (
        f"metadata:\n  name: {name}\n  namespace: elsewhere\nspec:\n  handler: main:handler\n"
        f"  runtime: RUNTIME\n  build:\n    functionSourceCode: {code}\n"
    )
    headers = {"content-type": "application/yaml", **WAIT}
    wrong = dashboard.request(
        "POST", "/api/functions", body=text.replace("RUNTIME", "golang"), headers=headers
    )
    assert wrong.status == 400
    (finding,) = wrong.json["diagnostics"]
    assert (finding["rule"], finding["line"], finding["file"]) == ("runtime", 6, "function.yaml")
    right = text.replace("RUNTIME", "python:3.11")
    answer = dashboard.request("POST", "/api/functions", body=right, headers=headers)
    assert answer.status == 202, answer.text
    assert invoked(dashboard, name) == "from yaml"


def test_one_change_of_a_function_at_a_time(
    dashboard: Dashboard, name: str, tmp_path: Path
) -> None:
    deployed(dashboard, answering(name, "one"))
    gate = tmp_path / "gate"
    dashboard.request("PUT", "/api/functions", json=gated(name, gate, "slow"))
    for method, path, body in (
        ("PUT", "/api/functions", answering(name, "two")),
        ("PATCH", f"/api/functions/{name}", {"desiredState": "ready"}),
        ("DELETE", "/api/functions", {"metadata": {"name": name}}),
        ("POST", f"/api/functions/{name}/rollback", {}),
    ):
        answer = dashboard.request(method, path, json=body)
        assert answer.status == 412, (method, answer.text)
        assert "provisioned" in answer.json["error"]
    gate.touch()
    assert settled(dashboard, name)["state"] == "ready"
    answers(dashboard, name, "slow")


def test_one_of_many_concurrent_creations_succeeds(dashboard: Dashboard, name: str) -> None:
    answers: list[int] = []

    def ask(text: str) -> None:
        answer = dashboard.request("POST", "/api/functions", json=answering(name, text))
        answers.append(answer.status)

    threads = [threading.Thread(target=ask, args=(str(number),)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers)[0] == 202
    assert set(sorted(answers)[1:]) <= {409, 412}
    assert settled(dashboard, name)["state"] == "ready"


def test_a_failed_first_deploy_is_an_error_with_the_traceback_and_can_be_repeated(
    dashboard: Dashboard, name: str
) -> None:
    dashboard.request("POST", "/api/functions", json=inline(name, BROKEN))
    final_status = settled(dashboard, name)
    assert final_status["state"] == "error"
    assert "no weights" in final_status["message"]
    assert any("no weights" in log["message"] for log in final_status["logs"])
    assert deployed(dashboard, answering(name, "mended"), "PUT")["state"] == "ready"
    assert invoked(dashboard, name) == "mended"


def test_after_a_failed_deploy_the_previous_revision_serves_and_the_error_is_shown(
    dashboard: Dashboard, name: str
) -> None:
    port = deployed(dashboard, answering(name, "one"))["httpPort"]
    dashboard.request("PUT", "/api/functions", json=inline(name, BROKEN))
    final_status = settled(dashboard, name)
    assert final_status["state"] == "error"
    assert "no weights" in final_status["message"]
    assert "revision 1 goes on serving" in final_status["message"]
    assert (final_status["httpPort"], final_status["replicas"]["available"]) == (port, 1)
    assert invoked(dashboard, name) == "one"
    # A deploy by the command line is a change as well, after which the failure is over.
    dashboard.cli("redeploy", name)
    until(lambda: status(dashboard, name)["state"] == "ready", "the failure is past")


def test_an_outdated_version_is_a_conflict(dashboard: Dashboard, name: str) -> None:
    deployed(dashboard, answering(name, "one"))
    deployed(dashboard, answering(name, "two"), "PUT")
    assert function(dashboard, name)["metadata"]["resourceVersion"] == "2"
    for version, wanted in (("1", 409), ("2", 202)):
        body = answering(name, "three")
        body["metadata"]["resourceVersion"] = version
        answer = dashboard.request("PUT", "/api/functions", json=body, headers=WAIT)
        assert answer.status == wanted, answer.text
    old = {"metadata": {"name": name, "resourceVersion": "1"}}
    assert dashboard.request("DELETE", "/api/functions", json=old).status == 409
    answers(dashboard, name, "three")


def test_redacted_values_are_restored_only_for_the_same_variable(
    dashboard: Dashboard, name: str
) -> None:
    code = "import os\n\n\ndef handler(context, event):\n    return os.environ['API_KEY']\n"
    env = [{"name": "API_KEY", "value": "first"}, {"name": "PLAIN", "value": "1"}]
    deployed(dashboard, inline(name, code, env=env))
    shown = function(dashboard, name)
    assert shown["spec"]["env"][0] == {"name": "API_KEY", "value": "[redacted]"}
    shown["spec"]["env"][1]["value"] = "2"
    deployed(dashboard, shown, "PUT")
    assert invoked(dashboard, name) == "first"
    assert function(dashboard, name)["spec"]["env"][1]["value"] == "2"
    shown = function(dashboard, name)
    shown["spec"]["env"][0]["name"] = "OTHER_KEY"
    answer = dashboard.request("PUT", "/api/functions", json=shown)
    assert answer.status == 400
    assert "OTHER_KEY" in answer.json["error"]


def test_a_function_from_a_folder_is_changed_without_its_code(
    dashboard: Dashboard, greeter: str
) -> None:
    shown = function(dashboard, greeter)
    before = shown["spec"].get("env")
    shown["spec"]["env"] = [{"name": "COLOUR", "value": "blue"}]
    deployed(dashboard, shown, "PUT")
    shown = function(dashboard, greeter)
    assert shown["spec"]["env"] == [{"name": "COLOUR", "value": "blue"}]
    shown["spec"]["env"] = before or []
    deployed(dashboard, shown, "PUT")
    assert "env" not in function(dashboard, greeter)["spec"]


def test_a_disabled_function_is_in_standby_and_can_be_enabled(
    dashboard: Dashboard, name: str
) -> None:
    """Nuclio's clients see it as ready with spec.disable."""
    deployed(dashboard, answering(name, "one"))
    for disable, wanted in ((True, "standby"), (False, "ready")):
        body = answering(name, "one", disable=disable)
        assert dashboard.request("PUT", "/api/functions", json=body, headers=WAIT).status == 202
        shown = function(dashboard, name)
        assert (shown["status"]["state"], shown["status"]["detailedState"]) == ("ready", wanted)
        messages = [line["message"] for line in operation(dashboard, name)["lines"]]
        assert not any("not in the function" in text for text in messages), messages
        assert shown["spec"].get("disable", False) == disable
        assert f" {wanted} " in dashboard.cli("get", "functions", name).stdout


def test_patch_restarts_and_refuses_invalid_changes(dashboard: Dashboard, name: str) -> None:
    path = f"/api/functions/{name}"
    assert dashboard.request("PATCH", path, json={"desiredState": "ready"}).status == 404
    deployed(dashboard, answering(name, "one"))

    def patched(headers: dict[str, str] | None = None, **body: str) -> int:
        return dashboard.request("PATCH", path, json=body, headers=headers or {}).status

    assert patched() == 204
    assert patched(desiredState="error") == 400
    assert patched(desiredState="scaledToZero") == 412
    imported_only = {"x-nuclio-imported-function-only": "true", **WAIT}
    assert patched(imported_only, desiredState="ready") == 202
    assert status(dashboard, name)["revision"] == 1
    assert patched(WAIT, desiredState="ready") == 202
    assert (status(dashboard, name)["revision"], invoked(dashboard, name)) == (2, "one")


def test_an_imported_function_starts_on_request(dashboard: Dashboard, name: str) -> None:
    body = answering(name, "at last")
    body["metadata"]["annotations"] = {"skip-build": "true", "skip-deploy": "true"}
    assert dashboard.request("POST", "/api/functions", json=body, headers=WAIT).status == 202
    assert status(dashboard, name)["state"] == "imported"
    path = f"/api/functions/{name}"
    answer = dashboard.request("PATCH", path, json={"desiredState": "ready"}, headers=WAIT)
    assert answer.status == 202
    assert invoked(dashboard, name) == "at last"


@pytest.mark.parametrize("kind", ["json", "yaml"])
@pytest.mark.parametrize("annotations", [{}, {"skip-deploy": "true"}], ids=["deploy", "import"])
def test_replicas_of_a_stream_are_repaired_on_request(
    dashboard: Dashboard, name: str, annotations: dict[str, str], kind: str
) -> None:
    streams = {"stream": {"kind": "v3ioStream"}}
    body = answering(name, "one", triggers=streams, minReplicas=1, maxReplicas=2)
    body["metadata"]["annotations"] = annotations
    text = json.dumps(body).encode()
    headers = {"content-type": f"application/{kind}"}
    refused = dashboard.request("POST", "/api/functions", body=text, headers=headers)
    assert refused.status == 400
    assert "a v3ioStream trigger does not scale" in refused.text
    headers["x-nuclio-autofix-function-configuration"] = "true"
    answer = dashboard.request("POST", "/api/functions", body=text, headers=headers | WAIT)
    assert answer.status == 202, answer.text
    spec = function(dashboard, name)["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 2)


def test_deleting_succeeds_also_for_a_missing_function(dashboard: Dashboard, name: str) -> None:
    named = {"metadata": {"name": name}}
    assert dashboard.request("DELETE", "/api/functions", json=named).status == 204
    deployed(dashboard, answering(name, "one"))
    assert dashboard.request("DELETE", "/api/functions", json=named).status == 204
    assert dashboard.request("GET", f"/api/functions/{name}").status == 404
    assert operation(dashboard, name)["action"] == "delete"
    assert dashboard.request("DELETE", "/api/functions", json={"metadata": {}}).status == 400


def test_a_forced_deletion_waits_for_the_end_of_a_change(dashboard: Dashboard, name: str) -> None:
    dashboard.request("POST", "/api/functions", json=inline(name, SLOW))
    named = {"metadata": {"name": name}}
    answer = dashboard.request("DELETE", "/api/functions", json=named, headers=IGNORE_STATE)
    assert answer.status == 204, answer.text
    assert dashboard.request("GET", f"/api/functions/{name}").status == 404


def test_reading_needs_no_token_and_changing_does(dashboard: Dashboard, name: str) -> None:
    for method, path in (("POST", ""), ("PUT", ""), ("DELETE", ""), ("PATCH", f"/{name}")):
        answer = dashboard.request(
            method, f"/api/functions{path}", json=answering(name, "one"), token=False
        )
        assert answer.status == 401, (method, answer.text)
    assert dashboard.request("GET", f"/api/functions/{name}").status == 404


def test_the_namespace_is_that_of_the_header_the_body_or_the_dashboard(
    dashboard: Dashboard, name: str
) -> None:
    body = answering(name, "one")
    body["metadata"]["namespace"] = "of-the-body"
    for headers, wanted in (({"x-nuclio-function-namespace": "of-the-header"}, "of-the-header"),
                            ({}, "of-the-body")):  # fmt: skip
        answer = dashboard.request("POST", "/api/functions", json=body, headers={**headers, **WAIT})
        assert answer.status == 202, answer.text
        there = {"x-nuclio-function-namespace": wanted}
        response = dashboard.request("GET", f"/api/functions/{name}", headers=there)
        assert response.json["metadata"]["namespace"] == wanted
        assert dashboard.request("DELETE", f"/api/functions/{name}", headers=there).status == 204


def test_settings_of_the_dashboard_are_defaults_of_every_function(
    started: Started, tmp_path_factory: pytest.TempPathFactory
) -> None:
    config = tmp_path_factory.mktemp("config") / "dashboard.yaml"
    config.write_text(
        "defaults:\n  spec:\n    eventTimeout: 7s\n    env:\n      - {name: LOW, value: '1'}\n"
    )
    with started("--config", str(config), "--no-pull", "--offline") as own:
        deployed(own, answering("below", "one", env=[{"name": "HIGH", "value": "2"}]))
        spec = function(own, "below")["spec"]
        assert spec["eventTimeout"] == "7s"
        assert {variable["name"]: variable["value"] for variable in spec["env"]} == {
            "LOW": "1",
            "HIGH": "2",
        }
        assert spec["build"]["noBaseImagesPull"] is True
        assert spec["build"]["offline"] is True
