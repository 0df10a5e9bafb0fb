"""The browser for the tests of the page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.dashboard.conftest import Dashboard
from tests.dashboard.page import isolated_browser
from tests.dashboard.page.browsing import opened

CHROMIUM = Path("/usr/bin/chromium-headless-shell")


# Not with session scope: while it runs, no other test of the process can have an event loop.
@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Chromium, headless and, if possible, in a separate network namespace."""
    if not CHROMIUM.exists():
        pytest.skip(f"Chromium is missing: there is no {CHROMIUM} (a package of Debian)")
    if not isolated_browser.can_isolate():
        print("Chromium shares this machine's network: it aborts requests when interfaces change")
    program = isolated_browser.launcher(CHROMIUM, tmp_path_factory.mktemp("browser"))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-gpu"]
        )
        expect.set_options(timeout=60_000)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, dashboard: Dashboard) -> Iterator[Page]:
    """The page of the shared dashboard, signed in."""
    with opened(browser, dashboard) as page:
        yield page


@pytest.fixture
def to_delete(dashboard: Dashboard) -> Iterator[list[str]]:
    """Names of functions that are deleted at the end of the test."""
    names: list[str] = []
    yield names
    if names:
        dashboard.cli("delete", "function", *names, check=False)
