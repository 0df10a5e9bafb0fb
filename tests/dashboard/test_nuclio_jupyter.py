"""The real nuclio-jupyter from PyPI deploys, lists, updates and deletes functions."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.dashboard.calls import function, gone_at_the_end
from tests.dashboard.conftest import Dashboard
from tests.dashboard.waiting import until

pytest.importorskip("nuclio", reason="nuclio-jupyter is not installed")

import nuclio
from nuclio.auth import AuthInfo, AuthKinds
from nuclio.deploy import (
    delete_func,
    get_deploy_status,
    list_functions,
)
from nuclio.utils import DeployError

pytestmark = pytest.mark.system

CODE = """\
import os


def handler(context, event):
    return "TEXT " + os.environ.get("COLOUR", "")
"""
BROKEN = "def handler(context, event):\n    pass\n\n\nraise RuntimeError('no weights here')\n"


def auth(dashboard: Dashboard, kind: str) -> AuthInfo:
    """Return credentials as users set them: a name and a password, or a session's key."""
    if kind == "cookie":
        return AuthInfo(password=dashboard.token, mode=AuthKinds.iguazio)
    return AuthInfo(username="anybody", password=dashboard.token)


@pytest.fixture
def name(dashboard: Dashboard) -> Iterator[str]:
    with gone_at_the_end(dashboard, f"jupyter-{uuid.uuid4().hex[:8]}") as unique_name:
        yield unique_name


@pytest.fixture
def project(dashboard: Dashboard, name: str) -> Iterator[str]:
    unique_name = f"of-{name}"
    yield unique_name
    dashboard.request("DELETE", "/api/projects", json={"metadata": {"name": unique_name}})


def answers(address: str, text: str) -> None:
    """Use a new connection each time, because an old one may reach the previous revision."""
    until(lambda: requests.post(f"http://{address}", timeout=60).text == text, text)


@pytest.mark.parametrize("kind", ["cookie", "basic"])
def test_a_file_is_deployed_updated_listed_and_deleted(
    dashboard: Dashboard, name: str, project: str, kind: str, tmp_path: Path
) -> None:
    credentials = auth(dashboard, kind)
    file = tmp_path / "code.py"
    for text in ("one", "two"):
        file.write_text(CODE.replace("TEXT", text))
        address = nuclio.deploy_file(
            str(file),
            dashboard_url=dashboard.url,
            name=name,
            project=project,
            handler="handler",
            spec=nuclio.ConfigSpec(env={"COLOUR": "blue"}),
            auth_info=credentials,
        )
        answers(address, f"{text} blue")
    listed = list_functions(dashboard.url, auth_info=credentials)
    assert listed[name]["metadata"]["labels"]["nuclio.io/project-name"] == project
    assert function(dashboard, name)["status"]["revision"] == 2
    delete_func(name, dashboard.url, auth_info=credentials)
    assert name not in list_functions(dashboard.url, auth_info=credentials)


def test_code_is_deployed_and_its_output_is_shown(
    dashboard: Dashboard, name: str, project: str, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(nuclio.deploy.logger, "propagate", True)
    with caplog.at_level(logging.INFO):
        (address,) = nuclio.deploy_code(
            CODE.replace("TEXT", "code"),
            dashboard_url=dashboard.url,
            name=name,
            project=project,
            verbose=True,
            auth_info=auth(dashboard, "cookie"),
        )
    answers(address, "code ")
    state, polled, _, _ = get_deploy_status(f"{dashboard.url}/api", name)
    assert state == "ready"
    assert polled.rpartition(":")[2] == address.rpartition(":")[2]
    assert "(info) ready on" in caplog.text


def test_a_failed_deploy_raises_with_the_handlers_message(
    dashboard: Dashboard, name: str, project: str
) -> None:
    with pytest.raises(DeployError):
        nuclio.deploy_code(BROKEN, dashboard.url, name, project, auth_info=auth(dashboard, "basic"))
    state, _, _, outputs = get_deploy_status(f"{dashboard.url}/api", name)
    assert state == "error"
    assert "no weights here" in "\n".join(outputs)


def test_waiting_for_a_disabled_function_ends(
    dashboard: Dashboard, name: str, project: str
) -> None:
    off = nuclio.ConfigSpec(config={"spec.disable": True})
    credentials = auth(dashboard, "basic")
    nuclio.deploy_code(CODE, dashboard.url, name, project, spec=off, auth_info=credentials)
    state, _, _, _ = get_deploy_status(f"{dashboard.url}/api", name)
    disabled = function(dashboard, name)
    assert (state, disabled["spec"]["disable"]) == ("ready", True)
    assert disabled["status"]["replicas"]["available"] == 0


def test_without_credentials_nothing_is_changed(
    dashboard: Dashboard, name: str, project: str
) -> None:
    for credentials in (AuthInfo(), AuthInfo(username="anybody", password="wrong")):
        with pytest.raises(DeployError):
            nuclio.deploy_code(CODE, dashboard.url, name, project, auth_info=credentials)
    assert dashboard.request("GET", f"/api/functions/{name}").status == 404


def test_a_function_of_another_project_is_not_replaced(
    dashboard: Dashboard, name: str, project: str
) -> None:
    credentials = auth(dashboard, "basic")
    nuclio.deploy_code(CODE, dashboard.url, name, "default", auth_info=credentials)
    with pytest.raises(DeployError, match="different project"):
        nuclio.deploy_code(CODE, dashboard.url, name, project, auth_info=credentials)
