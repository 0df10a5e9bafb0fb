"""A real browser on a real dashboard's page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, ConsoleMessage, Page, Request

from tests.dashboard.conftest import Dashboard

WIDE = {"width": 1200, "height": 800}
PHONE = {"width": 360, "height": 740}


@contextmanager
def opened(
    browser: Browser, dashboard: Dashboard, *, signed_in: bool = True, at: str = "/", **options: Any
) -> Iterator[Page]:
    """Yield the page at the hash route `at`, in a separate browser context with those options.

    Check after the block that no script failed, that the content policy blocked nothing, and that
    requests went only to the dashboard.
    """
    options.setdefault("viewport", WIDE)
    context = browser.new_context(**options)
    failures: list[str] = []
    hosts: set[str] = set()

    def console(message: ConsoleMessage) -> None:
        if "Content Security Policy" in message.text:
            failures.append(message.text)

    def request(sent: Request) -> None:
        parts = urlsplit(sent.url)
        if parts.scheme not in ("blob", "data"):
            hosts.add(f"{parts.scheme}://{parts.netloc}")

    page = None
    try:
        if signed_in:
            answer = context.request.post(
                f"{dashboard.url}/api/session", data={"token": dashboard.token}
            )
            assert answer.status == 204, answer.text()
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: failures.append(str(error)))
        page.on("console", console)
        page.on("request", request)
        page.goto(f"{dashboard.url}/#{at}")
        yield page
    except BaseException:
        shown = "" if page is None else page.inner_text("body")
        print("what went wrong on the page:", *failures, "what it shows:", shown, sep="\n")
        raise
    finally:
        context.close()
    assert not failures, "\n".join(failures)
    assert hosts <= {dashboard.url}, hosts


def go(page: Page, route: str) -> None:
    """Open another hash route of the page."""
    page.evaluate("hash => { location.hash = hash }", f"#{route}")


def stored(dashboard: Dashboard, name: str) -> Any:
    """Return the function as the command line shows it; None without one of that name."""
    done = dashboard.cli("get", "function", name, "-o", "json", check=False)
    return json.loads(done.stdout) if done.returncode == 0 else None
