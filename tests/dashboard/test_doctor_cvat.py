"""`fnbuild doctor cvat` against real dashboards, and against other servers."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.dashboard.conftest import Dashboard, Started, write_function
from tests.dashboard.models import LABELS, annotation_lines, write_models

pytestmark = pytest.mark.system

_MISREAD = """\
import json


def handler(context, event):
    found = {"label": "thing", "type": "rectangle", "points": [1, 2, 3, 4]}
    return context.Response(body=json.dumps(found), content_type="application/json")
"""
_RAISES = """\
def handler(context, event):
    raise ValueError("no weights")
"""


@pytest.fixture(scope="module")
def functions_to_diagnose(
    dashboard: Dashboard, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Deploy a healthy tracker and interactor and two faulty detectors in the project ward, and a
    detector in another project."""
    home = tmp_path_factory.mktemp("patients")
    labels = annotation_lines(type="detector", spec=json.dumps(LABELS[:1]))
    folders = [
        *write_models(home, "clicker", "shaper"),
        write_function(home, "misread", _MISREAD, annotations=labels),
        write_function(home, "raises", _RAISES, annotations=labels),
    ]
    elsewhere = write_function(home, "elsewhere", _RAISES, annotations=labels)
    for folder in folders:
        dashboard.deploy(folder, "--project-name", "ward")
    dashboard.deploy(elsewhere, "--project-name", "corridor")
    yield
    for folder in (*folders, elsewhere):
        dashboard.cli("delete", "function", folder.name)


def findings(dashboard: Dashboard, *flags: str) -> tuple[int, list[Any]]:
    """Return the exit status and the findings."""
    done = dashboard.cli("doctor", "cvat", "-o", "json", *flags, check=False)
    return done.returncode, json.loads(done.stdout)["findings"]


def messages_of(reported: list[Any], area: str, state: str) -> str:
    return "\n".join(
        finding["message"]
        for finding in reported
        if (finding["area"], finding["state"]) == (area, state)
    )


@pytest.mark.usefixtures("functions_to_diagnose")
def test_each_faulty_function_has_its_finding(dashboard: Dashboard) -> None:
    status, reported = findings(dashboard, "--url", dashboard.url, "--project", "ward")
    assert status == 1
    assert "lists 4 of the project ward" in messages_of(reported, "dashboard", "ok")
    for name in ("clicker", "shaper"):
        assert "through the dashboard: it answers" in messages_of(reported, name, "ok")
        assert "directly at localhost:" in messages_of(reported, name, "ok")
        assert "open to this machine alone" in messages_of(reported, name, "warning")
        assert not messages_of(reported, name, "failure")
    assert "CVAT misreads its reply" in messages_of(reported, "misread", "failure")
    assert "it answers 500" in messages_of(reported, "raises", "failure")
    assert "no weights" in messages_of(reported, "raises", "failure")
    warnings = messages_of(reported, "dashboard", "warning").splitlines()
    assert "in the project corridor, and CVAT asks for ward: elsewhere" in warnings
    assert not messages_of(reported, "elsewhere", "warning")
    assert all(
        finding["remedy"] for finding in reported if finding["state"] in ("failure", "warning")
    )


@pytest.mark.usefixtures("functions_to_diagnose")
def test_one_function_with_a_real_image(dashboard: Dashboard, photo: Callable[[str], Path]) -> None:
    where = ("--url", dashboard.url, "--project", "ward")
    picture = ("--image", str(photo("rocket.jpg")))
    status, reported = findings(dashboard, *where, *picture, "--function", "clicker")
    assert status == 0
    assert {finding["area"] for finding in reported} == {"dashboard", "clicker"}
    status, reported = findings(dashboard, *where, "--function", "elsewhere")
    assert status == 1
    assert "corridor" in messages_of(reported, "elsewhere", "failure")
    status, reported = findings(dashboard, *where, "--function", "cliker")
    assert status == 1
    assert [finding["remedy"] for finding in reported if finding["area"] == "cliker"] == [
        'did you mean "clicker"?'
    ]


@pytest.mark.usefixtures("functions_to_diagnose")
def test_nothing_for_cvat_is_a_failure(dashboard: Dashboard) -> None:
    """There is one remedy for all functions of another project."""
    status, reported = findings(dashboard, "--url", dashboard.url, "--project", "nowhere")
    assert status == 1
    assert "finds nothing to show in the project nowhere" in messages_of(
        reported, "dashboard", "failure"
    )
    (ward,) = [record for record in reported if "in the project ward" in record["message"]]
    assert ward["message"].endswith(": clicker, misread, raises, shaper")
    assert "--project-name nowhere" in ward["remedy"]


