"""The sign-in link of `fnbuild dashboard` in a browser."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.dashboard.conftest import Dashboard, Started
from tests.dashboard.page.browsing import opened

pytestmark = pytest.mark.system


def sign_in_route(dashboard: Dashboard) -> str:
    """Return the part of the printed link after the `#`."""
    match = re.search(
        r"^sign in, .*: (http://127\.0\.0\.1:\d+)/#(token=\S{43})$", dashboard.output, re.M
    )
    assert match is not None, dashboard.output
    assert match[1] == dashboard.url
    return match[2]


def test_a_link_signs_in_once_and_leaves_no_trace(browser: Browser, started: Started) -> None:
    with started("--sign-in-link") as dashboard:
        route = sign_in_route(dashboard)
        with opened(browser, dashboard, signed_in=False, at=route) as page:
            expect(page.get_by_role("link", name="Signed in")).to_be_visible()
            assert page.url == f"{dashboard.url}/#/"
            page.goto("about:blank")
            page.go_back()
            assert "token" not in page.url
        with opened(browser, dashboard, signed_in=False, at=route) as page:
            expect(page.get_by_role("alert")).to_contain_text("This link does not sign in")
            expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
            assert page.url == f"{dashboard.url}/#/session"


def test_a_link_works_in_an_open_page(browser: Browser, started: Started) -> None:
    with (
        started("--sign-in-link") as dashboard,
        opened(browser, dashboard, signed_in=False) as page,
    ):
        expect(page.get_by_role("link", name="Sign in")).to_be_visible()
        page.evaluate("hash => { location.hash = hash }", sign_in_route(dashboard))
        expect(page.get_by_role("link", name="Signed in")).to_be_visible()
        assert page.url == f"{dashboard.url}/#/"


def test_the_link_is_not_written_to_a_log(dashboard: Dashboard) -> None:
    """Stderr of the tests' dashboards is a file."""
    assert "#token=" not in dashboard.output


def test_the_code_is_not_stored(started: Started, tmp_path: Path) -> None:
    with started("--sign-in-link") as dashboard:
        code = sign_in_route(dashboard).removeprefix("token=").encode()
        # The database has files that come and go.
        for folder, _, names in os.walk(dashboard.data_dir):
            for name in names:
                with suppress(FileNotFoundError):
                    path = Path(folder, name)
                    assert not path.is_file() or code not in path.read_bytes()
