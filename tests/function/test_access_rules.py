"""Rules on authentication and open functions, with places, values and remedies."""

from __future__ import annotations

import textwrap
from typing import Any

import pytest

from fnbuild.function import reader
from fnbuild.function.access_settings import without_access_secrets
from fnbuild.function.file_redaction import redact_access_secrets, redact_config_text
from fnbuild.function.secrets import redact_except_variables, without_access_credentials
from fnbuild.function.types import to_dict

_HEAD = """\
metadata: {{name: guarded{annotations}}}
spec:
  handler: main:handler
  runtime: python:3.11
  triggers:
    web:
      kind: http
      attributes:
"""


def text_of(attributes: str, annotations: str = "") -> str:
    lines = textwrap.indent(textwrap.dedent(attributes), " " * 8)
    return _HEAD.format(annotations=annotations) + lines


def findings(attributes: str, annotations: str = "") -> list[str]:
    """The errors and warnings with their places, and their hints."""
    _, report = reader.check_text(text_of(attributes, annotations).encode(), "function.yaml")
    return report.render().splitlines()


@pytest.mark.parametrize(
    "attributes",
    [
        "authenticationMode: none",
        "authenticationmode: api",
        "authenticationMode: api\nauthentication: {tokens: []}",
        "authenticationMode: basicAuth\nauthentication: {basicAuth: {username: u, password: p}}",
        "authenticationMode: api\nauthentication: {jwt: {jwksURL: 'https://h/k', issuer: i}}",
        "authenticationMode: api\n"
        "authentication: {JWT: {jwksfile: k.json, issuer: i, algorithms: [ES256], audience: [a]}}",
    ],
)
def test_valid_settings_have_no_findings(attributes: str) -> None:
    assert findings(attributes) == []


@pytest.mark.parametrize(
    ("attributes", "place", "texts"),
    [
        ("authenticationMode: basic", "9:29", ["'basic' is not a mode", "one of: none, basicAuth"]),
        ("authentication: [x]", "9:9", ["a mapping with the keys basicAuth, tokens, jwt"]),
        ("authentication: {oauth: {}}", "9:26", ["no key 'oauth'", "basicAuth, tokens, jwt"]),
        ("authenticationMode: basicAuth", "9:29", ["a user name and a password", "username: cvat"]),
        (
            "authentication:\n  basicAuth: {username: 'a:b', password: 7}",
            "10:33",
            ["without a colon", "password is a text", "put it in quotes"],
        ),
        (
            "authentication:\n  tokens:\n  - {name: ci, sha256: abc}",
            "11:13",
            ["64 hexadecimal digits", "fnbuild token create"],
        ),
        (
            "authentication:\n  jwt: {jwksURL: 'ftp://h/k', secret: short, leewaySeconds: -1}",
            "10:26",
            ["not the URL of a key set", "less than 32 bytes", "0 to 600"],
        ),
        (
            "authentication:\n  jwt: {jwksFile: a, jwksURL: 'https://h/k'}",
            "10:39",
            ["jwksFile and jwksURL"],
        ),
        (
            "authentication:\n  jwt: {jwksFile: a, algorithms: [none], audience: [1]}",
            "10:30",
            ["not algorithms", "RS256", "audience is a text"],
        ),
        ("authentication:\n  jwt: {requiredClaims: [scope]}", "10:17", ["a mapping of claims"]),
    ],
)
def test_errors_have_place_value_and_remedy(attributes: str, place: str, texts: list[str]) -> None:
    lines = findings(attributes)
    assert any(line.startswith(f"function.yaml:{place}: error") for line in lines), lines
    for text in texts:
        assert text in "\n".join(lines)


@pytest.mark.parametrize(
    ("attributes", "text"),
    [
        ("authentication: {basicAuth: {username: u, password: p}}", "authenticationMode is none"),
        ("authenticationMode: browser", "only Nuclio 1.17"),
        ("authenticationMode: api\nauthentication: {jwt: {jwksFile: k}}", "add `issuer`"),
        (
            "authenticationMode: api\nauthentication: {jwt: {jwksURL: 'http://h/k', issuer: i}}",
            "use https",
        ),
    ],
)
def test_doubtful_settings_are_warnings(attributes: str, text: str) -> None:
    lines = findings(attributes)
    assert text in "\n".join(lines)
    assert not any("error" in line for line in lines)


def test_an_open_function_asks_for_no_credentials() -> None:
    annotations = ", annotations: {fnbuild.io/open: 'true'}"
    assert findings("authenticationMode: none", annotations) == []
    assert "an open function" in "\n".join(findings("authenticationMode: api", annotations))
    lines = findings("port: 0", ", annotations: {fnbuild.io/open: 'yes'}")
    assert "true or false, not 'yes'" in "\n".join(lines)


SECRETS = """
authenticationMode: basicAuth
authentication:
  basicAuth: {username: cvat, password: correct-horse}
  jwt: {secret: "a secret of thirty-two bytes or more", issuer: i}
"""
VALUES = ("correct-horse", "thirty-two")


def test_a_staged_file_loses_these_secrets_only() -> None:
    text = text_of(SECRETS) + "  env: [{name: API_KEY, value: of-the-handler}]  # kept\n"
    staged = redact_access_secrets(text.encode(), "function.yaml").decode()
    assert not [value for value in VALUES if value in staged]
    assert staged.endswith("value: of-the-handler}]  # kept\n")
    _, report = reader.check_text(staged.encode(), "function.yaml")
    assert not report.errors
    for other in (text_of("port: 0").encode(), b"authentication: [", b"\xff authentication"):
        assert redact_access_secrets(other, "function.yaml") == other


def test_secrets_are_in_no_copy() -> None:
    text = text_of(SECRETS)
    function, _ = reader.function_from_text(text, "function.yaml")
    assert function is not None
    raw = to_dict(function)
    attributes: dict[str, Any] = raw["spec"]["triggers"]["web"]["attributes"]
    copies = (
        redact_config_text(text.encode(), "function.yaml").decode(),
        str(without_access_credentials(raw)),
        str(redact_except_variables(raw)),
        str(without_access_secrets(attributes)),
    )
    for copy in copies:
        assert not [value for value in VALUES if value in copy], copy
    assert "username: cvat" in copies[0]
    assert all(value in str(raw) for value in VALUES)
