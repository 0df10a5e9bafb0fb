"""Nuclio's clients list and get functions of a real dashboard."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from tests.cvat_simulator import Cvat
from tests.dashboard.conftest import Dashboard, write_function
from tests.dashboard.models import annotation_lines
from tests.dashboard.waiting import until

pytestmark = pytest.mark.system

SECRET = "hunter2-of-the-tests"
CVAT = {"User-Agent": "CVAT/2.64.1 python-requests/2.32"}


@pytest.fixture(scope="module")
def secret_function(dashboard: Dashboard, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A function with secrets in its configuration, in a separate project."""
    spec = f"""\
        runRegistry: registry.example:5000
        env:
          - name: DB_PASSWORD
            value: {SECRET}
          - name: LEVEL
            value: high
        triggers:
          queue:
            kind: kafka-cluster
            url: https://me:{SECRET}@broker
            password: {SECRET}
          http:
            kind: http
        """
    folder = write_function(tmp_path_factory.mktemp("functions"), "secretive", spec=spec)
    return dashboard.deploy(folder, "--project-name", "hidden")


def listed(dashboard: Dashboard, **headers: str) -> dict[str, Any]:
    names = {f"x-nuclio-{key.replace('_', '-')}": value for key, value in headers.items()}
    answer = dashboard.request("GET", "/api/functions", headers=names)
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("application/json")
    assert isinstance(answer.json, dict)
    return dict(answer.json)


def get_function(dashboard: Dashboard, name: str, query: str = "", **headers: str) -> Any:
    answer = dashboard.request("GET", f"/api/functions/{name}{query}", headers=headers)
    assert answer.status == 200, answer.text
    return answer.json


def test_a_function_has_all_fields_that_clients_read(dashboard: Dashboard, greeter: str) -> None:
    for object_ in (listed(dashboard)[greeter], get_function(dashboard, greeter)):
        assert object_["metadata"]["name"] == greeter
        assert object_["metadata"]["namespace"] == "nuclio"
        assert object_["metadata"]["labels"] == {"nuclio.io/project-name": "default"}
        assert object_["metadata"]["annotations"] == {}
        assert object_["spec"]["description"] == "greeter of the tests"
        assert object_["spec"]["eventTimeout"] == ""
        status = object_["status"]
        assert (status["state"], status["message"]) == ("ready", "")
        assert status["externalInvocationUrls"] == [f"127.0.0.1:{status['httpPort']}"]
        assert status["internalInvocationUrls"]
        assert status["platform"] == "process"
        assert str(status["revision"]) == object_["metadata"]["resourceVersion"]
        assert status["replicas"] == {"available": 1, "wanted": 1}
        assert status["gpu"] == 0
        assert "setAside" not in status


def test_filters_by_project_namespace_and_name(
    dashboard: Dashboard, greeter: str, secret_function: str
) -> None:
    assert listed(dashboard, project_name="hidden").keys() == {secret_function}
    assert greeter in listed(dashboard, project_name="default")
    assert listed(dashboard, project_name="nobody's") == {}
    assert listed(dashboard, function_name=greeter).keys() == {greeter}
    assert listed(dashboard, function_namespace="elsewhere") == {}
    elsewhere = {"X-Nuclio-Function-Namespace": "elsewhere"}
    missing = dashboard.request("GET", f"/api/functions/{greeter}", headers=elsewhere)
    assert (missing.status, missing.json["error"]) == (404, "Function not found")


def test_trailing_slashes_are_ignored(dashboard: Dashboard, greeter: str) -> None:
    assert greeter in dashboard.request("GET", "/api/functions/").json
    assert dashboard.request("GET", f"/api/functions/{greeter}/").status == 200


def test_export_has_no_status(dashboard: Dashboard, greeter: str) -> None:
    exported = dashboard.request("GET", "/api/functions?export=true").json[greeter]
    for object_ in (exported, get_function(dashboard, greeter, "?export=true")):
        assert object_.keys() == {"metadata", "spec"}
        assert "namespace" not in object_["metadata"]
        assert object_["metadata"]["annotations"]["skip-deploy"] == "true"


def test_an_export_has_the_code_or_a_note_that_it_is_missing(
    dashboard: Dashboard, greeter: str, tmp_path: Path
) -> None:
    path = f"/api/functions/{greeter}?export=true"
    answer = dashboard.request("GET", path)
    assert "Warning" not in answer.headers
    source = base64.b64decode(answer.json["spec"]["build"]["functionSourceCode"])
    assert b"def handler(" in source
    folder = write_function(tmp_path, "wordy")
    (folder / "words.py").write_text("WORD = 'hello'\n")
    name = dashboard.deploy(folder)
    answer = dashboard.request("GET", f"/api/functions/{name}?export=true")
    assert answer.headers["Warning"].startswith(f'299 fnbuild "the code of {name} (3 files) is not')
    assert "functionSourceCode" not in answer.json["spec"].get("build", {})
    every = dashboard.request("GET", "/api/functions?export=true")
    assert f"the code of {name}" in every.headers["Warning"]
    assert every.json[greeter]["spec"]["build"]["functionSourceCode"]


