"""Credentials of a function when it is deployed: hashed, kept, refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fnbuild.deploy.access import with_credentials, without_masked_credentials
from fnbuild.errors import InputError
from fnbuild.function.access_settings import authentication_mode, authentication_part
from fnbuild.function.reader import function_from_dict
from fnbuild.function.types import Function, to_dict
from fnbuild.platforms import Deployment, lookup
from fnbuild.platforms.settings import allowed_hosts, open_port_warnings
from fnbuild.runtime.access import passwords
from fnbuild.runtime.access.credentials import VARIABLE, at_rest, parse_credentials

PROCESS = lookup("process")
TOKEN = {"name": "ci", "sha256": "0" * 64}


@pytest.fixture(autouse=True)
def _cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "_ITERATIONS", 100)


def function(
    mode: str = "",
    env: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
    listen: str = "",
    **authentication: Any,
) -> Function:
    attributes = {"authenticationMode": mode, "authentication": authentication}
    spec: dict[str, Any] = {
        "triggers": {"web": {"kind": "http", "attributes": attributes}},
        "env": [{"name": name, "value": value} for name, value in (env or {}).items()],
        "platform": {"attributes": {"listen": listen}},
    }
    metadata = {"name": "guarded", "annotations": annotations or {}}
    return function_from_dict({"metadata": metadata, "spec": spec}, "a test")


def deployed(closed: Function) -> Deployment:
    return Deployment(closed, "process", "ready")


def credentials(closed: Function) -> dict[str, str]:
    [value] = [item.value for item in closed.spec.env if item.name == VARIABLE]
    values: dict[str, str] = json.loads(value)
    return values


def test_a_password_becomes_a_hash_and_stays_the_same() -> None:
    requested = function("basicAuth", basicAuth={"username": "cvat", "password": "correct-horse"})
    first = with_credentials(PROCESS, requested, None)
    assert "correct-horse" not in str(to_dict(first))
    assert passwords.verify_password("correct-horse", credentials(first)["password"])
    assert with_credentials(PROCESS, requested, deployed(first)) == first
    # Without the password in the file, it stays.
    without = function("basicAuth", basicAuth={"username": "cvat"})
    assert with_credentials(PROCESS, without, deployed(first)) == first
    other = function("basicAuth", basicAuth={"username": "cvat", "password": "another"})
    second = with_credentials(PROCESS, other, deployed(first))
    assert passwords.verify_password("another", credentials(second)["password"])
    assert credentials(second)["token"] == credentials(first)["token"]


def test_secrets_of_variables_are_taken_from_them() -> None:
    requested = function(
        "basicAuth",
        {"FNBUILD_BASIC_AUTH_PASSWORD": "correct-horse", "FNBUILD_JWT_SECRET": "s" * 40, "A": "b"},
        basicAuth={"username": "cvat"},
        jwt={"issuer": "i"},
    )
    closed = with_credentials(PROCESS, requested, None)
    assert [item.name for item in closed.spec.env] == ["A", VARIABLE]
    assert credentials(closed)["secret"] == "s" * 40
    assert passwords.verify_password("correct-horse", credentials(closed)["password"])


@pytest.mark.parametrize(
    ("requested", "text"),
    [
        (function("basicAuth", basicAuth={"username": "u"}), "has no password"),
        (function("api", jwt={"issuer": "i"}), "has no keys"),
        (function("browser"), "sign-in page"),
    ],
)
def test_incomplete_settings_are_refused(requested: Function, text: str) -> None:
    with pytest.raises(InputError, match=text):
        with_credentials(PROCESS, requested, None)


def test_a_platform_that_asks_for_no_credentials_refuses_the_function() -> None:
    with pytest.raises(InputError, match="has no effect on the platform torchserve"):
        with_credentials(lookup("torchserve"), function("api"), None)
    requested = function("basicAuth", basicAuth={"username": "u", "password": "p"})
    assert with_credentials(lookup("nuclio"), requested, None) is requested


def test_tokens_stay_when_the_function_is_deployed_from_its_folder() -> None:
    closed = with_credentials(PROCESS, function("api", tokens=[TOKEN]), None)
    again = with_credentials(PROCESS, function(), deployed(closed), keep_tokens=True)
    assert authentication_mode(again) == "api"
    assert again == closed
    both = with_credentials(
        PROCESS,
        function("basicAuth", basicAuth={"username": "u", "password": "p"}),
        deployed(closed),
        keep_tokens=True,
    )
    assert authentication_mode(both) == "basicAuth"
    assert authentication_part(both, "tokens") == [TOKEN]
    # A complete configuration, as of `token revoke`, is taken as it is.
    assert (
        authentication_part(with_credentials(PROCESS, function("api"), deployed(both)), "tokens")
        is None
    )


def test_an_open_function_has_no_credentials() -> None:
    closed = with_credentials(PROCESS, function("api", tokens=[TOKEN]), None)
    requested = function(annotations={"fnbuild.io/open": "true"})
    opened = with_credentials(PROCESS, requested, deployed(closed), keep_tokens=True)
    assert authentication_mode(opened) == "none"
    assert not opened.spec.env


def test_masked_credentials_of_an_export_are_left_out() -> None:
    exported = function("api", {VARIABLE: "[redacted]", "A": "b"})
    assert [item.name for item in without_masked_credentials(exported).spec.env] == ["A"]


def test_the_token_is_a_digest_at_rest() -> None:
    text = json.dumps({"token": "of high entropy", "password": "hash"})
    stored = at_rest(text)
    assert "entropy" not in stored
    assert parse_credentials(stored) == parse_credentials(text)


def test_other_values_of_the_variable_are_no_credentials() -> None:
    for text in ("", "plain", "[1]", "{", "7"):
        assert at_rest(text) == text
        closed = with_credentials(PROCESS, function("api", {VARIABLE: text}), None)
        assert list(credentials(closed)) == ["token"]


def test_checks_of_host_and_origin_are_those_of_loopback_ports() -> None:
    assert allowed_hosts(function()) == []
    names = {"fnbuild.io/allowed-hosts": "models.example, b.example"}
    assert allowed_hosts(function(annotations=names)) == ["models.example", "b.example"]
    assert allowed_hosts(function(listen="loopback,docker")) == []
    assert allowed_hosts(function(listen="0.0.0.0")) is None
    assert allowed_hosts(function(annotations={"fnbuild.io/open": "true"})) is None


def test_an_open_port_for_other_machines_is_a_warning() -> None:
    [warning] = open_port_warnings(function(listen="docker, 192.0.2.1"))
    assert "192.0.2.1" in warning
    assert "--open" in warning
    for quiet in (
        function(),
        function(listen="docker"),
        function("api", listen="192.0.2.1"),
        function(annotations={"fnbuild.io/open": "true"}, listen="192.0.2.1"),
    ):
        assert open_port_warnings(quiet) == ()
