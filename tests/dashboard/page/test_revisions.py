"""Revisions on the page: differences and rollback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.dashboard.conftest import Dashboard, write_function
from tests.dashboard.page.browsing import go

pytestmark = pytest.mark.system


def test_two_revisions_are_compared_and_the_first_is_restored(
    page: Page, dashboard: Dashboard, tmp_path: Path, to_delete: list[str]
) -> None:
    folder = write_function(tmp_path, "page-revised", "def handler(c, e):\n    return 'one'\n")
    name = dashboard.deploy(folder)
    to_delete.append(name)
    (folder / "main.py").write_text("def handler(c, e):\n    return 'two'\n")
    config = folder / "function.yaml"
    config.write_text(config.read_text().replace("of the tests", "of other tests"))
    dashboard.deploy(folder)
    go(page, f"/functions/{name}/revisions")
    rows = page.get_by_role("table", name=f"Revisions of {name}").locator("tbody tr")
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("active")
    expect(rows.last).to_contain_text("superseded")

    page.get_by_role("button", name="Compare with 1").click()
    configuration = page.get_by_label("Configuration", exact=True)
    expect(configuration.locator(".added")).to_contain_text(f"{name} of other tests")
    expect(configuration.locator(".removed")).to_contain_text(f"{name} of the tests")
    code = page.get_by_label("Code", exact=True)
    expect(code.locator(".added")).to_have_text("+    return 'two'")
    expect(code.locator(".removed")).to_have_text("-    return 'one'")

    assert dashboard.cli("invoke", name).stdout.strip() == "two"
    rows.last.get_by_role("button", name="Roll back").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Cancel").click()
    rows.last.get_by_role("button", name="Roll back").click()
    dialog.get_by_role("button", name="Roll back").click()
    expect(page.get_by_role("region", name="Rolling back to revision 1")).to_contain_text("done")
    assert dashboard.cli("invoke", name).stdout.strip() == "one"
    history = json.loads(dashboard.cli("history", name, "-o", "json").stdout)
    active = [revision["revision"] for revision in history if revision["state"] == "active"]
    expect(rows.filter(has_text="active")).to_have_attribute("data-revision", str(active[0]))
