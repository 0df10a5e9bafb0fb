"""No reply, log or file of the dashboard has a secret of a function or the token.

No reply has a path of this machine either.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from fnbuild.dashboard.app import ENDPOINTS
from tests.dashboard.conftest import Dashboard, Started, write_function
from tests.secretnames import ENV, MARKERS, PLAIN

pytestmark = pytest.mark.system

SECRET = "hunter2-is-a-secret"
CONFIG = f"""\
defaults:
  spec:
    env:
    - {{name: LAB_PASSWORD, value: {SECRET}}}
"""
CODE = b"def handler(context, event):\n    return 'well'\n"
FUNCTION = {
    "metadata": {"name": "keeper"},
    "spec": {
        "handler": "main:handler",
        "runtime": "python:3.11",
        "env": [
            {"name": "DB_PASSWORD", "value": SECRET},
            {"name": "GITHUB_PAT", "value": SECRET},
            {"name": "DATABASE_URL", "value": f"postgres://me:{SECRET}@db/x"},
        ],
        "runtimeAttributes": {"password": SECRET},
        "build": {
            "functionSourceCode": base64.b64encode(CODE).decode(),
            "codeEntryAttributes": {"s3SecretAccessKey": SECRET, "headers": {"X-Key": SECRET}},
        },
        "triggers": {"queue": {"kind": "http", "password": SECRET}},
    },
}
ENDLESS = ("/api/live",)


def every_answer(dashboard: Dashboard, name: str, *, token: bool = True) -> list[tuple[str, bytes]]:
    """Return the replies of all endpoints that can be read, for all relevant paths.

    Without `token` these are the replies for any client that reaches the dashboard.
    """
    results = []
    for endpoint in ENDPOINTS:
        if endpoint.method != "GET" or endpoint.path in ENDLESS:
            continue
        path = endpoint.path.replace("{number}", "1").replace("{replica}", name)
        path = path.replace("{name}", name).replace("{rest:path}", "")
        for query in ("?follow=false", "?follow=false&export=true", "?follow=false&with=1"):
            headers = {"X-Nuclio-Function-Name": name}
            answer = dashboard.request("GET", path + query, headers=headers, token=token)
            allowed = (200, 204, 404) if token else (200, 204, 401, 404)
            assert answer.status in allowed, (path, answer.status, answer.text)
            results.append((path + query, answer.body))
    return results


def test_replies_have_no_secrets(started: Started, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG)
    with started("--config", str(config)) as dashboard:
        waiting = {"X-Nuclio-Wait-Function-Action": "true"}
        created = dashboard.request("POST", "/api/functions", json=FUNCTION, headers=waiting)
        assert created.status == 202, created.text
        answers = every_answer(dashboard, "keeper")
        assert len(answers) > 60
        for path, body in answers:
            assert SECRET.encode() not in body, path
            assert dashboard.token.encode() not in body, path
        reply = dashboard.request("GET", "/api/functions/keeper").json
        assert reply["status"]["state"] == "ready", reply["status"]
        env = {variable["name"]: variable["value"] for variable in reply["spec"]["env"]}
        names = ("DB_PASSWORD", "GITHUB_PAT", "DATABASE_URL", "LAB_PASSWORD")
        assert env == dict.fromkeys(names, "[redacted]")
        assert SECRET not in dashboard.output
        assert dashboard.token not in dashboard.output


def test_replies_have_no_paths_of_this_machine(started: Started, tmp_path: Path) -> None:
    sources = tmp_path / "sources"
    well = write_function(sources, "well")
    unwell = write_function(sources, "unwell", "raise RuntimeError('no')\n")
    with started() as dashboard:
        dashboard.deploy(well)
        dashboard.cli("deploy", "--path", str(unwell), check=False)
        where = dashboard.cli("get", "function", "well", "-o", "json").stdout
        details = json.loads(where)["status"]["details"]
        paths = [str(tmp_path), details["code"], details["python"]]
        failed = "/api/functions/unwell"
        answers = [
            *every_answer(dashboard, "well"),
            (failed, dashboard.request("GET", failed).body),
        ]
        for path, body in answers:
            assert not [item for item in paths if item.encode() in body], path
        shown = dashboard.request("GET", "/api/functions/well").json["status"]["details"]
        assert shown == {key: item for key, item in details.items() if item not in paths}


BODY = {
    "metadata": {"name": "many"},
    "spec": {
        "handler": "main:handler",
        "runtime": "python:3.11",
        "env": ENV,
        "build": {"functionSourceCode": FUNCTION["spec"]["build"]["functionSourceCode"]},
    },
}
WAITING = {"X-Nuclio-Wait-Function-Action": "true"}


def test_without_the_write_token_no_value_is_shown(started: Started) -> None:
    assert len(MARKERS) == 40
    with started() as dashboard:
        created = dashboard.request("POST", "/api/functions", json=BODY, headers=WAITING)
        assert created.status == 202, created.text
        failing = base64.b64encode(
            b"import os\n"
            b"def init_context(context):\n    raise ValueError(os.environ['OPENAI_KEY'])\n"
            b"def handler(context, event):\n    pass\n"
        ).decode()
        broken = {**BODY, "spec": {**BODY["spec"], "build": {"functionSourceCode": failing}}}
        refused = dashboard.request("PUT", "/api/functions", json=broken, headers=WAITING)
        assert refused.status >= 400
        answers = every_answer(dashboard, "many", token=False)
        answers.append(("/api/live", first_event(dashboard)))
        # The function's own log is excepted: its handler has raised an error with the value.
        for path, body in answers:
            if "/logs" not in path:
                assert b"marker-" not in body, (path, body)
        writers = dict(every_answer(dashboard, "many"))
        for path, body in writers.items():
            if "/logs" not in path:
                assert not [item for item in MARKERS.values() if item.encode() in body], (
                    path,
                    body,
                )
        shown = dashboard.request("GET", "/api/functions/many").json["spec"]["env"]
        values = {item["name"]: item["value"] for item in shown}
        assert values == dict.fromkeys(MARKERS, "[redacted]") | PLAIN
        readers = dashboard.request("GET", "/api/functions/many", token=False).json["spec"]["env"]
        assert [variable["name"] for variable in readers] == [*MARKERS, *PLAIN]
        assert not [marker for marker in MARKERS.values() if marker in dashboard.output]


def first_event(dashboard: Dashboard) -> bytes:
    """Return the first list of the stream as a reader receives it."""
    answer = dashboard.pool.request("GET", f"{dashboard.url}/api/live", preload_content=False)
    received = b""
    while b"event: functions" not in received or not received.endswith(b"\n\n"):
        received += answer.read1()
    answer.close()
    return received


def test_an_export_has_secrets_for_writers_on_request(started: Started) -> None:
    with started() as dashboard:
        created = dashboard.request("POST", "/api/functions", json=BODY, headers=WAITING)
        assert created.status == 202, created.text
        for path in ("/api/functions/many", "/api/functions", "/api/projects/default"):
            target = f"{path}?export=true&with-secrets=true"
            assert dashboard.request("GET", target, token=False).status == 401
            complete = dashboard.request("GET", target).text
            assert not [marker for marker in MARKERS.values() if marker not in complete]
            assert "marker-0-" not in dashboard.request("GET", f"{path}?export=true").text


def test_an_object_as_readers_see_it_can_be_saved(started: Started) -> None:
    with started() as dashboard:
        created = dashboard.request("POST", "/api/functions", json=BODY, headers=WAITING)
        assert created.status == 202, created.text
        path = "/api/functions/many"
        text = dashboard.request("GET", f"{path}/configuration", token=False).text
        assert "marker-" not in text
        headers = WAITING | {"Content-Type": "application/yaml"}
        changed = text + "  description: changed\n"
        saved = dashboard.request("PUT", path, body=changed, headers=headers)
        assert saved.status == 202, saved.text
        reply = dashboard.request("GET", f"{path}?export=true&with-secrets=true").json["spec"]
        assert {variable["name"]: variable["value"] for variable in reply["env"]} == MARKERS | PLAIN
        assert reply["description"] == "changed"


def test_the_library_shows_readers_no_values(started: Started, tmp_path: Path) -> None:
    folder = write_function(tmp_path / "library", "shelved")
    config = folder / "function.yaml"
    text = config.read_text()
    assert "\nspec:\n" in text, text
    config.write_text(
        text.replace("\nspec:\n", "\nspec:\n  env: [{name: SIZE, value: marker-1}]\n")
    )
    with started("--library", str(tmp_path / "library")) as dashboard:
        for path in ("/api/library", "/api/function_templates"):
            assert "marker-1" in dashboard.request("GET", path).text
            assert "marker-1" not in dashboard.request("GET", path, token=False).text
        described = dashboard.request("GET", "/api/library", token=False).json["functions"]
        body = described["shelved"]["configuration"] + "  build: {path: 'library:shelved'}\n"
        headers = WAITING | {"Content-Type": "application/yaml"}
        created = dashboard.request("POST", "/api/functions", body=body, headers=headers)
        assert created.status == 202, created.text
        shown = dashboard.request("GET", "/api/functions/shelved").json["spec"]["env"]
        assert shown == [{"name": "SIZE", "value": "marker-1"}]
