"""Actions on the page of one function, verified by the command line."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.dashboard.calls import WAIT, inline
from tests.dashboard.conftest import Dashboard, write_function
from tests.dashboard.page.browsing import go, opened, stored
from tests.dashboard.waiting import until

pytestmark = pytest.mark.system

_ONE_LIFE = """\
platform:
  attributes:
    restartPolicy:
      name: "no"
"""


def confirm(page: Page, answer: str) -> None:
    """Confirm the dialog of the page."""
    dialog = page.get_by_role("dialog", name=re.compile(r"\?$"))
    dialog.get_by_role("button", name=answer, exact=True).click()
    expect(dialog).to_have_count(0)


def row(page: Page, name: str) -> Locator:
    link = page.get_by_role("link", name=name, exact=True)
    return page.get_by_role("row").filter(has=link)


def test_the_command_for_a_server_with_tokens_prints_the_token(page: Page) -> None:
    def command(**torchserve: object) -> str:
        attributes = {"torchserve": torchserve}
        function = {
            "metadata": {"name": "sizes", "namespace": "lab"},
            "spec": {"platform": {"attributes": attributes}},
            "status": {"platform": "torchserve"},
        }
        script = "async fn => (await import('/static/overview.js')).curlCommand('URL', fn)"
        return str(page.evaluate(script, function))

    assert command() == (
        "curl -X POST -d '' -H \"Authorization: Bearer $(fnbuild torchserve token sizes"
        ' --namespace lab)" \\\n  URL'
    )
    assert command(tokens=False) == "curl -X POST -d '' URL"


def test_redeploy_disable_enable_and_delete(
    page: Page, dashboard: Dashboard, tmp_path: Path, to_delete: list[str]
) -> None:
    name = dashboard.deploy(write_function(tmp_path, "page-actions"))
    to_delete.append(name)
    go(page, f"/functions/{name}")
    head = page.locator(".head").first

    before = stored(dashboard, name)["status"]["details"]["pid"]
    page.get_by_role("button", name="Redeploy").click()
    confirm(page, "Redeploy")
    expect(page.get_by_role("log", name="Output")).to_contain_text("ready on")
    expect(head).to_contain_text("ready")
    assert stored(dashboard, name)["status"]["details"]["pid"] != before

    page.get_by_role("button", name="Disable").click()
    confirm(page, "Disable")
    expect(head).to_contain_text("standby")
    expect(page.get_by_role("region", name=f"Disabling {name}")).to_contain_text("done")
    assert stored(dashboard, name)["status"]["state"] == "standby"

    page.get_by_role("button", name="Enable").click()
    expect(head).to_contain_text("ready")
    assert stored(dashboard, name)["status"]["state"] == "ready"
    assert dashboard.cli("invoke", name, "--body", "again").stdout.strip() == "again"

    page.get_by_role("button", name="Delete").click()
    confirm(page, "Cancel")
    assert stored(dashboard, name) is not None
    page.get_by_role("button", name="Delete").click()
    confirm(page, "Delete")
    expect(page.get_by_role("heading", name="Functions", exact=True)).to_be_visible()
    expect(row(page, name)).to_have_count(0)
    assert stored(dashboard, name) is None


def test_sleep_and_wake(
    page: Page, dashboard: Dashboard, tmp_path: Path, to_delete: list[str]
) -> None:
    name = dashboard.deploy(write_function(tmp_path, "page-sleeper"), "--gpu-group", "page")
    to_delete.append(name)
    go(page, f"/functions/{name}")
    group = page.get_by_role("region", name="GPU group page")
    expect(group).to_contain_text("1 of 1 awake")
    head = page.locator(".head").first
    page.get_by_role("button", name="Sleep", exact=True).click()
    expect(head.get_by_role("status")).to_contain_text("asleep")
    expect(page.get_by_text("asleep, wakes in about")).to_be_visible()
    expect(group).to_contain_text(f"0 of 1 awake☾asleep{name} asleep")
    page.get_by_role("button", name="Wake", exact=True).click()
    expect(head.get_by_role("status")).to_contain_text("ready")
    page.get_by_role("button", name="Sleep", exact=True).click()
    expect(head.get_by_role("status")).to_contain_text("asleep")
    go(page, "/")
    expect(row(page, name)).to_contain_text("asleep")
    assert dashboard.cli("invoke", name, "--body", "first").stdout.strip() == "first"
    expect(row(page, name)).to_contain_text("ready")


def test_a_killed_processor_is_shown_within_5_seconds(
    page: Page, dashboard: Dashboard, tmp_path: Path, to_delete: list[str]
) -> None:
    folder = write_function(tmp_path, "page-killed", spec=_ONE_LIFE)
    name = folder.name
    to_delete.append(name)
    took: list[float] = []
    while len(took) < 3 and min(took, default=5) >= 5:
        # A busy machine may be late, but not every time.
        dashboard.deploy(folder, "--force")
        expect(row(page, name)).to_contain_text("ready")
        os.kill(stored(dashboard, name)["status"]["details"]["pid"], signal.SIGKILL)
        killed = time.monotonic()
        expect(row(page, name)).not_to_contain_text("ready")
        took.append(time.monotonic() - killed)
    assert min(took) < 5
    expect(row(page, name)).to_contain_text("0/1")
    assert stored(dashboard, name)["status"]["state"] != "ready"
    go(page, f"/functions/{name}")
    expect(page.get_by_role("region", name="State")).to_contain_text("ended")


def test_functions_of_the_command_line_appear_and_disappear(
    page: Page, dashboard: Dashboard, tmp_path: Path, to_delete: list[str]
) -> None:
    folder = write_function(tmp_path, "page-elsewhere")
    to_delete.append(folder.name)
    dashboard.deploy(folder)
    expect(row(page, folder.name)).to_contain_text("ready")
    dashboard.cli("delete", "function", folder.name)
    expect(row(page, folder.name)).to_have_count(0)


def test_port_url_and_replicas_are_those_of_the_command_line(
    page: Page, dashboard: Dashboard, detector: str
) -> None:
    go(page, f"/functions/{detector}")
    status = stored(dashboard, detector)["status"]
    reach = page.get_by_role("region", name="Endpoint")
    expect(reach).to_contain_text(str(status["httpPort"]))
    expect(reach.get_by_role("link")).to_have_attribute(
        "href", f"http://127.0.0.1:{status['httpPort']}"
    )
    expect(page.get_by_role("region", name="State")).to_contain_text("1/1")
    expect(page.locator(".head").first).to_contain_text("Two boxes")


def test_the_last_errors_are_on_the_page_and_in_the_list(
    page: Page, dashboard: Dashboard, tmp_path: Path, to_delete: list[str]
) -> None:
    code = 'def handler(context, event):\n    raise ValueError("no picture")\n'
    name = dashboard.deploy(write_function(tmp_path, "page-errors", code))
    to_delete.append(name)
    dashboard.cli("invoke", name, check=False)
    go(page, f"/functions/{name}")
    expect(page.get_by_role("region", name="Last errors")).to_contain_text("no picture")
    go(page, "/")
    expect(row(page, name)).to_contain_text("Last error")
    expect(row(page, name)).to_contain_text("no picture")


def test_errors_are_cleared_by_a_new_revision(
    page: Page, dashboard: Dashboard, tmp_path: Path, to_delete: list[str]
) -> None:
    code = 'def handler(context, event):\n    raise ValueError("no picture")\n'
    folder = write_function(tmp_path, "page-mended", code)
    to_delete.append(dashboard.deploy(folder))
    dashboard.cli("invoke", folder.name, check=False)
    expect(row(page, folder.name)).to_contain_text("no picture")
    # By the command line: it is not an operation of the dashboard.
    (folder / "main.py").write_text("def handler(context, event):\n    return 1\n")
    dashboard.deploy(folder)
    expect(row(page, folder.name)).not_to_contain_text("no picture")
    go(page, f"/functions/{folder.name}")
    errors = page.get_by_role("region", name="Last errors")
    expect(errors).to_contain_text("No errors since the last change.")
    expect(errors.get_by_text("Before the last change (1)")).to_be_visible()


def test_a_failed_change_is_cleared_by_a_new_revision(
    page: Page, dashboard: Dashboard, tmp_path: Path, to_delete: list[str]
) -> None:
    folder = write_function(tmp_path, "page-failed")
    to_delete.append(dashboard.deploy(folder))
    go(page, f"/functions/{folder.name}")
    broken = inline(folder.name, "import nothing_of_that_name\n")
    answer = dashboard.request("PUT", f"/api/functions/{folder.name}", json=broken, headers=WAIT)
    assert answer.status != 202
    failure = page.get_by_role("region", name=f"Deploying {folder.name}")
    expect(failure).to_contain_text("nothing_of_that_name")
    dashboard.deploy(folder, "--env", "A=1")
    expect(page.get_by_role("region", name="State")).to_contain_text("ready")
    expect(failure).to_have_count(0)
    # It may be among the errors from before the last change, which are folded.
    expect(page.locator("text=nothing_of_that_name >> visible=true")).to_have_count(0)


def test_an_error_in_the_playground_is_cleared_by_a_new_revision(
    page: Page, dashboard: Dashboard, tmp_path: Path, to_delete: list[str]
) -> None:
    code = 'def handler(context, event):\n    raise ValueError("no weights")\n'
    notes = "  annotations: {type: detector, spec: '[]'}"
    folder = write_function(tmp_path, "page-blind", code, annotations=notes)
    to_delete.append(dashboard.deploy(folder))
    go(page, f"/functions/{folder.name}/playground")
    page.locator(".welcome button").first.click()
    failure = page.get_by_role("alert").filter(has_text="no weights")
    expect(failure).to_be_visible()
    (folder / "main.py").write_text('def handler(context, event):\n    return "[]"\n')
    dashboard.deploy(folder)
    expect(failure).to_have_count(0)


def test_a_models_labels_are_on_its_page(page: Page, detector: str, greeter: str) -> None:
    go(page, f"/functions/{detector}")
    labels = page.get_by_role("region", name="Labels")
    expect(labels.get_by_role("listitem")).to_have_text(["personrectangle", "carrectangle"])
    go(page, f"/functions/{greeter}")
    expect(page.get_by_role("region", name="Endpoint")).to_be_visible()
    expect(labels).to_have_count(0)


def test_the_image_comes_first(page: Page, detector: str) -> None:
    go(page, f"/functions/{detector}/playground")
    page.locator(".welcome button").first.click()
    picture = page.locator("canvas.picture")
    expect(picture).to_be_in_viewport(ratio=1)
    box = picture.bounding_box()
    assert box is not None
    assert box["y"] < 210
    assert box["height"] > 480


def test_a_function_set_aside_has_its_reason(
    page: Page, dashboard: Dashboard, to_delete: list[str]
) -> None:
    notes = {"type": "detector", "version": "one", "skip-deploy": "true"}
    function = {"metadata": {"name": "page-aside", "annotations": notes}, "spec": {"image": "none"}}
    to_delete.append("page-aside")
    assert dashboard.request("POST", "/api/functions", json=function).status == 202
    expect(row(page, "page-aside")).to_contain_text("excluded")
    page.get_by_role("button", name="Excluded").click()
    expect(row(page, "page-aside")).to_contain_text('version is "one"')


def test_a_function_that_cvat_does_not_list_has_a_note(
    page: Page, dashboard: Dashboard, to_delete: list[str]
) -> None:
    notes = {"type": "detector", "spec": "[]", "skip-deploy": "true"}
    function = {"metadata": {"name": "page-note", "annotations": notes}, "spec": {"image": "none"}}
    to_delete.append("page-note")
    assert dashboard.request("POST", "/api/functions", json=function).status == 202
    note = "CVAT asks for the project cvat, and it is in default"
    expect(row(page, "page-note")).to_contain_text(note)
    expect(row(page, "page-note")).not_to_contain_text("excluded")
    go(page, "/functions/page-note")
    expect(page.get_by_role("region", name="State")).to_contain_text(note)


def test_a_change_without_a_session_requests_the_token_and_continues(
    browser: Browser, dashboard: Dashboard, tmp_path: Path, to_delete: list[str]
) -> None:
    name = dashboard.deploy(write_function(tmp_path, "page-token"))
    to_delete.append(name)
    with opened(browser, dashboard, signed_in=False, at=f"/functions/{name}") as page:
        page.get_by_role("button", name="Redeploy").click()
        confirm(page, "Redeploy")
        dialog = page.get_by_role("dialog", name="This change needs the token")
        dialog.get_by_role("textbox").fill("not the token")
        dialog.get_by_role("button", name="Sign in").click()
        expect(dialog.get_by_role("alert")).to_contain_text("not the dashboard's token")
        dialog.get_by_role("textbox").fill(dashboard.token)
        dialog.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("log", name="Output")).to_contain_text("ready on")
        go(page, "/session")
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        go(page, f"/functions/{name}")
        page.get_by_role("button", name="Delete").click()
        confirm(page, "Delete")
        dialog.get_by_role("button", name="Cancel").click()
        expect(page.get_by_role("alert").filter(has_text="token")).to_be_visible()
    assert stored(dashboard, name) is not None


def test_a_missing_function_is_reported(page: Page) -> None:
    go(page, "/functions/page-nowhere")
    expect(page.get_by_role("alert")).to_contain_text("not found")
    expect(page.get_by_role("link", name="All functions")).to_be_visible()


def test_a_function_deleted_while_it_is_shown_is_reported(
    page: Page, dashboard: Dashboard, tmp_path: Path, to_delete: list[str]
) -> None:
    name = dashboard.deploy(write_function(tmp_path, "page-going"))
    to_delete.append(name)
    go(page, f"/functions/{name}")
    expect(page.get_by_role("region", name="State")).to_contain_text("1/1")
    dashboard.cli("delete", "function", name)
    expect(page.get_by_role("alert")).to_contain_text("has been deleted")
    until(lambda: stored(dashboard, name) is None, "it is deleted")


def test_a_failed_revision_next_to_a_serving_one_is_reported_once(
    page: Page, dashboard: Dashboard, tmp_path: Path, to_delete: list[str]
) -> None:
    name = dashboard.deploy(write_function(tmp_path, "page-fails-once"))
    to_delete.append(name)
    body = inline(
        name, "def handler(context, event):\n    pass\n\n\nraise ValueError('no weights')\n"
    )
    answer = dashboard.request("PUT", "/api/functions", json=body)
    assert answer.status == 202, answer.text
    expect(row(page, name)).to_contain_text("revision 1 goes on serving")
    expect(row(page, name)).not_to_contain_text("Last error")
    go(page, f"/functions/{name}")
    main = page.get_by_role("main")
    expect(main.get_by_role("alert")).to_contain_text("ValueError: no weights")
    expect(main).to_contain_text("The last change failed; revision 1 goes on serving.")
    expect(main.get_by_text("No errors recorded.")).to_be_visible()
    assert main.inner_text().count("Traceback") == 1


def test_equal_errors_are_grouped(
    page: Page, dashboard: Dashboard, tmp_path: Path, to_delete: list[str]
) -> None:
    code = "def handler(context, event):\n    raise ValueError('no such picture')\n"
    name = dashboard.deploy(write_function(tmp_path, "page-errors", code))
    to_delete.append(name)
    for _ in range(3):
        headers = {"x-nuclio-function-name": name}
        dashboard.request("POST", "/api/function_invocations", headers=headers)
    go(page, f"/functions/{name}")
    errors = page.get_by_role("region", name="Last errors")
    expect(errors).to_contain_text(re.compile(r"3., last \d\d:\d\d:\d\d"))
    expect(errors.get_by_role("listitem")).to_have_count(1)
    expect(errors.locator("summary")).to_contain_text("no such picture")
    expect(errors.locator("summary")).not_to_contain_text("Traceback")
    change = {"desiredState": "ready"}
    dashboard.request("PATCH", f"/api/functions/{name}", json=change, headers=WAIT)
    expect(errors).to_contain_text("No errors since the last change.")
    errors.get_by_text("Before the last change (3)").click()
    expect(errors.get_by_text("no such picture").first).to_be_visible()
