"""Latency and errors as charts, and as a table for users who cannot see them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.dashboard.conftest import Dashboard, write_function
from tests.dashboard.page.browsing import go

pytestmark = pytest.mark.system

_CODE = """\
import time


def handler(context, event):
    if event.path == "/slow":
        time.sleep(1.5)
    if event.body:
        raise ValueError("not this one")
    return "fine"
"""


def test_requests_and_errors_are_drawn_and_read(
    page: Page, dashboard: Dashboard, tmp_path: Path, to_delete: list[str]
) -> None:
    name = dashboard.deploy(write_function(tmp_path, "page-charted", _CODE))
    to_delete.append(name)
    go(page, f"/functions/{name}/charts")
    headers = {"x-nuclio-function-name": name}
    samples = page.locator("table.figures tbody tr")
    # Counting starts with the first sample of a function.
    expect(samples.first).to_be_attached(timeout=120_000)
    for body in ("", "", "", "bad"):
        dashboard.request("POST", "/api/function_invocations", body=body, headers=headers)
    tiles = page.locator(".tiles")
    expect(tiles).to_contain_text(re.compile(r"Requests since \d\d:\d\d:\d\d4"))
    expect(tiles).to_contain_text(re.compile(r"Errors since \d\d:\d\d:\d\d1"))
    requests = page.get_by_role("img", name="Requests and errors")
    expect(requests.locator(".bar-requests")).not_to_have_count(0)
    expect(requests.locator(".bar-errors")).not_to_have_count(0)
    latency = page.get_by_role("img", name="Latency")
    expect(latency.locator(".p95")).not_to_have_count(0)
    page.get_by_text("Data as a table").click()
    expect(samples.filter(has_text="4")).not_to_have_count(0)

    latency.focus()
    page.keyboard.press("ArrowLeft")
    expect(latency.locator(".cursor")).to_have_count(1)
    expect(page.locator("#reading-latency")).to_contain_text("p95")
    expect(page.get_by_role("heading", name="Last errors").locator("..")).to_contain_text(
        "not this one"
    )


def test_figures_show_their_precision(
    page: Page, dashboard: Dashboard, tmp_path: Path, to_delete: list[str]
) -> None:
    name = dashboard.deploy(write_function(tmp_path, "page-figures", _CODE))
    to_delete.append(name)
    go(page, f"/functions/{name}/charts")
    page.get_by_text("Data as a table").click()
    samples = page.locator("table.figures tbody tr")
    expect(samples.first).to_be_attached(timeout=120_000)
    headers = {"x-nuclio-function-name": name}
    slow = {**headers, "x-nuclio-path": "/slow"}
    dashboard.request("POST", "/api/function_invocations", headers=slow)
    # The duration of a single request is exact, whatever its bucket.
    expect(page.locator("#reading-latency")).to_have_text(
        re.compile(r"^Last, at [\d:]+: p50 ([12],\d\d\d) ms, p95 \1 ms, p99 \1 ms$")
    )
    expect(page.locator(".tiles")).to_contain_text(re.compile(r"p95 at [\d:]+[12],\d\d\d ms"))
    for _ in range(20):
        dashboard.request("POST", "/api/function_invocations", headers=headers)
    expect(page.locator("#reading-latency")).to_have_text(
        re.compile(r"p50 (\u2264 |\d+\u2013)\d+ ms")
    )
