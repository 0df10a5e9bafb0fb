"""CloudEvents over HTTP, structured and binary, as the handler gets them."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tests.runtime import interpreters

HANDLER = """
def handler(context, event):
    body = event.body
    return {
        "id": event.id,
        "type": event.type,
        "type_version": event.type_version,
        "version": event.version,
        "source": event.trigger.kind,
        "name": event.trigger.name,
        "time": event.timestamp.isoformat(),
        "content_type": event.content_type,
        "body": body.decode("latin-1") if isinstance(body, bytes) else body,
        "bytes": isinstance(body, bytes),
        "headers": {k: v for k, v in event.headers.items() if k not in ("Host", "Connection")},
    }
"""

STRUCTURED = {
    "specversion": "1.0",
    "id": "A-1",
    "type": "org.example.made",
    "source": "/cameras/3",
    "time": "2026-01-02T03:04:05.25+02:00",
    "datacontenttype": "application/json",
    "traceid": "t-7",
    "data": {"boxes": [1, 2]},
}
OLD = {
    "cloudEventsVersion": "0.1",
    "eventID": "A-2",
    "eventType": "org.example.old",
    "eventTypeVersion": "3",
    "source": "/old",
    "eventTime": "2018-04-05T17:31:00Z",
    "contentType": "text/plain",
    "extensions": {"x-more": "yes"},
    "data": "text",
}
TYPE = "application/cloudevents+json; charset=utf-8"


@pytest.fixture(scope="module")
def processor(serve_module: Any) -> Any:
    return serve_module(HANDLER)


def ask(function: Any, body: Any, **headers: str) -> dict[str, Any]:
    data = body if isinstance(body, (str, bytes)) else json.dumps(body)
    answer = function.send(data, **headers)
    assert answer.status == 200, answer
    return json.loads(answer.body)


def test_structured(processor: Any) -> None:
    event = ask(processor, STRUCTURED, content_type=TYPE, x_own="1")
    headers = event.pop("headers")
    assert event == {
        "id": "A-1",
        "type": "org.example.made",
        "type_version": "",
        "version": "1.0",
        "source": "/cameras/3",
        "name": "",
        "time": "2026-01-02T01:04:05.250000",
        "content_type": "application/json",
        "body": {"boxes": [1, 2]},
        "bytes": False,
    }
    assert headers["traceid"] == "t-7"
    assert headers["X-Own"] == "1"
    # Large bodies are in shared memory.
    large = {**STRUCTURED, "data": {"image": "x" * 300_000}}
    assert ask(processor, large, content_type=TYPE)["body"] == large["data"]


def test_structured_as_nuclio_reads_it(processor: Any) -> None:
    event = ask(processor, OLD, content_type="application/cloudevents+json")
    assert event["headers"]["x-more"] == "yes"
    del event["headers"]
    assert event == {
        "id": "A-2",
        "type": "org.example.old",
        "type_version": "3",
        "version": "0.1",
        "source": "/old",
        "name": "",
        "time": "2018-04-05T17:31:00",
        "content_type": "text/plain",
        "body": "text",
        "bytes": True,
    }


@pytest.mark.parametrize(
    ("changes", "body", "is_bytes"),
    [
        ({"data": "text"}, "text", False),
        ({"data": "text", "datacontenttype": "text/plain"}, "text", True),
        ({"data": None, "data_base64": base64.b64encode(b"\xff\x00").decode()}, "\xff\x00", True),
        ({"data": "AAE=", "datacontentencoding": "base64"}, "\x00\x01", True),
        ({"data": None}, "", True),
        ({"data": [1], "datacontenttype": None}, [1], False),
    ],
)
def test_data(processor: Any, changes: dict[str, Any], body: Any, is_bytes: bool) -> None:
    event = ask(processor, {**STRUCTURED, **changes}, content_type=TYPE)
    assert (event["body"], event["bytes"]) == (body, is_bytes)


def test_binary(processor: Any) -> None:
    headers = {
        "ce_specversion": "1.0",
        "ce_id": "B-1",
        "ce_type": "org.example.made",
        "ce_source": "/a%20b",
        "ce_time": "2026-01-02T03:04:05Z",
        "content_type": "application/json",
    }
    event = ask(processor, {"boxes": []}, **headers)
    assert event["headers"]["Ce-Id"] == "B-1"
    del event["headers"]
    assert event == {
        "id": "B-1",
        "type": "org.example.made",
        "type_version": "",
        "version": "1.0",
        "source": "/a b",
        "name": "",
        "time": "2026-01-02T03:04:05",
        "content_type": "application/json",
        "body": {"boxes": []},
        "bytes": False,
    }


def test_binary_as_nuclio_reads_it(processor: Any) -> None:
    headers = {
        "CE_CloudEventsVersion": "0.1",
        "CE_EventID": "B-2",
        "CE_EventType": "org.example.old",
        "CE_EventTypeVersion": "3",
        "CE_EventTime": "2018-04-05T17:31:00Z",
        "CE_Source": "/old",
        "CE_Name": "it",
    }
    event = ask(processor, "bytes", **headers)
    assert [event[key] for key in ("id", "type", "type_version", "version")] == [
        "B-2", "org.example.old", "3", "0.1",
    ]  # fmt: skip
    assert [event[key] for key in ("source", "name", "time", "body")] == [
        "/old", "it", "2018-04-05T17:31:00", "bytes",
    ]  # fmt: skip


@pytest.mark.parametrize("body", ["{", "[1]", b"\xff"])
def test_other_bodies_stay_bytes(processor: Any, body: Any) -> None:
    event = ask(processor, body, content_type=TYPE)
    assert event["bytes"]
    assert event["source"] == "http"
    assert len(event["id"]) == 36


def test_missing_and_unusual_attributes(processor: Any) -> None:
    event = ask(processor, {"specversion": 1, "time": "yesterday", "type": None}, content_type=TYPE)
    assert (event["version"], event["type"], event["source"], event["body"]) == ("1", "", "", "")
    assert event["time"] > "2026-01"
    assert len(event["id"]) == 36


@pytest.mark.parametrize("version", interpreters.few())
def test_every_interpreter(serve: Any, version: str) -> None:
    function = serve(HANDLER, version=version)
    assert ask(function, STRUCTURED, content_type=TYPE)["id"] == "A-1"
    assert ask(function, "x", ce_specversion="1.0", ce_id="B-1")["id"] == "B-1"
