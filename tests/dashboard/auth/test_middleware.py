"""Authentication: tokens in every form, host names, origins, headers, and failed attempts."""

from __future__ import annotations

import base64
from urllib.parse import quote

import pytest
from nuclio.auth import AuthInfo, AuthKinds

from fnbuild.dashboard.auth.tokens import configured_token
from fnbuild.errors import InputError
from tests.dashboard.conftest import Answer, Dashboard, Started

pytestmark = pytest.mark.system

CHANGE = ("DELETE", "/api/functions")
NOTHING = {"metadata": {"name": "is-not-there"}}


def change(dashboard: Dashboard, **headers: str) -> Answer:
    """Send a request that would change nothing, with these headers."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return dashboard.request(*CHANGE, json=NOTHING, headers=sent, token=False)


def basic(password: str, user: str = "anybody") -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def session_of(dashboard: Dashboard, token: str | None = None) -> Answer:
    body = {"token": dashboard.token if token is None else token}
    return dashboard.request("POST", "/api/session", json=body, token=False)


class TestTokens:
    def test_every_form_is_accepted(self, dashboard: Dashboard) -> None:
        token = dashboard.token
        sid = f'j:{{"sid": "{token}"}}'
        for headers in (
            {"Authorization": f"Bearer {token}"},
            {"Authorization": f"bearer  {token}"},
            {"Authorization": basic(token)},
            {"Authorization": basic(token, "")},
            {"Cookie": f"session={sid}"},
            {"Cookie": f"a=b; session={quote(sid)}; c=d"},
            {"Cookie": 'session="{}"'.format(sid.replace('"', '\\"'))},
        ):
            assert change(dashboard, **headers).status == 204, headers

    def test_nuclio_jupyters_form_is_accepted(self, dashboard: Dashboard) -> None:
        import requests

        for info in (
            AuthInfo(password=dashboard.token, mode=AuthKinds.iguazio),
            AuthInfo("me", dashboard.token),
        ):
            answer = requests.delete(
                f"{dashboard.url}/api/functions", json=NOTHING, auth=info.to_requests_auth()
            )
            assert answer.status_code == 204

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"Authorization": "Bearer"},
            {"Authorization": "Bearer ü"},
            {"Authorization": "Basic ="},
            {"Authorization": basic("")},
            {"Authorization": "Digest a=b"},
            {"Cookie": "session="},
            {"Cookie": 'session=j:{"sid": 5}'},
            {"Cookie": "session=j:[" + "[" * 5000},
            {"Cookie": "fnbuild_session=write.9999999999.00"},
            {"Cookie": "fnbuild_session=write.٣.00"},
            {"Cookie": "fnbuild_session=none.9999999999."},
        ],
        ids=lambda headers: next(iter(headers.values()), "none")[:40],
    )
    def test_a_request_without_a_token_is_refused(
        self, started_once: Dashboard, headers: dict[str, str]
    ) -> None:
        encoded = {name: value.encode() for name, value in headers.items()}
        answer = started_once.request(*CHANGE, json=NOTHING, headers=encoded, token=False)
        assert answer.status == 401
        assert answer.headers["www-authenticate"] == 'Basic realm="fnbuild"'
        assert "token" in answer.json["hint"]

    def test_the_browser_shows_no_login_dialog_for_the_page(self, dashboard: Dashboard) -> None:
        assert "www-authenticate" not in change(dashboard, Origin=dashboard.url).headers
        assert "www-authenticate" not in change(dashboard, User_Agent="Mozilla/5.0").headers

    def test_wrong_tokens_are_delayed_and_lock_no_client_out(self, started: Started) -> None:
        with started() as dashboard:
            session = session_of(dashboard).headers["set-cookie"].partition(";")[0]
            wrong = [change(dashboard, Authorization=f"Bearer {n}").status for n in range(5)]
            wrong += [session_of(dashboard, str(n)).status for n in range(5)]
            assert wrong == [401] * 10
            for refused in (
                change(dashboard, Authorization="Bearer 11"),
                session_of(dashboard, "12"),
            ):
                assert refused.status == 429
                assert 0 < int(refused.headers["retry-after"]) <= 60
            # Clients with the right token or a session, and readers, are not affected.
            assert change(dashboard, Authorization=f"Bearer {dashboard.token}").status == 204
            assert session_of(dashboard).status == 204
            assert change(dashboard, Cookie=session).status == 204
            bearer = {"Authorization": "Bearer 12"}
            assert dashboard.request("GET", "/api/functions", headers=bearer).status == 200

    def test_a_new_token_ends_the_old_one_and_its_sessions(self, started: Started) -> None:
        with started() as dashboard:
            session = session_of(dashboard).headers["set-cookie"].partition(";")[0]
            assert change(dashboard, Cookie=session).status == 204
            token = dashboard.cli("dashboard", "token", "--new").stdout.strip()
            assert change(dashboard, Cookie=session).status == 401
            assert change(dashboard, Authorization=f"Bearer {dashboard.token}").status == 401
            assert change(dashboard, Authorization=f"Bearer {token}").status == 204

    def test_a_read_token(self, started: Started) -> None:
        with started() as dashboard:
            token = dashboard.cli("dashboard", "token", "--read").stdout.strip()
            refused = change(dashboard, Authorization=f"Bearer {token}")
            assert refused.status == 403
            assert "write token" in refused.json["hint"]

    def test_a_token_from_a_file(self, started: Started, tmp_path) -> None:
        secret = tmp_path / "secret"
        secret.write_text("from-a-secret-0123456789\n")
        values = {"FNBUILD_DASHBOARD_TOKEN_FILE": str(secret)}
        with started(env=values) as dashboard:
            assert change(dashboard, Authorization="Bearer from-a-secret-0123456789").status == 204
            assert change(dashboard, Authorization=f"Bearer {dashboard.token}").status == 401

    def test_a_token_that_can_be_guessed_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FNBUILD_DASHBOARD_TOKEN", "pass")
        with pytest.raises(InputError, match="FNBUILD_DASHBOARD_TOKEN: a token of 4 characters"):
            configured_token("write")

    def test_the_command_line_shows_no_token_twice(self, started: Started) -> None:
        with started() as dashboard:
            done = dashboard.cli("dashboard", "token", check=False)
            assert done.returncode == 1
            assert "it is not stored" in done.stderr
            assert "--new" in done.stderr


class TestSessions:
    def test_the_cookie_is_hidden_from_scripts_and_other_sites(self, dashboard: Dashboard) -> None:
        answer = session_of(dashboard)
        assert answer.status == 204
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("fnbuild_session=write.")
        for part in ("HttpOnly", "SameSite=strict", "Path=/", "Max-Age="):
            assert part in cookie
        assert dashboard.token not in cookie
        held = {"Cookie": cookie.partition(";")[0]}
        role = dashboard.request("GET", "/api/session", headers=held, token=False).json["role"]
        assert role == "write"

    def test_a_session_outlives_the_dashboard(self, started: Started) -> None:
        with started() as dashboard:
            session = session_of(dashboard).headers["set-cookie"].partition(";")[0]
            dashboard.kill()
        with started() as dashboard:
            assert change(dashboard, Cookie=session).status == 204

    def test_a_changed_session_is_invalid(self, dashboard: Dashboard) -> None:
        session = session_of(dashboard).headers["set-cookie"].partition(";")[0]
        ends = session.split(".")[1]
        for changed in (
            session.replace(ends, str(int(ends) + 1)),
            session[:-1] + ("0" if session[-1] != "0" else "1"),
        ):
            assert change(dashboard, Cookie=changed).status == 401

    def test_a_session_is_ended(self, dashboard: Dashboard) -> None:
        answer = dashboard.request("DELETE", "/api/session", token=False)
        assert answer.status == 204
        assert 'fnbuild_session=""' in answer.headers["set-cookie"]
        assert "Max-Age=0" in answer.headers["set-cookie"]

    def test_a_wrong_token(self, dashboard: Dashboard) -> None:
        assert session_of(dashboard, "wrong").status == 401
        values = {"token": 5}
        assert dashboard.request("POST", "/api/session", json=values).status == 400

    def test_the_session_has_role_platforms_and_library(self, dashboard: Dashboard) -> None:
        reply = dashboard.request("GET", "/api/session", token=False).json
        assert reply["role"] == "read"
        assert reply["platform"] == "process"
        assert reply["platforms"] == [{"name": "process", "notices": [], "clusterNames": False}]
        assert reply["library"] is True


class TestNames:
    @pytest.mark.parametrize(
        "host",
        [
            "127.0.0.1:8070",
            "[::1]:8070",
            "10.1.2.3",
            "localhost",
            "LOCALHOST:80",
            "app.localhost",
            "nuclio",
            "nuclio:8070",
            "host.docker.internal:8070",
            "dashboard.nuclio.svc",
            "dashboard.nuclio.svc.cluster.local.",
        ],
    )
    def test_allowed_host_names(self, dashboard: Dashboard, host: str) -> None:
        for path in ("/api/versions", "/"):
            assert dashboard.request("GET", path, headers={"Host": host}).status == 200

    @pytest.mark.parametrize(
        "host",
        [
            "evil.example",
            "localhost.evil.example:8070",
            "127.0.0.1.evil.example",
            "evil.example@localhost",
            "[::1",
            "localhost:99999999",
            "a b.c",
        ],
    )
    def test_refused_host_names(self, dashboard: Dashboard, host: str) -> None:
        for path in ("/api/versions", "/", "/static/app.js"):
            answer = dashboard.request("GET", path, headers={"Host": host})
            assert answer.status in (400, 421)

    def test_host_names_of_the_flag_are_allowed(self, started: Started) -> None:
        with started("--allowed-host", "Vision.Example") as dashboard:
            own = {"Host": "vision.example"}
            assert dashboard.request("GET", "/api/versions", headers=own).status == 200
            other = {"Host": "other.example"}
            refused = dashboard.request("GET", "/api/versions", headers=other)
            assert refused.status == 421
            assert "--allowed-host" in refused.json["hint"]


class TestOrigins:
    @pytest.mark.parametrize(
        "origin", ["http://evil.example", "null", "http://127.0.0.1:1", "http://[::", "file://"]
    )
    def test_pages_of_other_origins_are_refused(self, dashboard: Dashboard, origin: str) -> None:
        bearer = f"Bearer {dashboard.token}"
        assert change(dashboard, Origin=origin, Authorization=bearer).status == 403
        answer = dashboard.request("GET", "/api/functions", headers={"Origin": origin})
        assert answer.status == 403
        assert "access-control-allow-origin" not in answer.headers

    def test_the_dashboards_own_page_is_allowed(self, dashboard: Dashboard) -> None:
        bearer = f"Bearer {dashboard.token}"
        assert change(dashboard, Origin=dashboard.url, Authorization=bearer).status == 204
        behind_tls = {"Origin": "https://localhost", "Host": "localhost"}
        assert dashboard.request("GET", "/api/versions", headers=behind_tls).status == 200


@pytest.mark.parametrize(
    ("path", "status"), [("/", 200), ("/api/versions", 200), ("/api/nothing", 404)]
)
def test_headers_prevent_foreign_scripts(dashboard: Dashboard, path: str, status: int) -> None:
    answer = dashboard.request("GET", path, token=False)
    assert answer.status == status
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"


def test_a_function_cannot_change_them(dashboard: Dashboard, greeter: str) -> None:
    answer = dashboard.request(
        "POST",
        "/api/function_invocations",
        body=b"<script>alert(1)</script>",
        headers={"X-Nuclio-Function-Name": greeter, "Content-Type": "text/html"},
        token=False,
    )
    assert answer.status == 200
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
        "/static//etc/passwd",
        "/static/%00",
        "/static",
    ],
)
def test_no_path_leaves_the_page(dashboard: Dashboard, path: str) -> None:
    assert dashboard.request("GET", path).status == 404


@pytest.fixture(scope="module")
def started_once(tmp_path_factory, fetched):
    """A dashboard for wrong tokens only, because it accepts ten a minute."""
    from tests.dashboard.conftest import new_data_dir, running

    place = new_data_dir(tmp_path_factory.mktemp("wrong"), fetched)
    with running(place, "--show", "process") as running_dashboard:
        yield running_dashboard