@pytest.mark.usefixtures("functions_to_diagnose")
def test_equal_findings_are_one_row(dashboard: Dashboard) -> None:
    done = dashboard.cli("doctor", "cvat", "--url", dashboard.url, "--project", "ward", check=False)
    (row,) = [line for line in done.stdout.splitlines() if "open to this machine alone" in line]
    assert row.split(" | ")[1].strip() == "clicker, misread, raises, shaper"
    (remedy,) = [line for line in done.stderr.splitlines() if "listen `loopback,docker`" in line]
    assert remedy.startswith("clicker, misread, raises, shaper: ")
    assert "in the same way" in done.stdout


@pytest.mark.usefixtures("functions_to_diagnose")
def test_the_table_has_remedies(dashboard: Dashboard) -> None:
    where = ("--url", dashboard.url, "--project", "ward", "--function", "shaper")
    done = dashboard.cli("doctor", "cvat", *where)
    assert done.stdout.splitlines()[0].split(" | ")[0].strip() == "STATE"
    assert "listen `loopback,docker`" in done.stderr
    assert "remedy" in dashboard.cli("doctor", "cvat", *where, "-o", "yaml").stdout


def test_functions_that_cannot_be_reached_directly(dashboard: Dashboard, detector: str) -> None:
    where = ("--url", dashboard.url, "--project", "default", "--function", detector)
    status, reported = findings(dashboard, *where, "--direct-host", "127.0.0.9")
    assert status == 1
    assert "nothing listens there" in messages_of(reported, detector, "failure")
    assert "through the dashboard: it answers" in messages_of(reported, detector, "ok")


def test_a_dashboard_that_requires_a_token(started: Started) -> None:
    with started("--read-token") as dashboard:
        status, reported = findings(dashboard, "--url", dashboard.url)
        assert status == 1
        assert "asks for a token, and CVAT sends none" in messages_of(
            reported, "dashboard", "failure"
        )
        assert "--open" in reported[0]["remedy"]


def test_the_dashboard_is_down(dashboard: Dashboard) -> None:
    status, reported = findings(dashboard, "--url", "http://127.0.0.1:9")
    assert status == 1
    assert "nothing listens there" in messages_of(reported, "dashboard", "failure")
    wrong = dashboard.cli("doctor", "cvat", "--url", "nuclio:8070", check=False)
    assert wrong.returncode == 2
    assert "write http://HOST:8070" in wrong.stderr


class _Nuclio(BaseHTTPRequestHandler):
    """Reply to every GET with the list of an old Nuclio, or with the requested function."""

    answer: Any

    def do_GET(self) -> None:
        answer, name = self.answer, self.path.rpartition("/")[2]
        value = answer.get(name, answer) if isinstance(answer, dict) else answer
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


@pytest.fixture
def nuclio() -> Iterator[Callable[[Any], str]]:
    """Serve a value as the list of functions; return the URL."""
    servers = []

    def serve(value: Any) -> str:
        handler = type("Handler", (_Nuclio,), {"answer": value})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def test_one_function_breaks_the_list_of_nuclio(
    dashboard: Dashboard, nuclio: Callable[[Any], str]
) -> None:
    plain = {"metadata": {"name": "plain"}, "spec": {}, "status": {"state": "ready"}}
    odd = {
        "metadata": {"name": "odd", "annotations": {"type": "classifier"}},
        "spec": {"description": ""},
        "status": {},
    }
    status, reported = findings(dashboard, "--url", nuclio({"plain": plain, "odd": odd}))
    assert status == 1
    assert "metadata has no annotations" in messages_of(reported, "plain", "failure")
    assert "CVAT skips it" in messages_of(reported, "odd", "warning")
    assert "CVAT shows no function" in messages_of(reported, "dashboard", "failure")
    status, reported = findings(dashboard, "--url", nuclio([plain]))
    assert "does not list functions by name" in messages_of(reported, "dashboard", "failure")


def test_a_disabled_function_is_ready_to_nuclio(
    dashboard: Dashboard, nuclio: Callable[[Any], str]
) -> None:
    off = {
        "metadata": {"name": "off", "annotations": {"type": "detector"}},
        "spec": {"description": "", "disable": True},
        "status": {"state": "ready", "httpPort": 0},
    }
    _, reported = findings(dashboard, "--url", nuclio({"off": off}))
    assert "CVAT shows it, although it is standby" in messages_of(reported, "off", "warning")
