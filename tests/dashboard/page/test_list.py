"""The list of functions in a real browser."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.cluster import require_cluster
from tests.dashboard.conftest import Started
from tests.dashboard.page.browsing import go, opened
from tests.dashboard.waiting import until

pytestmark = pytest.mark.system


def test_a_deployed_function_is_listed_in_its_project(page: Page, greeter: str) -> None:
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name=greeter, exact=True))
    expect(row).to_contain_text("ready")
    expect(row).to_contain_text("1/1")
    expect(row).to_contain_text("process")
    assert page.get_by_role("table", name="default").is_visible()


def kubeconfig(folder: Path, server: str) -> Path:
    path = folder / "kubeconfig"
    named = [{"name": "away", "cluster": {"server": server}}]
    context = [{"name": "away", "context": {"cluster": "away", "user": "nobody"}}]
    users = [{"name": "nobody", "user": {}}]
    content = {"clusters": named, "contexts": context, "users": users, "current-context": "away"}
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", **content}))
    return path


def test_an_error_of_a_platform_is_shown_on_the_list_until_it_is_dismissed(
    browser: Browser, started: Started, tmp_path: Path
) -> None:
    env = {"KUBECONFIG": str(kubeconfig(tmp_path, "http://127.0.0.1:9"))}
    with started("--show", "kube", env=env) as dashboard:

        def notices() -> str:
            platforms = dashboard.request("GET", "/api/session").json["platforms"]
            return str([entry["notices"] for entry in platforms if entry["name"] == "kube"])

        # A platform that has not answered in time is requested again half a minute later.
        until(lambda: "127.0.0.1:9" in notices(), "the error is shown")
        with opened(browser, dashboard) as page:
            notice = page.locator(".notice").filter(has_text="kube: ")
            expect(notice).to_contain_text("127.0.0.1:9")
            go(page, "/deploy")
            expect(page.get_by_role("heading", name="Deploy")).to_be_visible()
            expect(notice).to_have_count(0)
            go(page, "/")
            notice.get_by_role("button", name="Dismiss").click()
            expect(notice).to_have_count(0)
            page.reload()
            expect(page.get_by_role("heading", name="No functions here yet")).to_be_visible()
            expect(notice).to_have_count(0)
        with opened(browser, dashboard) as page:
            expect(page.locator(".notice")).to_contain_text("kube: ")


def test_a_missing_namespace_is_an_empty_one(started: Started) -> None:
    require_cluster()
    with started("--show", "kube", "-n", "fnbuild-test-absent") as dashboard:
        assert dashboard.request("GET", "/api/functions").json == {}

        def notices() -> dict[str, list[str]]:
            platforms = dashboard.request("GET", "/api/session").json["platforms"]
            return {entry["name"]: entry["notices"] for entry in platforms}

        until(lambda: notices().get("kube") == [], "the cluster is shown, and nothing is wrong")


def test_the_bar_links_to_the_description_of_the_api(page: Page) -> None:
    page.get_by_role("navigation", name="Main").get_by_role("link", name="API").click()
    expect(page).to_have_title("API \u00b7 fnbuild")
    bar = page.get_by_role("navigation", name="Main")
    bar.get_by_role("link", name="Functions").click()
    expect(page.get_by_role("heading", name="Functions", exact=True)).to_be_visible()
