"""A dashboard's addresses, its messages, and its end."""

from __future__ import annotations

import re
import socket
import stat
import time
from pathlib import Path

import pytest
import urllib3

from tests.dashboard.conftest import Dashboard, Started, write_function
from tests.dashboard.waiting import until

pytestmark = pytest.mark.system

SLOW = """\
import time
from pathlib import Path


def handler(context, event):
    Path({begun!r}).touch()
    time.sleep(2)
    return "done"
"""


def test_a_function_is_deployed_and_listed(dashboard: Dashboard, greeter: str) -> None:
    def ready() -> bool:
        reply = dashboard.request("GET", "/api/functions", token=False).json
        return greeter in reply and reply[greeter]["status"]["state"] == "ready"

    until(ready, "the list shows what was deployed", 10)


def test_health_answers_on_its_own_address(dashboard: Dashboard) -> None:
    for path in ("/live", "/ready"):
        answer = dashboard.request("GET", dashboard.health + path, token=False)
        assert (answer.status, answer.text) == (200, "OK")
    assert dashboard.request("GET", f"{dashboard.health}/api/functions").status == 404


@pytest.mark.parametrize("path", ["/api/functions/", "/api/functions//", "/live/"])
def test_trailing_slashes_are_ignored(dashboard: Dashboard, path: str) -> None:
    assert dashboard.request("GET", path).status == 200


def test_unknown_addresses_and_methods_are_answered_as_json(dashboard: Dashboard) -> None:
    unknown = dashboard.request("GET", "/api/nothing")
    assert unknown.status == 404
    assert unknown.json["code"] == "not-found"
    wrong = dashboard.request("POST", "/api/versions", json={})
    assert wrong.status == 405
    assert "GET" in wrong.headers["allow"]
    assert set(wrong.json) == {"error", "errorStackTrace", "hint", "code", "diagnostics"}


def test_head_answers_like_get_without_a_body(dashboard: Dashboard) -> None:
    for path in ("/api/versions", "/api/live", "/"):
        answer = dashboard.request("HEAD", path, timeout=30)
        assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"[" * 100_000, b"\xff", b'"text"', b"null"])
def test_a_body_that_is_not_an_object(dashboard: Dashboard, body: bytes) -> None:
    answer = dashboard.request("POST", "/api/session", body=body)
    assert answer.status == 400
    assert "JSON" in answer.json["error"]
    assert answer.json["hint"]


@pytest.mark.parametrize("name", ["..", "a/b", "x" * 64, "-a", "ä".encode().decode("latin-1")])
@pytest.mark.parametrize("kind", ["Function", "Project", "Function-Event"])
def test_an_invalid_namespace(dashboard: Dashboard, kind: str, name: str) -> None:
    headers = {f"X-Nuclio-{kind}-Namespace": name}
    answer = dashboard.request("GET", "/api/functions", headers=headers)
    assert answer.status == 400
    assert "cannot be a namespace" in answer.json["error"]


def test_a_body_that_is_too_large(dashboard: Dashboard) -> None:
    body = b'{"token": "' + b"x" * (9 << 20) + b'"}'
    assert dashboard.request("POST", "/api/session", body=body).status == 413


def test_a_body_of_unknown_length_that_is_too_large(dashboard: Dashboard) -> None:
    def parts():
        for _ in range(9):
            yield b"x" * (1 << 20)

    answer = dashboard.request("POST", "/api/session", body=parts())
    assert answer.status == 413
    assert "8 MiB" in answer.json["error"]


def test_a_port_in_use(dashboard: Dashboard, tmp_path: Path) -> None:
    where = dashboard.url.removeprefix("http://")
    done = dashboard.cli("dashboard", "--listen", where, check=False)
    assert done.returncode == 1
    assert f"error: cannot listen on {where}: Address already in use\n" in done.stderr
    assert "another program has the port" in done.stderr


@pytest.mark.parametrize(
    ("where", "message", "status"),
    [
        ("no.such.host.invalid:0", "the host no.such.host.invalid is unknown", 2),
        ("203.0.113.7:0", "`ip address` lists them", 1),
    ],
)
def test_an_address_of_another_machine(
    dashboard: Dashboard, where: str, message: str, status: int
) -> None:
    for flags in (["--listen", where], ["--listen", "127.0.0.1:0", "--health", where]):
        done = dashboard.cli("dashboard", *flags, check=False)
        assert done.returncode == status
        assert f"cannot listen on {where}" in done.stderr
        assert message in done.stderr
        assert "another program" not in done.stderr


def test_a_requested_platform_that_does_not_answer_is_reported(started: Started) -> None:
    nobody = {"DOCKER_HOST": "tcp://127.0.0.1:9"}
    with started("--show", "local", env=nobody) as dashboard:
        message = "the platform local does not answer now: "
        until(lambda: message in dashboard.output, "the missing engine is reported")
    with started("--show", "process", env=nobody) as dashboard:
        assert dashboard.request("GET", "/api/functions").status == 200
        assert "does not answer" not in dashboard.output


