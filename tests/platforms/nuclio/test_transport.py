"""Requests to a dashboard: credentials, and responses of other servers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fnbuild.errors import (
    FnbuildError,
    ForbiddenError,
    InputError,
    NotFoundError,
    PlatformError,
    PreconditionError,
    UnauthorizedError,
    UnavailableError,
    UsageError,
)
from fnbuild.platforms.nuclio import NuclioPlatform
from fnbuild.platforms.nuclio.client import DashboardClient
from fnbuild.platforms.nuclio.transport import DashboardAddress, Transport
from tests.engine import free_port
from tests.platforms.nuclio.fake_dashboard import serve
from tests.platforms.nuclio.fake_nuclio import Nuclio

VARIABLES = ("URL", "USER", "PASSWORD", "TOKEN")
KUBECONFIG = """\
apiVersion: v1
kind: Config
current-context: here
clusters: [{name: here, cluster: {server: "https://127.0.0.1:1"}}]
contexts: [{name: here, context: {cluster: here, user: me}}]
users: [{name: me, user: {}}]
"""


@pytest.fixture(autouse=True)
def _no_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(f"FNBUILD_NUCLIO_{name}", raising=False)


@contextmanager
def constant_server(status: int, body: bytes, **headers: str) -> Iterator[str]:
    """Run a server with one response to all requests, and yield its URL."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

        def do_GET(self) -> None:
            self.send_response(status)
            for name, text in headers.items():
                self.send_header(name, text)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def protected_dashboard(tmp_path: Path, *, credentials: str = "", token: str = "") -> Iterator[str]:
    server = serve(Nuclio(tmp_path, credentials=credentials, token=token))
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def client_for(monkeypatch: pytest.MonkeyPatch, **values: str) -> DashboardClient:
    for name, text in values.items():
        monkeypatch.setenv(f"FNBUILD_NUCLIO_{name.upper()}", text)
    address = DashboardAddress.from_environment()
    assert address is not None
    return DashboardClient(address)


def test_user_and_password_are_sent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # Proxies are not used for this machine.
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    with protected_dashboard(tmp_path, credentials="ann:sword/fish") as address:
        with pytest.raises(UnauthorizedError) as failure:
            client_for(monkeypatch, url=f"http://{address}").check()
        assert "FNBUILD_NUCLIO_USER" in (failure.value.hint or "")
        client = client_for(monkeypatch, url=f"http://ann:sword%2Ffish@{address}/")
        client.check()
        assert client.place == f"the Nuclio dashboard at http://{address}"
        client_for(monkeypatch, url=f"http://{address}", user="ann", password="sword/fish").check()
        with pytest.raises(UnauthorizedError) as failure:
            client_for(monkeypatch, password="dog/fish").check()
        assert "fish" not in f"{failure.value.message} {failure.value.hint}"


def test_a_token_is_sent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with protected_dashboard(tmp_path, token="swordfish") as address:
        with pytest.raises(ForbiddenError, match="Authorization") as failure:
            client_for(monkeypatch, url=f"http://{address}").check()
        assert "FNBUILD_NUCLIO_TOKEN" in (failure.value.hint or "")
        client_for(monkeypatch, token="swordfish").check()


@pytest.mark.parametrize("url", ["nuclio", "127.0.0.1:8070", "ftp://nuclio", "http://a:b:c"])
def test_invalid_urls_are_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="FNBUILD_NUCLIO_URL"):
        client_for(monkeypatch, url=url)


def test_a_missing_configuration_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text(KUBECONFIG)
    # A kubeconfig does not replace the URL of a dashboard.
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    with pytest.raises(UnavailableError, match="no Nuclio dashboard is configured") as failure:
        NuclioPlatform().deployments("nuclio")
    assert "FNBUILD_NUCLIO_URL=http://HOST:8070" in (failure.value.hint or "")
    assert "kubectl port-forward" in (failure.value.hint or "")


def test_an_unreachable_dashboard_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(UnavailableError, match="refused") as failure:
        client_for(monkeypatch, url=url).check()
    assert url in failure.value.message


@pytest.mark.parametrize(
    ("status", "body", "kind", "message"),
    [
        (200, b"<html>welcome</html>", UnavailableError, "is not a Nuclio dashboard"),
        (200, b"[]", UnavailableError, "is not a Nuclio dashboard"),
        (302, b"", UnavailableError, "redirects"),
        (504, b"<html>nginx</html>", UnavailableError, "HTTP status 504"),
        (400, b'{"error": "Invalid image passed"}', InputError, "Nuclio: Invalid image passed"),
        (404, b'{"error": "Function not found"}', NotFoundError, "Function not found"),
        (412, b'{"error": "Project does not exist"}', PreconditionError, "Project does not"),
        (500, b'{"error": "If image is passed, runtime must be"}', PlatformError, "runtime must"),
        (500, b"", PlatformError, "HTTP status 500"),
    ],
)
def test_error_responses_are_explained(
    status: int, body: bytes, kind: type[FnbuildError], message: str
) -> None:
    with constant_server(status, body, Location="/login") as url:
        with pytest.raises(kind) as failure:
            DashboardClient(DashboardAddress(url)).check()
        assert message in failure.value.message


def test_the_stack_of_an_error_is_its_detail() -> None:
    body = b'{"error": "no such image", "errorStackTrace": "Error - no such image\\n  at x.go:1"}'
    with constant_server(500, body) as url, pytest.raises(PlatformError) as failure:
        Transport(DashboardAddress(url)).json("GET", "/api/functions")
    assert failure.value.message == "Nuclio: no such image"
    assert "x.go:1" in (failure.value.detail or "")
