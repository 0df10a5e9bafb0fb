"""Closed functions on the command line: passwords, tokens, exports, and `fnbuild invoke`."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from fnbuild.runtime.http import client

pytestmark = pytest.mark.system

Fnbuild = Callable[..., Any]

CODE = """\
def handler(context, event):
    return "come in" if "x-fnbuild-access" not in str(event.headers).lower() else "leaked"
"""
PASSWORD = "correct-horse"


@pytest.fixture
def fnbuild(empty: Path, fnbuild: Fnbuild) -> Iterator[Fnbuild]:
    yield fnbuild
    assert fnbuild("down").status == 0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "guarded"
    folder.mkdir()
    (folder / "main.py").write_text(CODE)
    return folder


def configure(folder: Path, **attributes: Any) -> None:
    spec = {
        "handler": "main:handler",
        "runtime": "python:3.11",
        "triggers": {"web": {"kind": "http", "attributes": attributes}},
    }
    (folder / "function.yaml").write_text(
        yaml.safe_dump({"metadata": {"name": "guarded"}, "spec": spec})
    )


def done(outcome: Any) -> Any:
    assert outcome.status == 0, outcome.err
    return outcome


def status(url: str, token: str = "", **headers: str) -> int:
    if token:
        headers["Authorization"] = f"Bearer {token}"
    return client.request("GET", url, headers=headers).status


def test_the_life_of_a_token(fnbuild: Fnbuild, folder: Path, empty: Path) -> None:
    configure(folder)
    url = done(fnbuild("deploy", "--path", folder, "-o", "url")).out.strip()
    assert status(url) == 200
    created = done(fnbuild("token", "create", "guarded", "--name", "ci", "--days", "3"))
    token = created.out.strip()
    assert "guarded now answers only requests with credentials" in created.err
    assert (status(url), status(url, token)) == (401, 200)
    second = done(fnbuild("token", "create", "guarded")).out.strip()
    [ci, other] = json.loads(done(fnbuild("token", "list", "guarded", "-o", "json")).out)
    assert (ci["name"], other["name"], other["expires"]) == ("ci", "token-1", "")
    assert ci["expires"] > ci["created"]
    assert done(fnbuild("invoke", "guarded")).out == "come in"
    taken = fnbuild("token", "create", "guarded", "--name", "ci")
    assert taken.status == 1
    assert "revoke guarded ci" in taken.err

    # A deploy from the folder, which says nothing about tokens, keeps them.
    (folder / "main.py").write_text(CODE + "\n")
    done(fnbuild("deploy", "--path", folder))
    assert (status(url), status(url, token), status(url, second)) == (401, 200, 200)
    done(fnbuild("token", "revoke", "guarded", "ci"))
    assert (status(url, token), status(url, second)) == (401, 200)
    missing = fnbuild("token", "revoke", "guarded", "ci")
    assert (missing.status, "it has token-1" in missing.err) == (1, True)

    stored = [file.read_bytes() for file in empty.rglob("*") if file.is_file()]
    assert not any(value.encode() in data for value in (token, second) for data in stored)
    done(fnbuild("deploy", "--path", folder, "--open"))
    assert (status(url), status(url, Host="models.example")) == (200, 200)
    assert json.loads(done(fnbuild("token", "list", "guarded", "-o", "json")).out) == []
    refused = fnbuild("token", "create", "guarded")
    assert (refused.status, "without `--open`" in refused.err) == (1, True)


def test_a_password_and_its_traces(fnbuild: Fnbuild, folder: Path, empty: Path) -> None:
    basic = {"basicAuth": {"username": "cvat"}}
    configure(folder, authenticationMode="basicAuth", authentication=basic)
    refused = fnbuild("deploy", "--path", folder)
    assert refused.status == 1
    assert "--secret-env FNBUILD_BASIC_AUTH_PASSWORD=…" in refused.err
    variable = f"FNBUILD_BASIC_AUTH_PASSWORD={PASSWORD}"
    url = done(
        fnbuild("deploy", "--path", folder, "--secret-env", variable, "-o", "url")
    ).out.strip()
    right = "Basic Y3ZhdDpjb3JyZWN0LWhvcnNl"
    assert (status(url), status(url, Authorization=right)) == (401, 200)
    assert done(fnbuild("invoke", "guarded")).out == "come in"
    for command in (
        ("get", "function", "guarded", "-o", "json"),
        ("export", "function", "guarded"),
    ):
        output = done(fnbuild(*command)).out
        assert "pbkdf2" not in output
        assert "[redacted]" in output
    for file in empty.rglob("*"):
        if file.is_file():
            assert PASSWORD.encode() not in file.read_bytes(), file
    [config] = empty.rglob("processor.json")
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert "token_sha256" in config.read_text()
    done(fnbuild("deploy", "--path", folder, "--force"))
    assert status(url, Authorization=right) == 200


def test_an_export_is_deployed_with_its_password_again(
    fnbuild: Fnbuild, folder: Path, tmp_path: Path, empty: Path
) -> None:
    basic = {"basicAuth": {"username": "cvat", "password": PASSWORD}}
    configure(folder, authenticationMode="basicAuth", authentication=basic)
    done(fnbuild("deploy", "--path", folder))
    assert not [
        file
        for file in empty.rglob("*")
        if file.is_file() and PASSWORD.encode() in file.read_bytes()
    ]
    # The recorded code is deployed with the recorded password.
    done(fnbuild("deploy", "guarded", "--force"))
    exported = tmp_path / "export.yaml"
    exported.write_text(done(fnbuild("export", "function", "guarded")).out)
    assert PASSWORD not in exported.read_text()
    done(fnbuild("delete", "function", "guarded"))
    done(fnbuild("import", "functions", exported))
    assert "has no password" in fnbuild("deploy", "guarded").err
    variable = f"FNBUILD_BASIC_AUTH_PASSWORD={PASSWORD}"
    url = done(fnbuild("deploy", "guarded", "--secret-env", variable, "-o", "url")).out.strip()
    assert status(url) == 401


def test_the_token_for_fnbuild_goes_to_the_function_only(fnbuild: Fnbuild, folder: Path) -> None:
    configure(folder, authenticationMode="api")
    url = done(fnbuild("deploy", "--path", folder, "-o", "url")).out.strip()
    done(fnbuild("invoke", "guarded", "--url", url, "--raise-on-status"))
    other = url.replace("127.0.0.1", "localhost")
    refused = fnbuild("invoke", "guarded", "--url", other, "--raise-on-status")
    assert (refused.status, "401" in refused.err) == (1, True)


def test_pages_of_other_sites_are_refused_by_default(fnbuild: Fnbuild, folder: Path) -> None:
    configure(folder)
    url = done(fnbuild("deploy", "--path", folder, "-o", "url")).out.strip()
    assert status(url, Host="evil.example") == 421
    assert status(url, Origin="https://evil.example") == 403
