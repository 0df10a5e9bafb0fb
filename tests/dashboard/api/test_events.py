"""Function events: requests that are stored with a function."""

from __future__ import annotations

from typing import Any

import pytest

from tests.dashboard.conftest import Dashboard

PATH = "/api/function_events"


def event(name: str = "", function: str = "greeter", **spec: Any) -> dict[str, Any]:
    """Return an event in the form that Nuclio's page sends."""
    return {
        "metadata": {
            "name": name,
            "namespace": "nuclio",
            "labels": {"nuclio.io/function-name": function},
        },
        "spec": {
            "displayName": "a greeting",
            "triggerName": "default-http",
            "triggerKind": "http",
            "body": "hello",
            "attributes": {"headers": {"X-A": "1"}, "method": "POST", "path": "/"},
            **spec,
        },
    }


def test_an_event_is_stored_changed_and_deleted(dashboard: Dashboard) -> None:
    created = dashboard.request("POST", PATH, json=event("kept"))
    assert (created.status, created.json) == (201, event("kept"))
    assert dashboard.request("POST", PATH, json=event("kept")).status == 409
    assert dashboard.request("GET", f"{PATH}/kept", token=False).json == event("kept")
    changed = event("kept", body="goodbye")
    assert dashboard.request("PUT", PATH, json=changed).status == 204
    assert dashboard.request("GET", PATH).json["kept"]["spec"]["body"] == "goodbye"
    changed = event("", body="again")
    assert dashboard.request("PUT", f"{PATH}/kept", json=changed).status == 204
    assert dashboard.request("GET", f"{PATH}/kept").json["spec"]["body"] == "again"
    gone = {"metadata": {"name": "kept", "namespace": "nuclio"}}
    for _ in range(2):
        assert dashboard.request("DELETE", PATH, json=gone).status == 204
    assert dashboard.request("GET", f"{PATH}/kept").status == 404
    assert dashboard.request("PUT", PATH, json=event("kept")).status == 404


def test_events_are_listed_by_function_and_namespace(dashboard: Dashboard) -> None:
    names = []
    for function in ("one", "one", "two"):
        created = dashboard.request("POST", PATH, json=event(function=function))
        names.append(created.json["metadata"]["name"])
    assert len(set(names)) == 3
    by_function = {"x-nuclio-function-name": "one"}
    assert set(dashboard.request("GET", PATH, headers=by_function).json) == set(names[:2])
    elsewhere = {"x-nuclio-function-event-namespace": "elsewhere"}
    assert dashboard.request("GET", PATH, headers=elsewhere).json == {}
    for name in names:
        assert dashboard.request("DELETE", f"{PATH}/{name}").status == 204


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"metadata": {}, "spec": {}},
        {"metadata": "x", "spec": {}},
        {"metadata": {"labels": {"nuclio.io/function-name": "a"}}},
        {"metadata": {"labels": ["a"]}, "spec": {}},
        event("../../etc"),
        event("a" * 300),
        event("named", body={"not": "text"}),
        event("named", attributes=[]),
    ],
)
def test_an_invalid_event_is_refused(dashboard: Dashboard, body: dict[str, Any]) -> None:
    answer = dashboard.request("POST", PATH, json=body)
    assert answer.status == 400
    assert answer.json["error"]
    assert "named" not in dashboard.request("GET", PATH).json


def test_storing_an_event_needs_the_token(dashboard: Dashboard) -> None:
    for method in ("POST", "PUT", "DELETE"):
        assert dashboard.request(method, PATH, json=event("x"), token=False).status == 401
    assert dashboard.request("GET", PATH, token=False).status == 200
