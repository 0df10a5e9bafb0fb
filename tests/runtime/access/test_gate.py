"""The gate of a real processor: credentials, Host and Origin, refusals and their metrics."""

from __future__ import annotations

import base64
import concurrent.futures
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from fnbuild.runtime.access import passwords
from fnbuild.runtime.access.credentials import VARIABLE, digest_of
from fnbuild.runtime.access.passwords import hash_password
from tests.runtime import interpreters
from tests.runtime.access.signing import Issuer
from tests.runtime.conftest import Answer, Running, Serve

ECHO = """
import json, os

def handler(context, event):
    headers = {str(name).lower(): str(value) for name, value in event.headers.items()}
    hidden = [name for name in os.environ if "ACCESS_CREDENTIALS" in name]
    return json.dumps({"headers": headers, "hidden": hidden})
"""
OWN = "the platform's own token, of high entropy"
TOKEN = "a client's token, of high entropy"
ISSUER = Issuer()


def trigger(mode: str, **authentication: Any) -> dict[str, Any]:
    return {"attributes": {"authenticationMode": mode, "authentication": authentication}}


def credentials(**values: str) -> dict[str, str]:
    return {VARIABLE: json.dumps({"token": OWN, **values})}


def basic(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def entry(name: str, token: str, **more: str) -> dict[str, str]:
    return {"name": name, "sha256": digest_of(token), **more}


@pytest.fixture(scope="module")
def closed(serve_module: Serve) -> Running:
    """A function with bearer tokens and JSON Web Tokens."""
    return serve_module(
        ECHO,
        trigger=trigger(
            "api",
            tokens=[
                entry("ci", TOKEN),
                entry("old", "expired", expires="2020-01-01T00:00:00Z"),
                entry("new", "fresh", expires="2099-01-01T00:00:00Z"),
            ],
            jwt={"jwksFile": "keys.json", "issuer": "one", "requiredClaims": {"scope": "predict"}},
        ),
        env=credentials(),
        files={"keys.json": ISSUER.key_set().decode()},
    )


def refused(answer: Answer, status: int, reason: str) -> None:
    assert answer.status == status, answer
    assert re.search(reason, json.loads(answer.body)["error"]), answer


def test_a_bearer_token(closed: Running) -> None:
    for token in (TOKEN, "fresh"):
        assert closed.send(authorization=f"Bearer {token}").status == 200
        assert closed.send(authorization=f"bearer   {token}").status == 200
    answer = closed.send()
    refused(answer, 401, "needs credentials")
    assert answer.header("www-authenticate") == 'Bearer realm="under-test"'
    answer = closed.send(authorization="Bearer wrong")
    refused(answer, 401, "unknown")
    assert answer.header("www-authenticate") == 'Bearer realm="under-test", error="invalid_token"'
    refused(closed.send(authorization="Bearer expired"), 401, "old has expired")
    refused(closed.send(authorization=f"Bearer {digest_of(TOKEN)}"), 401, "unknown")
    refused(closed.send(authorization=basic("u", "p")), 401, "another kind")


def test_a_json_web_token(closed: Running) -> None:
    claims = {"iss": "one", "scope": "predict"}
    for algorithm in ("RS256", "ES256"):
        token = ISSUER.token(algorithm, **claims)
        for _ in range(2):
            assert closed.send(authorization=f"Bearer {token}").status == 200
    answer = closed.send(authorization=f"Bearer {ISSUER.token(iss='one')}")
    refused(answer, 403, "lacks the claim scope: predict")
    assert 'error="insufficient_scope"' in str(answer.header("www-authenticate"))
    token = ISSUER.token(**claims)
    refused(closed.send(authorization=f"Bearer {token[:-4]}AAAA"), 401, "signature")


def test_the_platform_s_own_token_is_hidden_from_the_handler(closed: Running) -> None:
    answer = closed.send(x_fnbuild_access=OWN, authorization="Basic for-the-handler", x_other="1")
    assert answer.status == 200
    seen = json.loads(answer.body)
    assert seen["headers"]["authorization"] == "Basic for-the-handler"
    assert seen["headers"]["x-other"] == "1"
    assert "x-fnbuild-access" not in seen["headers"]
    assert seen["hidden"] == []
    refused(closed.send(x_fnbuild_access="wrong"), 401, "credentials")
    refused(closed.send(x_fnbuild_access=""), 401, "credentials")


def test_health_checks_are_open(closed: Running) -> None:
    assert closed.send(method="GET", path="/__internal/health").status == 200


def test_refusals_are_counted_and_logged_without_secrets(closed: Running) -> None:
    closed.send(authorization="Bearer not-to-be-logged")
    text = closed.admin("/metrics").body.decode()
    counts = dict(re.findall(r'http_refusals_total{.*status="(\d+)"} (\d+)', text))
    assert int(counts["401"]) > 0
    closed.await_record("a request was refused with 401")
    log = closed.log_path.read_text()
    for secret in ("not-to-be-logged", TOKEN, OWN):
        assert secret not in log


@pytest.mark.parametrize("version", interpreters.few())
def test_a_password(serve: Serve, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # The number of iterations is in the hash.
    monkeypatch.setattr(passwords, "_ITERATIONS", 1000)
    function = serve(
        ECHO,
        version=version,
        workers=2,
        trigger=trigger("basicAuth", basicAuth={"username": "cvat"}, tokens=[entry("ci", TOKEN)]),
        env=credentials(password=hash_password("pässword")),
    )
    right = basic("cvat", "pässword")
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        statuses = {
            a.status for a in pool.map(lambda _: function.send(authorization=right), range(32))
        }
    assert statuses == {200}
    began = time.process_time()
    assert function.send(authorization=right).status == 200
    assert time.process_time() - began < 0.1
    assert function.send(authorization=f"Bearer {TOKEN}").status == 200
    answer = function.send()
    refused(answer, 401, "needs credentials")
    assert answer.header("www-authenticate") == 'Basic realm="under-test"'
    for wrong in (basic("cvat", "x"), basic("x", "pässword"), "Basic", "Basic é", basic("", "")):
        refused(function.send(authorization=wrong), 401, "wrong|base64|unknown")
    for _ in range(10):
        answer = function.send(authorization=basic("cvat", "guessed"))
    refused(answer, 429, "too many")
    assert 0 < int(str(answer.header("retry-after"))) <= 61
    # Neither remembered credentials nor tokens are affected.
    assert function.send(authorization=right).status == 200
    assert function.send(authorization=f"Bearer {TOKEN}").status == 200


def test_protocols_are_closed_and_their_health_checks_open(serve: Serve) -> None:
    settings = trigger("api", tokens=[entry("ci", TOKEN)])
    settings["attributes"]["protocols"] = ["v1", "v2", "torchserve"]
    function = serve(ECHO, trigger=settings, env=credentials())
    name = "under-test"
    for path in (
        "/v2/health/live", "/v2/health/ready", f"/v2/models/{name}/ready",
        f"/v2/models/{name}/versions/7/ready", "/ping",
    ):  # fmt: skip
        assert function.send(method="GET", path=path).status == 200, path
    for path in (
        "/v1/models", f"/v1/models/{name}", "/v2", f"/v2/models/{name}", "/models", "/ping/x",
        f"/v2/models/{name}/ready/x", "/v2/health/ready/..", "/other",
    ):  # fmt: skip
        assert function.send(method="GET", path=path).status == 401, path
    for path in (
        f"/v1/models/{name}:predict", f"/v2/models/{name}/infer", f"/predictions/{name}",
        f"/explanations/{name}",
    ):  # fmt: skip
        assert function.send(b"{}", path).status == 401, path
        assert function.send(b"{}", path, authorization=f"Bearer {TOKEN}").status != 401, path


def test_a_path_of_a_protocol_that_is_not_served_is_closed(serve: Serve) -> None:
    function = serve(ECHO, trigger=trigger("api"), env=credentials())
    for path in ("/ping", "/v2/health/live", "/v2/models/x/ready"):
        assert function.send(method="GET", path=path).status == 401


def test_keys_that_cannot_be_read_are_the_server_s_failure(serve: Serve) -> None:
    function = serve(ECHO, trigger=trigger("api", jwt={"jwksFile": "none.json"}))
    answer = function.send(authorization=f"Bearer {ISSUER.token()}")
    refused(answer, 503, "cannot be read: .*No such file")
    assert answer.header("retry-after")


def test_batches_are_closed(serve: Serve) -> None:
    settings = trigger("api", tokens=[entry("ci", TOKEN)])
    settings["batch"] = {"size": 2, "timeout": 0.01}
    function = serve(
        "def handler(context, events):\n    return ['done' for event in events]", trigger=settings
    )
    assert function.send().status == 401
    assert function.send(authorization=f"Bearer {TOKEN}").body == b"done"


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (trigger("browser"), "sign-in page"),
        (trigger("basicAuth"), "no username or no password"),
        (trigger("api", jwt={}), "names no keys"),
        (trigger("api", tokens=[{"name": "x", "sha256": "y"}]), "sha256"),
        (trigger("api", jwt={"jwksURL": "file:///etc/passwd"}), "not the URL"),
        (trigger("any"), "not a mode"),
    ],
)
def test_a_processor_with_invalid_settings_does_not_start(
    serve: Serve, settings: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    function = serve(ECHO, trigger=settings, wait=None)
    assert function.process.wait(20) == 1
    assert re.search(reason, function.log_path.read_text())


@pytest.fixture(scope="module")
def local(serve_module: Serve) -> Running:
    return serve_module(ECHO, allowed_hosts=["models.example"])


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:5000", "localhost", "LOCALHOST:1", "[::1]:80", "nuclio-nuclio-sam:8080",
        "host.docker.internal:20000", "models.example", "a.localhost", "10.0.0.7",
    ],
)  # fmt: skip
def test_names_of_this_machine(local: Running, host: str) -> None:
    assert local.send(host=host).status == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:80", "localhost.evil.io"])