def test_the_token_is_shown_once(started: Started, tmp_path: Path) -> None:
    folder = tmp_path / "fresh"
    folder.mkdir(mode=0o700)
    with started(
        data_dir=folder, env={"FNBUILD_DASHBOARD_TOKEN": "a-token-of-20-or-more"}
    ) as dashboard:
        assert "token, shown only now" not in dashboard.output
        assert "plain HTTP" not in dashboard.output
        assert dashboard.request("GET", "/api/audit").status == 200
    (tmp_path / "fresh.token").write_text("")
    with started(data_dir=folder) as dashboard:
        shown = re.search(r"the write token, shown only now: (\S{43})$", dashboard.output, re.M)
        assert shown is not None
        assert dashboard.output.startswith("the write token")
        assert "make token" not in dashboard.output
        dashboard.token = shown.group(1)
        assert dashboard.request("GET", "/api/audit").status == 200
    with started(data_dir=folder) as again:
        assert "shown only now" not in again.output
        bearer = {"Authorization": f"Bearer {shown.group(1)}"}
        assert again.request("GET", "/api/audit", headers=bearer).status == 200


def test_the_token_is_not_stored(started: Started) -> None:
    with started() as dashboard:
        dashboard.request("POST", "/api/session", json={"token": dashboard.token})
        for path in dashboard.data_dir.rglob("*"):
            if path.is_file():
                assert dashboard.token.encode() not in path.read_bytes(), path
        database = dashboard.data_dir / "fnbuild.db"
        assert stat.S_IMODE(database.stat().st_mode) == 0o600


def test_several_addresses_with_separate_access(started: Started) -> None:
    flags = ("--listen", "127.0.0.1:0", "--listen", "0.0.0.0:0", "--open", "[::1]:0")
    with started(*flags, listen=False) as dashboard:
        loopback, everywhere, open_one = dashboard.urls
        assert f"{everywhere}, and at every address of this machine (" in dashboard.output
        assert "plain HTTP" in dashboard.output
        for url, status in ((loopback, 200), (everywhere, 401), (open_one, 200)):
            path = f"{url}/api/functions"
            assert dashboard.request("GET", path, token=False).status == status
            assert dashboard.request("GET", path).status == 200
        assert "(reading needs a token)" in dashboard.output


def test_with_a_read_token_no_address_is_open(started: Started) -> None:
    with started("--read-token") as dashboard:
        reading = re.search(r"the read token, shown only now: (\S+)", dashboard.output)
        assert reading is not None
        bearer = {"Authorization": f"Bearer {reading.group(1)}"}
        assert dashboard.request("GET", "/api/functions", token=False).status == 401
        assert dashboard.request("GET", "/", token=False).status == 200
        assert dashboard.request("GET", "/api/functions", headers=bearer).status == 200
        assert dashboard.request("GET", "/api/audit", headers=bearer).status == 403
        assert dashboard.request("GET", "/api/session", headers=bearer).json["role"] == "read"


def test_a_stop_waits_for_requests_and_ends_streams(started: Started, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    folder = write_function(tmp_path, "slow", SLOW.format(begun=str(begun)))
    with started() as dashboard:
        dashboard.deploy(folder)
        host, port = dashboard.url.removeprefix("http://").split(":")
        stream = urllib3.PoolManager().request(
            "GET", f"{dashboard.url}/api/live", preload_content=False, timeout=30
        )
        with socket.create_connection((host, int(port)), timeout=30) as slow:
            slow.sendall(
                b"POST /api/function_invocations HTTP/1.1\r\nHost: localhost\r\n"
                b"X-Nuclio-Function-Name: slow\r\nContent-Length: 0\r\n\r\n"
            )
            until(begun.exists, "the request is with the function")
            assert dashboard.stop() == 0
            answer = slow.recv(65536)
        assert answer.startswith(b"HTTP/1.1 200")
        stream.drain_conn()


def test_a_stop_is_quick_without_requests(started: Started) -> None:
    with started() as dashboard:
        began = time.monotonic()
        assert dashboard.stop() == 0
        assert time.monotonic() - began < 15, "it waits for something"
        assert "Traceback" not in dashboard.output


def test_an_idle_dashboard_uses_little_memory(started: Started) -> None:
    with started() as dashboard:
        dashboard.request("GET", "/api/functions")
        held = Path(f"/proc/{dashboard.process.pid}/status").read_text()
        resident = re.search(r"VmRSS:\s+(\d+) kB", held)
        assert resident is not None
        assert int(resident.group(1)) < 80 * 1024
        until(lambda: dashboard.request("GET", "/api/session").status == 200, "it answers")
