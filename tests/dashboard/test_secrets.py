"""No answer, log or file of the dashboard's own has a secret of a function or the token.

Nor does an answer say where things lie on this machine.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

from fnbuild.dashboard.app import ENDPOINTS
from tests.dashboard.conftest import Dashboard, Started, write_function

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


def every_answer(dashboard: Dashboard, name: str) -> list[tuple[str, bytes]]:
    """What all addresses say that can be read, with what could be in their paths."""
    found = []
    for endpoint in ENDPOINTS:
        if "GET" not in endpoint.methods or endpoint.path in ENDLESS:
            continue
        path = endpoint.path.replace("{number}", "1").replace("{replica}", name)
        path = path.replace("{name}", name).replace("{rest:path}", "")
        for query in ("?follow=false", "?follow=false&export=true", "?follow=false&with=1"):
            headers = {"X-Nuclio-Function-Name": name}
            answer = dashboard.request("GET", path + query, headers=headers)
            assert answer.status in (200, 204, 404), (path, answer.status, answer.text)
            found.append((path + query, answer.body))
    return found


def test_answers_do_not_have_them(started: Started, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG)
    with started("--config", str(config)) as dashboard:
        waiting = {"X-Nuclio-Wait-Function-Action": "true"}
        made = dashboard.request("POST", "/api/functions", json=FUNCTION, headers=waiting)
        assert made.status == 202, made.text
        answers = every_answer(dashboard, "keeper")
        assert len(answers) > 60
        for path, body in answers:
            assert SECRET.encode() not in body, path
            assert dashboard.token.encode() not in body, path
        found = dashboard.request("GET", "/api/functions/keeper").json
        assert found["status"]["state"] == "ready", found["status"]
        env = {one["name"]: one["value"] for one in found["spec"]["env"]}
        names = ("DB_PASSWORD", "GITHUB_PAT", "DATABASE_URL", "LAB_PASSWORD")
        assert env == dict.fromkeys(names, "[redacted]")
        assert SECRET not in dashboard.output
        assert dashboard.token not in dashboard.output


def test_answers_have_no_paths_of_this_machine(started: Started, tmp_path: Path) -> None:
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
            assert not [one for one in paths if one.encode() in body], path
        shown = dashboard.request("GET", "/api/functions/well").json["status"]["details"]
        assert shown == {key: one for key, one in details.items() if one not in paths}
