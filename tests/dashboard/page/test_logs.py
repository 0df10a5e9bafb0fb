"""The live log in a real browser."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.dashboard.conftest import Dashboard, write_function
from tests.dashboard.page.browsing import go
from tests.dashboard.waiting import until

pytestmark = pytest.mark.system

RECORDS = 300

_TALKER = f"""\
import time


def handler(context, event):
    if event.body:
        getattr(context.logger, event.headers.get("X-Level", "info"))(event.body.decode())
        return ""
    for number in range({RECORDS}):
        context.logger.info_with("tick", number=number)
        time.sleep(1 / 50)
    return ""
"""


@pytest.fixture(scope="module")
def talker(dashboard: Dashboard, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A function that logs what it receives, or 50 records a second."""
    home = tmp_path_factory.mktemp("functions")
    name = dashboard.deploy(write_function(home, "page-talker", _TALKER))
    yield name
    dashboard.cli("delete", "function", name)


def write_record(dashboard: Dashboard, talker: str, text: str, level: str = "info") -> None:
    headers = {"x-nuclio-function-name": talker, "X-Level": level}
    assert (
        dashboard.request("POST", "/api/function_invocations", body=text, headers=headers).status
        == 200
    )


def texts(page: Page) -> list[str]:
    return page.locator(".records li").evaluate_all(
        "all => all.map(one => one.querySelector('.text').textContent)"
    )


def test_fifty_records_a_second_arrive_without_a_gap(
    page: Page, dashboard: Dashboard, talker: str
) -> None:
    go(page, f"/functions/{talker}/logs")
    write_record(dashboard, talker, "before")
    expect(page.locator(".records")).to_contain_text("before")
    writer = threading.Thread(
        target=dashboard.request,
        args=("POST", "/api/function_invocations"),
        kwargs={"headers": {"x-nuclio-function-name": talker}},
    )
    writer.start()
    expect(page.locator(".records")).to_contain_text(f"number={RECORDS - 1}", timeout=180_000)
    writer.join()
    numbers = [text.split("number=")[1] for text in texts(page) if text.startswith("tick")]
    assert [int(number.split()[0]) for number in numbers] == list(range(RECORDS))
    # The view stays at the end, and the number of lines on the page is limited.
    below = "one => one.scrollHeight - one.scrollTop - one.clientHeight"
    until(lambda: page.locator(".records").evaluate(below) < 24, "it is at its end")


def test_levels_text_and_pause_filter_the_log(
    page: Page, dashboard: Dashboard, talker: str
) -> None:
    go(page, f"/functions/{talker}/logs")
    write_record(dashboard, talker, "something green")
    write_record(dashboard, talker, "something amber", "warn")
    write_record(dashboard, talker, "something red", "error")
    records = page.locator(".records")
    expect(records).to_contain_text("something red")
    page.get_by_label("Level").select_option("Errors")
    expect(records).not_to_contain_text("something amber")
    expect(records).to_contain_text("something red")
    page.get_by_label("Level").select_option("All levels")
    page.keyboard.press("/")
    page.get_by_role("searchbox", name="Filter by text").fill("something AMBER")
    expect(records.get_by_role("listitem")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(records).to_contain_text("something green")

    page.get_by_role("button", name="Pause").click()
    write_record(dashboard, talker, "while it was paused")
    expect(page.get_by_text("1 new while paused")).to_be_visible()
    expect(records).not_to_contain_text("while it was paused")
    page.get_by_role("button", name="Resume").click()
    expect(records).to_contain_text("while it was paused")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as file").click()
    assert "while it was paused" in download.value.path().read_text()


def test_a_foreground_function_has_a_note_where_its_log_is(
    page: Page, dashboard: Dashboard, tmp_path: Path
) -> None:
    folder = write_function(tmp_path, "page-sketch", "def handler(context, event): ...")
    process = subprocess.Popen(
        [sys.executable, "-m", "fnbuild", "run", str(folder)],
        env=dashboard.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        go(page, "/")
        expect(page.get_by_role("link", name="page-sketch")).to_be_visible()
        go(page, "/functions/page-sketch/logs")
        expect(page.get_by_text("its log is in the terminal of that process")).to_be_visible()
        expect(page.get_by_text("No records yet")).not_to_be_visible()
    finally:
        process.kill()
        process.wait()
