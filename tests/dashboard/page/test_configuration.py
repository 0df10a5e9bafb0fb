"""The editor of a function's configuration in a real browser."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.dashboard.conftest import Dashboard, write_function
from tests.dashboard.page.browsing import go, stored
from tests.dashboard.waiting import until

pytestmark = pytest.mark.system

# The page follows a list that the test writes.
HELD_LIST = """
const real = window.fetch;
const encoder = new TextEncoder();
let list = null;
let waiting = [];
const write = (text) => (list ? list.enqueue(encoder.encode(text)) : waiting.push(text));
window.sendList = (data) => write(`event: functions\\ndata: ${JSON.stringify(data)}\\n\\n`);
window.fetch = async (path, options) => {
  if (path !== "/api/live") return real(path, options);
  const body = new ReadableStream({ start: (controller) => (list = controller) });
  waiting.splice(0).forEach(write);
  return new Response(body, { headers: { "Content-Type": "text/event-stream" } });
};
"""
SEND_LIST = "data => window.sendList(data)"


def edited(page: Page, name: str, before: str, after: str) -> Locator:
    """Open the configuration and replace a part of it by typing; return the editor."""
    go(page, f"/functions/{name}/configuration")
    area = page.get_by_role("textbox", name=f"Configuration of {name}")
    expect(area).to_have_value(re.compile(re.escape(before)))
    text = area.input_value()
    area.fill(text.replace(before, after))
    return area


def test_findings_are_shown_at_their_lines_while_typing(page: Page, greeter: str) -> None:
    area = edited(page, greeter, "  handler:", "  handlr:")
    line = area.input_value().split("\n").index("  handlr: main:handler") + 1
    findings = page.get_by_role("list", name="Findings")
    expect(findings).to_contain_text(f"Line {line}:")
    expect(findings).to_contain_text("handlr")
    expect(page.locator(f".line-highlight[data-line='{line}']")).to_have_count(1)
    number, text = page.locator(".numbers > div").nth(line - 1), page.locator("textarea.source")
    assert number.evaluate("one => one.dataset.shape")
    # The number is next to its line.
    inset = text.evaluate("one => one.getBoundingClientRect().top + 8")
    top = number.evaluate("one => one.getBoundingClientRect().top")
    assert abs(top - (inset + (line - 1) * 20)) < 2

    area.press("Control+Home")
    area.press("F8")
    assert (
        area.evaluate("one => one.value.slice(0, one.selectionStart).split('\\n').length") == line
    )
    expect(page.get_by_role("status").filter(has_text=f"Line {line}: ")).to_be_visible()

    page.get_by_role("button", name="Discard changes").click()
    page.get_by_role("dialog").get_by_role("button", name="Discard").click()
    expect(findings.get_by_role("listitem")).to_have_count(0)
    assert "  handler: main:handler" in area.input_value()


def test_a_handler_that_is_not_in_the_code_is_a_finding(page: Page, greeter: str) -> None:
    area = edited(page, greeter, "handler: main:handler", "handler: main:nothing")
    line = area.input_value().split("\n").index("  handler: main:nothing") + 1
    findings = page.get_by_role("list", name="Findings")
    expect(findings).to_contain_text(f"Line {line}: there is no 'nothing' in main.py")
    page.get_by_role("button", name="Discard changes").click()
    page.get_by_role("dialog").get_by_role("button", name="Discard").click()
    expect(findings.get_by_role("listitem")).to_have_count(0)


def test_a_saved_configuration_is_deployed(
    page: Page, dashboard: Dashboard, tmp_path: Path, to_delete: list[str]
) -> None:
    name = dashboard.deploy(write_function(tmp_path, "page-saved"))
    to_delete.append(name)
    area = edited(page, name, f"{name} of the tests", "Another word")
    area.press("Control+s")
    expect(page.get_by_role("log", name="Output")).to_contain_text("ready on")
    object_ = stored(dashboard, name)
    assert object_["spec"]["description"] == "Another word"
    assert object_["status"]["revision"] == 2
    assert dashboard.cli("invoke", name, "--body", "still").stdout.strip() == "still"
    expect(page.get_by_role("button", name="Save and deploy")).to_be_disabled()


def test_a_refused_save_keeps_the_text_and_shows_the_line(
    page: Page, dashboard: Dashboard, greeter: str
) -> None:
    before = stored(dashboard, greeter)["status"]["revision"]
    area = edited(page, greeter, "runtime: python:3.11", "runtime: cobol")
    page.get_by_role("button", name="Save and deploy").click()
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("cobol")
    expect(page.get_by_role("list", name="Findings")).to_contain_text("cobol")
    assert "runtime: cobol" in area.input_value()
    assert stored(dashboard, greeter)["status"]["revision"] == before
    # The text is kept after a change to another tab and back.
    page.get_by_role("link", name="Overview").click()
    page.get_by_role("link", name="Configuration").click()
    expect(page.get_by_text("Your earlier changes")).to_be_visible()
    assert "runtime: cobol" in area.input_value()


def test_another_name_is_refused_at_its_line(
    page: Page, dashboard: Dashboard, greeter: str
) -> None:
    before = stored(dashboard, greeter)["status"]["revision"]
    area = edited(page, greeter, f"name: {greeter}", "name: other")
    line = area.input_value().split("\n").index("  name: other") + 1
    findings = page.get_by_role("list", name="Findings")
    expect(findings).to_contain_text(f"Line {line}: the name cannot be changed here")
    area.press("Control+s")
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("the name cannot be changed here")
    expect(alert.locator(".error-hint")).to_contain_text(f"leave the name {greeter}")
    assert stored(dashboard, greeter)["status"]["revision"] == before
    assert stored(dashboard, "other") is None
    page.get_by_role("button", name="Discard changes").click()
    page.get_by_role("dialog").get_by_role("button", name="Discard").click()
    expect(findings.get_by_role("listitem")).to_have_count(0)


def test_a_configuration_whose_deploy_failed_has_a_note(
    page: Page, dashboard: Dashboard, tmp_path: Path, to_delete: list[str]
) -> None:
    name = dashboard.deploy(write_function(tmp_path, "page-held"))
    to_delete.append(name)
    edited(page, name, "handler: main:handler", "handler: main:nothing")
    page.get_by_role("button", name="Save and deploy").click()
    note = page.get_by_text("its deploy failed, and revision 1 goes on serving")
    expect(note).to_be_visible()
    page.get_by_role("link", name="Revisions").click()
    rows = page.get_by_role("table", name=f"Revisions of {name}").locator("tbody tr")
    expect(rows.filter(has_text="failed")).to_have_count(1)
    expect(page.get_by_role("button", name="Roll back")).to_have_count(0)
    page.get_by_role("link", name="Configuration").click()
    expect(note).to_be_visible()
    page.get_by_role("button", name="Discard changes").click()
    page.get_by_role("dialog").get_by_role("button", name="Discard").click()
    expect(note).to_have_count(0)
    assert dashboard.cli("invoke", name, "--body", "still").stdout.strip() == "still"


@pytest.mark.parametrize("order", ["list first", "operation first"])
def test_the_note_does_not_depend_on_the_order_of_events(
    page: Page, dashboard: Dashboard, tmp_path: Path, to_delete: list[str], order: str
) -> None:
    """The list that the page follows may lag behind the revision that it edits."""
    name = dashboard.deploy(write_function(tmp_path, "page-order"))
    to_delete.append(name)
    page.add_init_script(HELD_LIST)
    page.reload()
    functions = dashboard.request("GET", "/api/functions").json
    behind = copy.deepcopy(functions)
    behind[name]["status"] |= {"revision": 0, "replicas": {"available": 0, "wanted": 1}}
    page.evaluate(SEND_LIST, {"functions": behind})
    edited(page, name, "handler: main:handler", "handler: main:nothing")
    if order == "list first":
        page.evaluate(SEND_LIST, {"functions": functions})
    page.get_by_role("button", name="Save and deploy").click()
    note = page.get_by_text("This text is not deployed: its deploy failed, and")
    expect(note).to_be_visible()
    page.evaluate(SEND_LIST, {"functions": dashboard.request("GET", "/api/functions").json})
    expect(note).to_contain_text("and revision 1 goes on serving")
    expect(page.get_by_text("was deployed meanwhile")).to_have_count(0)


def test_a_newer_revision_is_announced_during_editing(
    page: Page, dashboard: Dashboard, tmp_path: Path, to_delete: list[str]
) -> None:
    folder = write_function(tmp_path, "page-newer")
    to_delete.append(dashboard.deploy(folder))
    area = edited(page, folder.name, "handler: main:handler", "handler: main:mine")
    dashboard.deploy(folder, "--env", "A=1")
    expect(page.get_by_text("Revision 2 was deployed meanwhile")).to_be_visible()
    assert "handler: main:mine" in area.input_value()


def test_a_secret_is_not_shown_and_is_kept(
    page: Page, dashboard: Dashboard, tmp_path: Path, to_delete: list[str]
) -> None:
    code = (
        "import os\n\n\ndef handler(context, event):\n"
        '    return os.environ["MODEL_TOKEN"] + os.environ["SIZE"]\n'
    )
    spec = "env:\n  - {name: MODEL_TOKEN, value: hush-hush}\n  - {name: SIZE, value: small}"
    name = dashboard.deploy(write_function(tmp_path, "page-secret", code, spec=spec))
    to_delete.append(name)
    area = edited(page, name, "value: small", "value: large")
    assert "hush-hush" not in page.content() + area.input_value()
    page.get_by_role("button", name="Save and deploy").click()
    expect(page.get_by_role("log", name="Output")).to_contain_text("ready on")
    until(lambda: dashboard.cli("invoke", name).stdout.strip() == "hush-hushlarge", "it is served")