def test_an_export_is_cleaned_on_request(dashboard: Dashboard, secret_function: str) -> None:
    header = {"X-Nuclio-Skip-Spec-Cleanup": "false"}  # whatever its value, as with Nuclio
    for path in (f"/api/functions/{secret_function}?export=true", "/api/functions?export=true"):
        kept, cleaned = (
            dashboard.request("GET", path, headers=headers).text for headers in ({}, header)
        )
        assert "registry.example" in kept
        assert "registry.example" not in cleaned


def test_no_reply_has_a_secret(dashboard: Dashboard, secret_function: str) -> None:
    for path in ("", "?export=true", f"/{secret_function}", f"/{secret_function}?export=true"):
        answer = dashboard.request("GET", f"/api/functions{path}")
        assert secret_function in answer.text
        assert SECRET not in answer.text
    env = {
        variable["name"]: variable["value"]
        for variable in get_function(dashboard, secret_function)["spec"]["env"]
    }
    assert env == {"DB_PASSWORD": "[redacted]", "LEVEL": "high"}


def test_an_invalid_function_does_not_hide_others(
    dashboard: Dashboard, detector: str, greeter: str, tmp_path: Path
) -> None:
    bad = annotation_lines(type="detector", spec='[{"name": "car"},]')
    folder = write_function(tmp_path, "broken-labels", annotations=bad)
    # The command line refuses it; functions recorded by an old release may have it.
    raw = {
        "metadata": {
            "name": "broken-labels",
            "annotations": {"type": "detector", "spec": '[{"name": "car"},]'},
        },
        "spec": {"handler": "main:handler", "runtime": "python:3.11"},
    }
    assert dashboard.cli("deploy", "--path", str(folder), check=False).returncode == 1
    recorded = tmp_path / "exported.json"
    recorded.write_text(json.dumps(raw))
    dashboard.cli("import", "functions", str(recorded))
    try:
        functions = listed(dashboard)
        reason = functions["broken-labels"]["status"]["setAside"]
        assert "CVAT lists no function at all: the annotation `spec` is not JSON" in reason
        seen = dashboard.request("GET", "/api/functions", headers=CVAT, token=False).json
        assert detector in seen
        assert not {"broken-labels", greeter} & seen.keys()
        Cvat(dashboard.url).functions()
        output = dashboard.cli("get", "functions")
        assert "broken-labels: not in CVAT's list:" in output.stderr
        assert "setAside" in dashboard.cli("get", "functions", "-o", "json").stdout
    finally:
        dashboard.cli("delete", "function", "broken-labels")


_MODEL = "  annotations:\n    type: detector\n    spec: '[]'\n"


@pytest.mark.parametrize(
    ("project", "annotations", "note"),
    [
        ("cvat", "", "it has no annotation `type`; add `type: detector`"),
        ("street", _MODEL, "CVAT asks for the project cvat, and it is in street"),
        ("cvat", _MODEL, ""),
        ("street", "", ""),
    ],
)
def test_a_function_that_cvat_does_not_list_has_a_note(
    dashboard: Dashboard, tmp_path: Path, project: str, annotations: str, note: str
) -> None:
    """The function is valid, so it has no `setAside`."""
    folder = write_function(tmp_path, "quiet-one", annotations=annotations)
    dashboard.deploy(folder, "--project-name", project)
    try:
        output = dashboard.cli("get", "functions", "quiet-one")
        shown = json.loads(dashboard.cli("get", "functions", "quiet-one", "-o", "json").stdout)
        seen = dashboard.request(
            "GET", "/api/functions", headers={**CVAT, "x-nuclio-project-name": "cvat"}
        ).json
        for status in (get_function(dashboard, "quiet-one")["status"], shown["status"]):
            assert "setAside" not in status
            assert [f"not in CVAT's list: {note}" in text for text in status.get("notes", [])] == (
                [True] if note else []
            )
        assert (f"quiet-one: not in CVAT's list: {note}" in output.stderr) == bool(note)
        assert ("quiet-one" in seen) == (project == "cvat" and bool(annotations))
    finally:
        dashboard.cli("delete", "function", "quiet-one")


def test_a_change_by_the_command_line_is_in_the_next_list(
    dashboard: Dashboard, greeter: str, tmp_path: Path
) -> None:
    assert greeter in listed(dashboard)
    folder = write_function(tmp_path, "passing-by")
    for _ in range(2):
        dashboard.deploy(folder)
        assert listed(dashboard)["passing-by"]["status"]["state"] == "ready"
        dashboard.cli("delete", "function", "passing-by")
        assert "passing-by" not in listed(dashboard)


def test_a_list_needs_no_token_on_an_open_address(dashboard: Dashboard) -> None:
    assert dashboard.request("GET", "/api/functions", token=False).status == 200


def test_a_single_function_has_its_current_state(dashboard: Dashboard, greeter: str) -> None:
    before = get_function(dashboard, greeter)["status"]
    dashboard.cli("redeploy", greeter)
    after = get_function(dashboard, greeter)["status"]
    assert after["revision"] == before["revision"] + 1
    assert after["httpPort"] == before["httpPort"]
    until(
        lambda: listed(dashboard)[greeter]["status"]["revision"] == after["revision"],
        "the list has the new revision",
        10,
    )
