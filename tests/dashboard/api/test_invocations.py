"""Functions are invoked through the dashboard with Nuclio's headers."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from fnbuild.runtime.http import client
from tests.dashboard.conftest import Answer, Dashboard, write_function

pytestmark = pytest.mark.system

MIRROR = """\
import json
import time

OURS = {
    "/session": {"Set-Cookie": "fnbuild_session=taken; Path=/"},
    "/policy": {
        "Clear-Site-Data": '"cookies"',
        "Access-Control-Allow-Origin": "*",
        "Content-Security-Policy": "default-src *",
    },
    "/cookie": {"Set-Cookie": "own=1"},
}


def handler(context, event):
    context.logger.info_with("asked", path=event.path)
    if event.path == "/fails":
        raise ValueError("no such picture")
    if event.path == "/slow":
        time.sleep(20)
    seen = {
        "method": event.method,
        "path": event.path,
        "headers": {str(key): str(value) for key, value in event.headers.items()},
        "size": len(event.body or b""),
    }
    return context.Response(
        body=json.dumps(seen),
        status_code=418 if event.path == "/teapot" else 200,
        headers={"X-Own": "kept", "X-Nuclio-Own": "not for callers", **OURS.get(event.path, {})},
        content_type="application/json",
    )
"""

SPEC = """\
triggers:
  web:
    kind: http
    numWorkers: 4
    attributes:
      maxRequestBodySize: 67108864
"""


@pytest.fixture(scope="module")
def mirror(dashboard: Dashboard, tmp_path_factory: pytest.TempPathFactory) -> str:
    home = tmp_path_factory.mktemp("functions")
    return dashboard.deploy(write_function(home, "mirror", MIRROR, spec=SPEC))


@pytest.fixture
def function(dashboard: Dashboard, mirror: str) -> Any:
    """Return the dashboard's object of the mirror."""
    return dashboard.request("GET", f"/api/functions/{mirror}", token=False).json


def invoke(
    dashboard: Dashboard, name: str, method: str = "POST", where: str = "", **how: Any
) -> Answer:
    headers = {"X-Nuclio-Function-Name": name, **how.pop("headers", {})}
    how.setdefault("token", False)
    return dashboard.request(method, f"/api/function_invocations{where}", headers=headers, **how)


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_every_method_reaches_the_function(dashboard: Dashboard, mirror: str, method: str) -> None:
    body = None if method == "GET" else b"four"
    answer = invoke(dashboard, mirror, method, body=body)
    assert answer.status == 200, answer.text
    seen = answer.json
    assert (seen["method"], seen["size"]) == (method, len(body or b""))
    assert seen["headers"]["X-Nuclio-Target"] == mirror


def test_a_closed_function_is_invoked_without_its_credentials(
    dashboard: Dashboard, tmp_path: Path
) -> None:
    spec = """\
triggers:
  web:
    kind: http
    attributes:
      authenticationMode: basicAuth
      authentication: {basicAuth: {username: cvat, password: correct-horse}}
"""
    name = dashboard.deploy(write_function(tmp_path, "closed", MIRROR, spec=spec))
    url = dashboard.request("GET", f"/api/functions/{name}", token=False).json["status"]["url"]
    assert client.request("GET", url).status == 401
    for _ in range(2):
        answer = invoke(dashboard, name, headers={"Authorization": "Bearer for-the-handler"})
        assert answer.status == 200
        assert answer.json["headers"]["Authorization"] == "Bearer for-the-handler"
        assert "access" not in str(answer.json["headers"]).lower()
    # Clients cannot send a token of their own to replace it, and none of them sees it.
    assert invoke(dashboard, name, headers={"X-Fnbuild-Access": "wrong"}).status == 200
    for token in (False, True):
        function = dashboard.request("GET", f"/api/functions/{name}", token=token).text
        assert "pbkdf2" not in function
        assert "correct-horse" not in function