def test_names_that_a_page_may_have_bound_to_this_machine(local: Running, host: str) -> None:
    refused(local.send(host=host), 421, "not known as")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://localhost:1", "host": "localhost:2"}, 403),
        ({"origin": "http://localhost:2", "host": "localhost:2"}, 200),
        ({"sec_fetch_site": "cross-site", "sec_fetch_mode": "no-cors"}, 403),
        ({"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"}, 200),
        ({"sec_fetch_site": "same-origin", "sec_fetch_mode": "cors"}, 200),
    ],
)
def test_pages_of_other_sites(local: Running, headers: dict[str, str], status: int) -> None:
    assert local.send(**headers).status == status


def test_cors_allows_pages(serve: Serve) -> None:
    settings = trigger("api", tokens=[entry("ci", TOKEN)])
    settings["attributes"]["cors"] = {"enabled": True, "allowOrigins": ["https://page.example"]}
    function = serve(ECHO, trigger=settings, allowed_hosts=[])
    page = {"origin": "https://page.example"}
    answer = function.send(**page)
    refused(answer, 401, "needs credentials")
    assert answer.header("access-control-allow-origin") == "https://page.example"
    assert function.send(authorization=f"Bearer {TOKEN}", **page).status == 200
    preflight = {**page, "access_control_request_method": "POST"}
    assert function.send(method="OPTIONS", **preflight).status == 200
    assert function.send(origin="https://evil.example").status == 403
