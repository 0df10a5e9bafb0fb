"""The attribute `cors` of the http trigger."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fnbuild.runtime.config import ConfigFileError
from fnbuild.runtime.http.messages import HttpRequest, Reply
from fnbuild.runtime.http.parser import parse_head
from fnbuild.runtime.triggers.cors import CorsPolicy, cors_policy

PAGE = "https://page.example"


def request(method: str, **headers: str) -> HttpRequest:
    lines = [f"{method} / HTTP/1.1", "Host: test"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    head = parse_head("\r\n".join(lines).encode())
    return HttpRequest(head, b"", None, 0.0)


def preflight(
    cors: CorsPolicy, origin: str = PAGE, method: str = "POST", wanted: str = ""
) -> Reply:
    headers = {"Origin": origin, "Access_Control_Request_Method": method}
    if wanted:
        headers["Access_Control_Request_Headers"] = wanted
    answer = cors.check(request("OPTIONS", **headers))
    assert answer is not None
    return answer


def values(headers: list[tuple[str, str]], name: str) -> list[str]:
    return [value for key, value in headers if key == name]


def test_preflights_with_the_defaults() -> None:
    answer = preflight(CorsPolicy({}))
    assert answer.status == 200
    assert answer.body == b""
    assert answer.headers == [
        ("Access-Control-Allow-Origin", PAGE),
        ("Vary", "Origin"),
        ("Vary", "Access-Control-Request-Method"),
        ("Vary", "Access-Control-Request-Headers"),
        ("Access-Control-Allow-Methods", "HEAD, GET, POST, PUT, DELETE, OPTIONS, PATCH"),
        (
            "Access-Control-Allow-Headers",
            "Accept, Content-Length, Content-Type, Authorization, X-Nuclio-Log-Level",
        ),
        ("Access-Control-Max-Age", "5"),
    ]


def test_preflights_with_settings() -> None:
    cors = CorsPolicy(
        {
            "allowOrigins": [PAGE],
            "allowMethods": ["POST"],
            "allowHeaders": ["X-Mine", "X-Other"],
            "allowCredentials": True,
            "preflightMaxAgeSeconds": 600,
        }
    )
    for wanted in ("", "x-mine", "X-Mine, x-other", "x-mine,x-other", " x-other ,,x-mine"):
        assert preflight(cors, wanted=wanted).status == 200
    headers = preflight(cors).headers
    assert values(headers, "Access-Control-Allow-Methods") == ["POST"]
    assert values(headers, "Access-Control-Allow-Headers") == ["X-Mine, X-Other"]
    assert values(headers, "Access-Control-Max-Age") == ["600"]
    assert values(headers, "Access-Control-Allow-Credentials") == ["true"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"origin": "https://other.example"}, "origin https://other.example"),
        ({"origin": PAGE.upper()}, "origin HTTPS://PAGE.EXAMPLE"),
        ({"origin": "null"}, "origin null"),
        ({"method": "DELETE"}, "method DELETE"),
        ({"method": "post"}, "method post"),
        ({"wanted": "accept, x-evil"}, "header x-evil"),
    ],
)
def test_preflights_for_requests_that_are_not_allowed(changes: Any, message: str) -> None:
    answer = preflight(CorsPolicy({"allowOrigins": [PAGE], "allowMethods": ["POST"]}), **changes)
    assert answer.status == 400
    assert message in json.loads(answer.body)["error"]
    assert values(answer.headers, "Access-Control-Allow-Origin") == []


def test_preflights_must_name_their_origin() -> None:
    answer = CorsPolicy({}).check(request("OPTIONS", Access_Control_Request_Method="POST"))
    assert answer is not None
    assert answer.status == 400


def test_options_without_a_requested_method_reach_the_handler() -> None:
    assert CorsPolicy({}).check(request("OPTIONS", Origin=PAGE)) is None


def test_headers_of_the_handler_have_precedence() -> None:
    cors = CorsPolicy({"exposeHeaders": ["X-Mine"]})
    headers = request("GET", Origin=PAGE)
    assert cors.headers(headers, []) == [
        ("Access-Control-Allow-Origin", PAGE),
        ("Vary", "Origin"),
        ("Access-Control-Expose-Headers", "X-Mine"),
    ]
    own = [("access-control-allow-origin", "*"), ("Vary", "Accept")]
    assert values(cors.headers(headers, own), "Access-Control-Allow-Origin") == []
    assert values(cors.headers(headers, own), "Vary") == ["Origin"]


def test_cors_is_disabled_by_default() -> None:
    assert cors_policy({}) is None
    assert cors_policy({"cors": {"allowOrigins": [PAGE]}}) is None
    assert cors_policy({"cors": {"enabled": False}}) is None
    # Names in any case, a single value for a list: as Nuclio decodes attributes.
    cors = cors_policy({"cors": {"Enabled": True, "AllowOrigins": PAGE}})
    assert cors is not None
    assert preflight(cors).status == 200
    assert preflight(cors, "https://other.example").status == 400


@pytest.mark.parametrize(
    "wrong",
    [{"allowOrigins": {"a": 1}}, {"allowCredentials": "yes"}, {"preflightMaxAgeSeconds": True}],
)
def test_invalid_settings_are_reported(wrong: Any) -> None:
    with pytest.raises(ConfigFileError, match=rf"cors\.{next(iter(wrong))}: .* is not a"):
        cors_policy({"cors": {"enabled": True, **wrong}})


HANDLER = """
def handler(context, event):
    return event.method
"""


def test_cors_of_a_processor(serve: Any) -> None:
    cors = {"enabled": True, "allowOrigins": [PAGE], "exposeHeaders": ["X-Request-Id"]}
    processor = serve(HANDLER, trigger={"attributes": {"cors": cors}})
    answer = processor.send(origin=PAGE)
    assert (answer.status, answer.body) == (200, b"POST")
    assert answer.header("access-control-allow-origin") == PAGE
    assert answer.header("access-control-expose-headers") == "X-Request-Id"
    assert answer.header("vary") == "Origin"

    # A request without an origin comes from a program, not from a page.
    plain = processor.send()
    assert (plain.status, plain.body) == (200, b"POST")
    assert plain.header("access-control-allow-origin") is None

    foreign = processor.send(origin="https://other.example")
    assert foreign.status == 403
    assert "https://other.example is not in allowOrigins" in str(foreign.body)

    headers = {"origin": PAGE, "access_control_request_method": "POST"}
    assert processor.send(method="OPTIONS", **headers).body == b""
    assert processor.send(method="OPTIONS").body == b"OPTIONS"
    assert processor.send(path="/__internal/health", method="GET").status == 200


def test_without_cors_options_reach_the_handler(serve: Any) -> None:
    processor = serve(HANDLER)
    headers = {"origin": PAGE, "access_control_request_method": "POST"}
    answer = processor.send(method="OPTIONS", **headers)
    assert answer.body == b"OPTIONS"
    assert answer.header("access-control-allow-origin") is None