def test_the_dashboards_own_page_invokes_functions(dashboard: Dashboard, mirror: str) -> None:
    page = {"Origin": dashboard.url, "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}
    answer = invoke(dashboard, mirror, headers=page)
    assert answer.status == 200
    assert not {"Origin", "Sec-Fetch-Site"} & set(answer.json["headers"])


def test_a_head_has_no_body(dashboard: Dashboard, mirror: str) -> None:
    answer = invoke(dashboard, mirror, "HEAD")
    assert (answer.status, answer.body) == (200, b"")
    assert int(answer.headers["Content-Length"]) > 0


@pytest.mark.parametrize("where", ["", "/", "/some/where", "/a%20b?c=d"])
def test_the_rest_of_the_path_is_ignored(dashboard: Dashboard, mirror: str, where: str) -> None:
    assert invoke(dashboard, mirror, where=where).json["path"] == "/"


@pytest.mark.parametrize(
    ("header", "path"),
    [
        ("", "/"),
        ("/", "/"),
        ("predict/7?top=3&x=%2F", "/predict/7"),
        ("/a b", "/a b"),
        ("//else.where/x", "/else.where/x"),
        ("/ü", "/ü"),
    ],
)
def test_the_functions_path_is_in_a_header(
    dashboard: Dashboard, mirror: str, header: str, path: str
) -> None:
    headers = {"X-Nuclio-Path": header.encode()}
    assert invoke(dashboard, mirror, headers=headers).json["path"] == path


def test_status_and_headers_are_returned(dashboard: Dashboard, mirror: str) -> None:
    answer = invoke(dashboard, mirror, headers={"X-Nuclio-Path": "teapot"})
    assert answer.status == 418
    assert answer.headers["X-Own"] == "kept"
    assert answer.headers["Content-Type"] == "application/json"
    assert "handler" in answer.headers["Server-Timing"]
    assert not [name for name in answer.headers if name.lower().startswith("x-nuclio")]


def test_a_reply_cannot_change_the_dashboards_headers(dashboard: Dashboard, mirror: str) -> None:
    def headers_of(path: str) -> Any:
        return invoke(dashboard, mirror, headers={"X-Nuclio-Path": path}).headers

    assert "set-cookie" not in headers_of("/session")
    assert headers_of("/cookie")["set-cookie"] == "own=1"
    policy = headers_of("/policy")
    assert not {"clear-site-data", "access-control-allow-origin"} & set(policy)
    assert policy["content-security-policy"].startswith("default-src 'none'")


def test_a_handlers_exception_is_the_functions_reply(dashboard: Dashboard, mirror: str) -> None:
    answer = invoke(dashboard, mirror, headers={"X-Nuclio-Path": "fails"})
    assert answer.status == 500
    assert "no such picture" in answer.text


def test_logs_are_returned_on_request(dashboard: Dashboard, mirror: str) -> None:
    headers = {"X-Nuclio-Log-Level": "info"}
    assert "X-Nuclio-Logs" not in invoke(dashboard, mirror, headers=headers).headers
    answer = invoke(dashboard, mirror, headers={**headers, "X-Fnbuild-Logs": "true"})
    assert "asked" in [log["message"] for log in json.loads(answer.headers["X-Nuclio-Logs"])]
    assert "X-Nuclio-Own" not in answer.headers
    assert "X-Fnbuild-Logs" not in answer.json["headers"]


def test_one_of_the_functions_urls_may_be_requested(
    dashboard: Dashboard, mirror: str, function: Any
) -> None:
    status = function["status"]
    for url in (*status["internalInvocationUrls"], *status["externalInvocationUrls"]):
        assert invoke(dashboard, mirror, headers={"X-Nuclio-Invoke-Url": url}).status == 200
        assert invoke(dashboard, mirror, headers={"X-Nuclio-Invoke-Url": f"http://{url}"}).status


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "169.254.169.254", "file:///etc/passwd"])
def test_no_other_url_may_be_requested(dashboard: Dashboard, mirror: str, url: str) -> None:
    answer = invoke(dashboard, mirror, headers={"X-Nuclio-Invoke-Url": url})
    assert answer.status == 400
    assert answer.json["error"] == f"Invalid function url: {url}"


def test_a_name_is_required(dashboard: Dashboard) -> None:
    answer = dashboard.request("POST", "/api/function_invocations", token=False)
    assert (answer.status, answer.json["error"]) == (400, "Function name must be provided")


def test_unknown_functions_are_not_found(dashboard: Dashboard, mirror: str) -> None:
    assert invoke(dashboard, "nobody").status == 404
    elsewhere = {"X-Nuclio-Function-Namespace": "elsewhere"}
    assert invoke(dashboard, mirror, headers=elsewhere).status == 404


@pytest.mark.parametrize("timeout", ["5", "soon", "-1s", "0s", "1h60"])
def test_an_invalid_timeout_is_refused(dashboard: Dashboard, mirror: str, timeout: str) -> None:
    answer = invoke(dashboard, mirror, headers={"X-Nuclio-Invoke-Timeout": timeout})
    assert answer.status == 400
    assert "X-Nuclio-Invoke-Timeout" in answer.json["error"]


