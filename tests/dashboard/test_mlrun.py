"""The requests that mlrun's service sends to a dashboard of Nuclio.

They are written by hand, because mlrun itself is not installed, after its clients/nuclio.py and
clients/async_nuclio.py of October 2024.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.dashboard.calls import answering, deployed
from tests.dashboard.conftest import Answer, Dashboard, Started

pytestmark = pytest.mark.system


def call(dashboard: Dashboard, method: str, path: str, json: Any = None, **headers: str) -> Answer:
    """Send one request with mlrun's credentials: a user's name and a session's key."""
    key = base64.b64encode(f"anybody:{dashboard.token}".encode()).decode()
    sent = {name.replace("_", "-"): text for name, text in headers.items()}
    sent["Authorization"] = f"Basic {key}"
    return dashboard.request(method, f"/api/{path}", json=json, headers=sent, token=False)


@pytest.fixture
def name(dashboard: Dashboard) -> Iterator[str]:
    unique_name = f"mlrun-{uuid.uuid4().hex[:8]}"
    yield unique_name
    call(dashboard, "DELETE", "projects", {"metadata": {"name": unique_name}},
         x_nuclio_delete_project_strategy="cascading")  # fmt: skip


def test_the_version_has_the_features_that_mlrun_requires(dashboard: Dashboard) -> None:
    label = call(dashboard, "GET", "versions").json["dashboard"]["label"]
    # The newest that mlrun requires, in `min_nuclio_versions`.
    assert tuple(int(part) for part in label.split(".")) >= (1, 13, 1)


def test_a_project_is_stored_patched_listed_and_deleted(dashboard: Dashboard, name: str) -> None:
    body = {"metadata": {"name": name}}
    assert call(dashboard, "GET", f"projects/{name}").status == 404
    assert call(dashboard, "POST", "projects", body).status == 201
    reply = call(dashboard, "GET", f"projects/{name}").json
    reply["spec"]["description"] = "all cameras"
    assert call(dashboard, "PUT", "projects", reply).status == 204
    listed = call(dashboard, "GET", "projects").json
    assert all(item["metadata"]["name"] and "spec" in item for item in listed.values())
    assert listed[name]["spec"]["description"] == "all cameras"
    for strategy, wanted in (("check", 204), ("restricted", 204), ("restricted", 404)):
        answer = call(
            dashboard, "DELETE", "projects", body, x_nuclio_delete_project_strategy=strategy
        )
        assert answer.status == wanted, answer.text


def test_deleting_a_project_with_functions_has_nuclios_message(
    dashboard: Dashboard, name: str
) -> None:
    assert call(dashboard, "POST", "projects", {"metadata": {"name": name}}).status == 201
    function = answering(name, "one")
    function["metadata"]["labels"] = {"nuclio.io/project-name": name}
    deployed(dashboard, function)
    answer = call(dashboard, "DELETE", "projects", {"metadata": {"name": name}},
                  x_nuclio_delete_project_strategy="check")  # fmt: skip
    assert (answer.status, answer.json["error"]) == (412, f"Project contains functions: {name}")
    assert answer.json["errorStackTrace"] == ""

    # mlrun sends trailing slashes.
    for _ in range(2):
        gone = call(dashboard, "DELETE", "functions/", {"metadata": {"name": name}},
                    x_nuclio_project_name=name,
                    x_nuclio_delete_function_with_api_gateways="true")  # fmt: skip
        assert gone.status == 204
    assert call(dashboard, "GET", f"functions/{name}").status == 404


def test_gateways_are_requested_created_and_deleted(dashboard: Dashboard, name: str) -> None:
    of = {"x_nuclio_project_name": name}
    gateway = {"metadata": {"name": "gate", "labels": {}}, "spec": {"name": "gate", "host": "x"}}
    assert call(dashboard, "GET", "api_gateways/", **of).json == {}
    assert call(dashboard, "GET", "api_gateways/gate", **of).status == 404
    for method, path in (("POST", "api_gateways/"), ("PUT", "api_gateways/gate")):
        refused = call(dashboard, method, path, gateway, **of)
        assert (refused.status, refused.json["errorStackTrace"]) == (412, "")
        assert "no API gateways" in refused.json["error"]
    body = {"metadata": {"name": "gate"}}
    assert call(dashboard, "DELETE", "api_gateways/", body, **of).status == 204


def test_mlruns_calls_about_projects_read_and_change_nothing(started: Started) -> None:
    """They are signed with a name and a password that are the same everywhere."""
    signed = {"Authorization": f"Basic {base64.b64encode(b'user:pass').decode()}"}
    body = {"metadata": {"name": "any"}}
    with started() as dashboard:

        def status(method: str, path: str, json: Any = None) -> int:
            return dashboard.request(method, path, json=json, headers=signed, token=False).status

        assert status("GET", "/api/projects") == 200
        for _ in range(12):
            assert status("POST", "/api/projects", body) == 401
        # They do not count as wrong tokens.
        assert call(dashboard, "POST", "projects", body).status == 201
