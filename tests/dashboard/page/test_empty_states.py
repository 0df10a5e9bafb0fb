"""The page without functions, without a session, and without its dashboard."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.dashboard.conftest import Started, write_function
from tests.dashboard.page.browsing import go, opened

pytestmark = pytest.mark.system


def test_without_functions_the_page_shows_the_next_steps(
    browser: Browser, started: Started
) -> None:
    with started() as dashboard, opened(browser, dashboard) as page:
        expect(page.get_by_role("heading", name="No functions here yet")).to_be_visible()
        expect(page.get_by_text("fnbuild init")).to_be_visible()
        page.get_by_role("link", name="Deploy a function").click()
        expect(page.get_by_role("region", name="From the library")).to_contain_text("OpenCV")


def test_without_a_library_the_page_shows_how_to_add_one(
    browser: Browser, started: Started, tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with (
        started("--library", str(empty)) as dashboard,
        opened(browser, dashboard, at="/deploy") as page,
    ):
        expect(page.get_by_text("There is no library")).to_be_visible()


def test_a_dashboard_that_is_restarted(browser: Browser, started: Started, tmp_path: Path) -> None:
    with started() as dashboard:
        name = dashboard.deploy(write_function(tmp_path, "page-stays"))
        port = dashboard.url.rpartition(":")[2]
        with opened(browser, dashboard) as page:
            link = page.get_by_role("link", name=name, exact=True)
            expect(link).to_be_visible()
            dashboard.kill()
            expect(page.get_by_role("alert")).to_contain_text("does not answer")
            expect(link).to_be_visible()
            with started("--listen", f"127.0.0.1:{port}", listen=False):
                expect(page.get_by_role("alert")).to_be_hidden()
                expect(page.get_by_role("status").filter(has_text="Live")).to_be_visible()


def test_failed_loads_are_repeated_when_the_dashboard_is_back(
    browser: Browser, started: Started, tmp_path: Path
) -> None:
    with started() as dashboard:
        name = dashboard.deploy(write_function(tmp_path, "page-waits"))
        port = dashboard.url.rpartition(":")[2]
        with opened(browser, dashboard) as page:
            page.get_by_role("link", name=name, exact=True).click()
            logs = page.get_by_role("link", name="Logs")
            expect(logs).to_be_visible()
            dashboard.kill()
            for link in (logs, page.get_by_role("link", name="Deploy", exact=True)):
                link.click()
                expect(page.get_by_role("heading", name="Not connected")).to_be_visible()
                alert = page.get_by_role("main").get_by_role("alert")
                expect(alert).to_contain_text("the dashboard does not answer")
                expect(alert).to_contain_text("automatically")
            with started("--listen", f"127.0.0.1:{port}", listen=False):
                expect(page.get_by_role("heading", name="Deploy a function")).to_be_visible()
                go(page, f"/functions/{name}/logs")
                expect(page.get_by_label(f"Log of {name}")).to_contain_text("ready")


def test_a_dashboard_that_requires_a_token_for_reading(
    browser: Browser, started: Started, tmp_path: Path
) -> None:
    with started("--read-token") as dashboard:
        dashboard.deploy(write_function(tmp_path, "page-hidden"))
        with opened(browser, dashboard, signed_in=False) as page:
            expect(page.get_by_role("heading", name="Not signed in")).to_be_visible()
            assert "page-hidden" not in page.content()
            page.get_by_role("main").get_by_role("link", name="Sign in").click()
            page.get_by_role("textbox", name="Token").fill(dashboard.token)
            page.get_by_role("button", name="Sign in").click()
            expect(page.get_by_role("link", name="page-hidden", exact=True)).to_be_visible()


def test_the_audit_log_needs_the_token_and_lists_changes(
    browser: Browser, started: Started, tmp_path: Path
) -> None:
    with started() as dashboard:
        name = dashboard.deploy(write_function(tmp_path, "page-audited"))
        with opened(browser, dashboard, signed_in=False, at="/audit") as page:
            page.get_by_role("main").get_by_role("button", name="Sign in").click()
            page.get_by_role("textbox", name="Token").fill(dashboard.token)
            page.get_by_role("dialog").get_by_role("button", name="Sign in").click()
            rows = page.get_by_role("row").filter(has_text=name)
            expect(rows.first).to_contain_text("deploy")
            go(page, f"/functions/{name}")
            page.get_by_role("button", name="Delete").click()
            page.get_by_role("dialog").get_by_role("button", name="Delete").click()
            expect(page.get_by_role("heading", name="No functions here yet")).to_be_visible()
            go(page, "/audit")
            expect(rows.filter(has_text="delete").first).to_contain_text("127.0.0.1")
            output = dashboard.cli("get", "audit").stdout
            assert "delete" in output
            assert name in output


def test_an_unknown_route_links_back_to_the_list(page: Page) -> None:
    go(page, "/nowhere")
    expect(page.get_by_role("alert")).to_contain_text("no page at #/nowhere")
    page.get_by_role("link", name="All functions").click()
    expect(page.get_by_role("heading", name="Functions", exact=True)).to_be_visible()


def test_requests_aborted_by_the_browser_are_repeated(page: Page) -> None:
    """This happens when the interface of a container appears: net::ERR_NETWORK_CHANGED."""
    requested: list[str] = []

    def drop(route: Route) -> None:
        requested.append(route.request.method)
        if len(requested) < 3:
            route.abort()
        else:
            route.continue_()

    page.route("**/api/library", drop)
    go(page, "/deploy")
    expect(page.get_by_role("region", name="From the library")).to_contain_text("OpenCV")
    assert requested == ["GET"] * 3

    # A change is sent once.
    requested.clear()
    page.route("**/api/function_templates/render", drop)
    failed = page.evaluate(
        """async () => {
            const { call } = await import("/static/api.js");
            return call("POST", "/api/function_templates/render", { json: {} })
                .catch((error) => error.message);
        }"""
    )
    assert failed == "the dashboard does not answer"
    assert requested == ["POST"]