def test_a_function_that_is_too_slow(dashboard: Dashboard, mirror: str) -> None:
    headers = {"X-Nuclio-Invoke-Timeout": "300ms", "X-Nuclio-Path": "slow"}
    began = time.monotonic()
    answer = invoke(dashboard, mirror, headers=headers)
    assert time.monotonic() - began < 15
    assert answer.status == 504
    assert answer.json["error"] == "mirror did not answer within 0.3 s"
    assert "X-Nuclio-Invoke-Timeout" in answer.json["hint"]


def test_headers_for_the_dashboard_are_not_passed_on(dashboard: Dashboard, mirror: str) -> None:
    for credential in (f"Bearer {dashboard.token}", _basic(dashboard.token)):
        seen = invoke(dashboard, mirror, headers={"Authorization": credential}).json["headers"]
        assert dashboard.token not in str(seen)
        assert "Authorization" not in seen
    cookies = f'own=1; session=j:{{"sid": "{dashboard.token}"}}; fnbuild_session=write.1.x'
    seen = invoke(dashboard, mirror, headers={"Cookie": cookies}).json["headers"]
    assert seen["Cookie"] == "own=1"


def test_headers_for_the_function_are_passed_on(dashboard: Dashboard, mirror: str) -> None:
    headers = {
        "Authorization": "Bearer of-the-function",
        "Cookie": "session=own",
        "X-Nuclio-Arguments": "3",
        "User-Agent": "tests",
        "Connection": "x-of-this-hop",
        "X-Of-This-Hop": "1",
    }
    seen = invoke(dashboard, mirror, headers=headers).json["headers"]
    for name in ("Authorization", "Cookie", "X-Nuclio-Arguments", "User-Agent"):
        assert seen[name] == headers[name]
    assert "X-Of-This-Hop" not in seen


def _basic(password: str) -> str:
    import base64

    return "Basic " + base64.b64encode(f"me:{password}".encode()).decode()


def test_large_bodies_are_relayed_in_little_memory(dashboard: Dashboard, mirror: str) -> None:
    size = 32 << 20
    before = _peak_mib(dashboard, anew=True)
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda _: invoke(dashboard, mirror, body=bytes(size)), range(4)))
    assert [answer.json["size"] for answer in answers] == [size] * 4
    assert _peak_mib(dashboard) < before + 24


def _peak_mib(dashboard: Dashboard, *, anew: bool = False) -> float:
    """Return the peak memory; `anew` resets it first."""
    if anew:
        Path(f"/proc/{dashboard.process.pid}/clear_refs").write_text("5")
    status = Path(f"/proc/{dashboard.process.pid}/status").read_text()
    line = next(text for text in status.splitlines() if text.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def test_the_function_itself_refuses_too_large_bodies(dashboard: Dashboard, greeter: str) -> None:
    answer = invoke(dashboard, greeter, body=bytes(48 << 20))
    assert answer.status == 413


class _Callers:
    """Threads that invoke a function one request after the other, as long as the block lasts."""

    def __init__(self, dashboard: Dashboard, name: str):
        self._call = lambda: invoke(dashboard, name, body=b"x" * 1000)
        self._ended = threading.Event()
        self.failures: list[str] = []
        self.answered = 0

    def run(self) -> None:
        while not self._ended.is_set():
            answer = self._call()
            self.answered += 1
            if answer.status != 200:
                self.failures.append(f"{answer.status} {answer.text}")

    def __enter__(self) -> _Callers:
        self._threads = [threading.Thread(target=self.run) for _ in range(3)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def changing(dashboard: Dashboard, tmp_path: Path) -> Iterator[Path]:
    folder = write_function(tmp_path, "changing")
    dashboard.deploy(folder)
    yield folder
    dashboard.cli("delete", "function", "changing")


def test_redeploys_lose_no_request(dashboard: Dashboard, changing: Path) -> None:
    with _Callers(dashboard, "changing") as callers:
        for number in range(3):
            dashboard.deploy(changing, "--env", f"TURN={number}")
    assert callers.failures == []
    assert callers.answered > 20


def test_a_function_that_is_not_running(dashboard: Dashboard, changing: Path) -> None:
    assert invoke(dashboard, "changing").status == 200
    dashboard.deploy(changing, "--disable")
    answer = invoke(dashboard, "changing")
    assert answer.status == 503
    assert answer.headers["Retry-After"]
    assert answer.json["error"].startswith("changing is standby")
