"""The projects of all platforms in one list."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.dashboard.conftest import Dashboard, new_data_dir, running, write_function
from tests.dashboard.waiting import until
from tests.engine import EngineResources
from tests.platforms import conftest as platforms

pytestmark = pytest.mark.system

PATH = "/api/projects"
STRATEGY = "x-nuclio-delete-project-strategy"

shared_layers = platforms.shared_layers


def project(name: str, **spec: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "nuclio"}, "spec": spec}


def delete(dashboard: Dashboard, name: str, strategy: str = "") -> int:
    headers = {STRATEGY: strategy} if strategy else {}
    return dashboard.request("DELETE", PATH, json=project(name), headers=headers).status


def test_a_project_is_created_changed_and_deleted(dashboard: Dashboard) -> None:
    created = dashboard.request("POST", PATH, json=project("harbour", description="cameras"))
    assert created.status == 201
    assert created.json == {**project("harbour", description="cameras"), "status": {}}
    again = dashboard.request("POST", PATH, json=project("harbour"))
    assert (again.status, again.json["error"]) == (409, "Project already exists: harbour")
    assert "harbour" in dashboard.cli("get", "projects").stdout
    listed = dashboard.request("GET", PATH, token=False).json
    assert listed["harbour"]["metadata"]["name"] == "harbour"

    changed = project("harbour", description="all cameras", owner="mia")
    answer = dashboard.request("PUT", f"{PATH}/harbour", json=changed)
    assert (answer.status, answer.headers.get("Deprecation")) == (204, None)
    reply = dashboard.request("GET", f"{PATH}/harbour", token=False).json
    assert reply == {**changed, "status": {}}
    old_way = dashboard.request("PUT", PATH, json=project("harbour"))
    assert (old_way.status, old_way.headers["Deprecation"]) == (204, "true")

    assert delete(dashboard, "harbour") == 204
    for method, body in (("GET", None), ("PUT", project("harbour")), ("DELETE", None)):
        assert dashboard.request(method, f"{PATH}/harbour", json=body).status == 404
    assert delete(dashboard, "harbour") == 404


def test_labels_and_annotations_are_kept(dashboard: Dashboard) -> None:
    body = project("marked", description="with marks")
    body["metadata"] |= {"labels": {"team": "ships"}, "annotations": {"why": "ä b", "n": "{}"}}
    assert dashboard.request("POST", PATH, json=body).json == {**body, "status": {}}
    assert dashboard.request("GET", f"{PATH}/marked").json == {**body, "status": {}}
    assert dashboard.request("GET", PATH).json["marked"] == {**body, "status": {}}
    exported = dashboard.request("GET", f"{PATH}/marked?export=true").json
    assert exported["project"] == body
    # The form of the command line.
    exported_by_command = json.loads(
        dashboard.cli("export", "project", "marked", "-o", "json").stdout
    )
    assert exported_by_command["project"] == {"meta": body["metadata"], "spec": body["spec"]}
    assert delete(dashboard, "marked") == 204
    assert dashboard.request("POST", f"{PATH}?import=true", json=exported).status == 201
    assert dashboard.request("GET", f"{PATH}/marked").json == {**body, "status": {}}

    body["metadata"]["labels"] = {"team": "cranes"}
    del body["metadata"]["annotations"]
    assert dashboard.request("PUT", f"{PATH}/marked", json=body).status == 204
    assert dashboard.request("GET", f"{PATH}/marked").json == {**body, "status": {}}
    assert delete(dashboard, "marked") == 204


def test_the_command_line_imports_them(dashboard: Dashboard, tmp_path: Path) -> None:
    meta = {"name": "brought", "labels": {"team": "ships"}, "annotations": {"why": "so"}}
    file = tmp_path / "project.json"
    file.write_text(json.dumps({"project": {"meta": meta, "spec": {}}, "functions": {}}))
    dashboard.cli("import", "projects", str(file))
    reply = dashboard.request("GET", f"{PATH}/brought").json
    assert reply["metadata"] == {**meta, "namespace": "nuclio"}
    assert delete(dashboard, "brought") == 204


def test_the_default_project_exists_and_cannot_be_deleted(dashboard: Dashboard) -> None:
    for namespace in ("nuclio", "another"):
        headers = {"x-nuclio-project-namespace": namespace}
        reply = dashboard.request("GET", PATH, headers=headers).json["default"]
        assert reply["metadata"] == {"name": "default", "namespace": namespace}
        assert reply["spec"] == {}
    for strategy in ("restricted", "cascading", "check"):
        answer = dashboard.request(
            "DELETE", PATH, json=project("default"), headers={STRATEGY: strategy}
        )
        assert (answer.status, answer.json["error"]) == (412, "Cannot delete the default project")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"metadata": {}},
        {"metadata": []},
        {"metadata": {"name": 5}},
        project("Street Cameras"),
        project("../../etc"),
        project("a" * 64),
        {"metadata": {"name": "fine"}, "spec": "x"},
        {"metadata": {"name": "fine"}, "spec": {"description": ["x"]}},
        {"metadata": {"name": "fine", "labels": ["x"]}},
        {"metadata": {"name": "fine", "annotations": {"x": 1}}},
    ],
)
def test_an_invalid_project_is_refused(dashboard: Dashboard, body: dict[str, Any]) -> None:
    for method in ("POST", "PUT"):
        answer = dashboard.request(method, PATH, json=body)
        assert answer.status == 400, answer.text
        assert answer.json["error"]
    assert "fine" not in dashboard.request("GET", PATH).json


def test_changing_projects_needs_the_token(dashboard: Dashboard) -> None:
    for method in ("POST", "PUT", "DELETE"):
        assert dashboard.request(method, PATH, json=project("x"), token=False).status == 401


def test_a_project_with_functions_is_deleted_by_strategy(
    dashboard: Dashboard, tmp_path: Path
) -> None:
    dashboard.request("POST", PATH, json=project("full"))
    for name in ("member-a", "member-b"):
        dashboard.deploy(write_function(tmp_path, name), "--project-name", "full")
    for strategy in ("", "restricted", "check"):
        answer = dashboard.request(
            "DELETE", PATH, json=project("full"), headers={STRATEGY: strategy}
        )
        assert answer.status == 412
        assert answer.json["error"] == "Project contains functions: member-a, member-b"
    assert dashboard.request("GET", "/api/functions/member-a").status == 200
    assert delete(dashboard, "full", "sometimes") == 400
    assert delete(dashboard, "full", "cascading") == 204
    assert dashboard.request("GET", "/api/functions/member-a").status == 404
    assert "member-b" not in dashboard.cli("get", "functions").stdout
    assert "full" not in dashboard.request("GET", PATH).json


def test_check_deletes_nothing(dashboard: Dashboard) -> None:
    dashboard.request("POST", PATH, json=project("empty"))
    assert delete(dashboard, "empty", "check") == 204
    assert "empty" in dashboard.request("GET", PATH).json
    assert delete(dashboard, "empty") == 204


def test_a_function_that_only_failed_is_deleted_with_its_project(dashboard: Dashboard) -> None:
    dashboard.request("POST", PATH, json=project("hopeless"))
    function = {
        "metadata": {"name": "hopeless", "labels": {"nuclio.io/project-name": "hopeless"}},
        "spec": {"runtime": "python:3.11", "handler": "main:handler",
                 "build": {"functionSourceCode": "eCA9ID0gMQo="}},
    }  # fmt: skip
    assert dashboard.request("POST", "/api/functions", json=function).status == 202
    until(
        lambda: (
            dashboard.request("GET", "/api/functions/hopeless").json["status"]["state"]
            in ("error", "unhealthy")
        ),
        "it fails",
    )
    assert delete(dashboard, "hopeless") == 412
    assert delete(dashboard, "hopeless", "cascading") == 204
    assert "hopeless" not in dashboard.request("GET", "/api/functions").json


def test_an_export_can_be_imported(dashboard: Dashboard, tmp_path: Path) -> None:
    dashboard.request("POST", PATH, json=project("moving", description="on its way"))
    env = "env: [{name: API_TOKEN, value: s3cret}]"
    dashboard.deploy(write_function(tmp_path, "mover", spec=env), "--project-name", "moving")
    labels = {"nuclio.io/function-name": "mover"}
    event = {"metadata": {"name": "push", "labels": labels}, "spec": {"body": "go"}}
    dashboard.request("POST", "/api/function_events", json=event)

    answer = dashboard.request("GET", f"{PATH}/moving?export=true")
    assert "s3cret" not in answer.text
    exported = answer.json
    assert exported["project"]["spec"] == {"description": "on its way"}
    assert set(exported["functions"]) == {"mover"}
    assert set(exported["functionEvents"]) == {"push"}
    assert "status" not in exported["functions"]["mover"]
    assert dashboard.request("GET", f"{PATH}?export=true").json["moving"] == exported

    again = dashboard.request("POST", f"{PATH}?import=true", json=exported)
    assert again.status == 201
    result = again.json["functionImportResult"]
    assert (result["createdAmount"], result["failedAmount"]) == (0, 1)
    assert result["failedFunctions"][0]["function"] == "mover"
    assert "same name" in result["failedFunctions"][0]["error"]

    assert delete(dashboard, "moving", "cascading") == 204
    assert "push" not in dashboard.request("GET", "/api/function_events").json
    exported["apiGateways"] = {"gate": {}}
    exported["functions"]["broken"] = {"metadata": {"name": "../x"}, "spec": {}}
    reply = dashboard.request("POST", f"{PATH}?import=true", json=exported).json
    assert reply["functionImportResult"]["createdAmount"] == 1
    assert reply["functionImportResult"]["failedAmount"] == 1
    assert reply["functionEventImportResult"]["createdAmount"] == 1
    assert reply["apiGatewayImportResult"]["failedAPIGateways"][0]["apiGateway"] == "gate"
    response = dashboard.request("GET", "/api/functions/mover").json
    assert response["status"]["state"] == "imported"
    assert response["metadata"]["labels"]["nuclio.io/project-name"] == "moving"
    listed = dashboard.request("GET", PATH).json
    assert listed["moving"]["spec"] == {"description": "on its way"}
    assert delete(dashboard, "moving", "cascading") == 204


# With an engine


def test_a_project_is_the_same_on_all_platforms(
    resources: EngineResources, tmp_path: Path, fetched: Path, shared_layers: None
) -> None:
    namespace = resources.name("projects")
    name = resources.name("both")
    flags = ("--show", "process", "--show", "local")
    env = {"NUCLIO_DASHBOARD_NAMESPACE": namespace}
    with running(new_data_dir(tmp_path, fetched), *flags, env=env) as dashboard:
        body = {"metadata": {"name": name}, "spec": {"description": "for both"}}
        assert dashboard.request("POST", PATH, json=body).status == 201
        spec = f"build: {{image: '{resources.image('member')}', noBaseImagesPull: true}}"
        folder = write_function(tmp_path, "member", spec=spec)
        on_engine = ("--platform", "local", "--namespace", namespace)
        dashboard.cli(*on_engine, "deploy", "--path", str(folder), "--project-name", name)
        # The deploy has created the project on its platform; the list still has one.
        assert name in dashboard.cli(*on_engine, "get", "projects").stdout
        reply = dashboard.request("GET", PATH).json[name]
        assert reply["spec"] == {"description": "for both"}
        assert dashboard.request("POST", PATH, json=body).status == 409
        body["spec"] = {"description": "for all"}
        assert dashboard.request("PUT", f"{PATH}/{name}", json=body).status == 204
        assert "for all" in dashboard.cli(*on_engine, "get", "projects", "-o", "wide").stdout
        assert dashboard.request("DELETE", PATH, json=body).status == 412
        headers = {STRATEGY: "cascading"}
        assert dashboard.request("DELETE", PATH, json=body, headers=headers).status == 204
        assert name not in dashboard.request("GET", PATH).json
        assert name not in dashboard.cli(*on_engine, "get", "projects").stdout
        assert "member" not in dashboard.request("GET", "/api/functions").json
