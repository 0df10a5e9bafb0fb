"""Plain requests on the page: the request, the reply, and the history."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from tests.dashboard.conftest import Dashboard
from tests.dashboard.page.browsing import PHONE, go, opened
from tests.dashboard.playground.conftest import Play

pytestmark = pytest.mark.system

AT = "/functions/plain/playground"


@pytest.fixture
def page(browser: Browser, gallery: Dashboard) -> Iterator[Page]:
    """The form of a function that is not a model, signed in."""
    with opened(browser, gallery, at=AT) as page:
        yield page


def fill(page: Page, **fields: str) -> None:
    for name, text in fields.items():
        page.get_by_label(name.replace("_", " "), exact=name == "Body").fill(text)


def send(page: Page) -> None:
    page.get_by_role("button", name="Send").click()


def test_a_request_is_sent_as_written(page: Page) -> None:
    fill(page, Path="/a/b?c=ü d", Headers="X-Answer: 42\nX-Other: a:b", Body='{"a": [1, 2]}')
    with page.expect_request("**/api/function_invocations") as expected:
        send(page)
    sent = expected.value
    assert (sent.method, sent.post_data) == ("POST", '{"a": [1, 2]}')
    headers = sent.headers
    assert (headers["x-answer"], headers["x-other"]) == ("42", "a:b")
    assert headers["content-type"] == "application/json"
    assert headers["x-nuclio-path"] == "/a/b?c=%C3%BC%20d"
    reply = page.get_by_role("region", name="Reply")
    expect(reply.get_by_role("status")).to_have_text("●200 OK")
    expect(reply.locator("pre")).to_have_text('{\n  "a": [1, 2]\n}')
    expect(page.get_by_role("region", name="Times")).to_contain_text("handler")
    log = page.get_by_role("region", name="Log of this call")
    expect(log).to_contain_text("asked path=/a/b")
    page.get_by_text("Headers (").click()
    expect(page.locator("dl.facts")).to_contain_text("/a/b")


def test_methods_files_and_pictures(page: Page, tmp_path: Path) -> None:
    page.get_by_label("Method").select_option("GET")
    expect(page.get_by_label("Body", exact=True)).to_be_hidden()
    page.get_by_label("log of this call").select_option("none")
    send(page)
    reply = page.get_by_role("region", name="Reply")
    expect(reply).to_contain_text("No body")
    expect(page.get_by_role("region", name="Log of this call")).to_have_count(0)

    picture = io.BytesIO()
    Image.new("RGB", (40, 30), (200, 10, 10)).save(picture, "PNG")
    page.get_by_label("Method").select_option("PUT")
    page.get_by_label("A file as the body").set_input_files(
        {"name": "red.png", "mimeType": "image/png", "buffer": picture.getvalue()}
    )
    expect(page.get_by_label("Content type")).to_have_value("image/png")
    expect(page.get_by_label("Body", exact=True)).to_be_disabled()
    send(page)
    shown = reply.get_by_role("img")
    expect(shown).to_be_visible()
    assert shown.evaluate("async (one) => (await one.decode(), one.naturalWidth)") == 40

    page.get_by_role("button", name="Use text").click()
    fill(page, Content_type="application/octet-stream", Body="some")
    send(page)
    expect(reply).to_contain_text("4 bytes of binary data")
    with page.expect_download() as download:
        reply.get_by_role("button", name="Save the body").click()
    assert Path(download.value.path()).read_text() == "some"


def test_invalid_requests_are_explained(page: Page) -> None:
    alert = page.get_by_role("main").get_by_role("alert")
    for line, message in (
        ("no header", "no header is not a header"),
        ("X Y: 1", "cannot be sent as a header"),
        ("Host: elsewhere", "a browser does not let a page send Host"),
    ):
        fill(page, Headers=line)
        send(page)
        expect(alert).to_contain_text(message)


def test_requests_are_stored_as_nuclios_function_events(page: Page, gallery: Dashboard) -> None:
    fill(page, Path="/kept", Headers="X-Answer: 42", Content_type="text/plain", Body="hello")
    fill(page, Name_of_the_request="a greeting")
    page.get_by_role("button", name="Save", exact=True).click()
    kept = page.get_by_role("region", name="Saved requests").get_by_role("button", name="/kept")
    expect(kept).to_be_visible()
    [event] = gallery.request("GET", "/api/function_events").json.values()
    assert event["metadata"]["labels"] == {"nuclio.io/function-name": "plain"}
    assert event["spec"] == {
        "displayName": "a greeting",
        "triggerName": "",
        "triggerKind": "http",
        "body": "hello",
        "attributes": {
            "method": "POST",
            "path": "/kept",
            "headers": {
                "X-Answer": "42",
                "Content-Type": "text/plain",
                "x-nuclio-log-level": "debug",
            },
        },
    }

    fill(page, Path="/other", Headers="", Content_type="", Body="")
    kept.click()
    expect(page.get_by_label("Path")).to_have_value("/kept")
    expect(page.get_by_label("Headers")).to_have_value("X-Answer: 42")
    expect(page.get_by_label("Body", exact=True)).to_have_value("hello")
    send(page)
    expect(page.get_by_role("region", name="Reply").locator("pre")).to_have_text("hello")

    fill(page, Path="/changed")
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Replace").click()
    expect(page.get_by_role("button", name="/changed")).to_be_visible()
    expect(kept).to_have_count(0)
    page.get_by_role("button", name="Delete a greeting").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_text("None yet.")).to_be_visible()
    assert gallery.request("GET", "/api/function_events").json == {}


def test_a_draft_is_kept_and_fits_a_phone(browser: Browser, gallery: Dashboard) -> None:
    with opened(browser, gallery, at=AT, viewport=PHONE, color_scheme="dark") as page:
        fill(page, Body=json.dumps({"a": 1}))
        go(page, "/functions/plain/logs")
        expect(page.get_by_role("button", name="Pause")).to_be_visible()
        go(page, AT)
        expect(page.get_by_label("Body", exact=True)).to_have_value('{"a": 1}')
        send(page)
        expect(page.get_by_role("region", name="Reply")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_models_have_the_form_in_addition_to_their_own(play: Play) -> None:
    there = play("face-haar")
    ways = there.page.get_by_role("group", name="Mode")
    ways.get_by_role("button", name="Raw request").click()
    expect(there.canvas).to_have_count(0)
    fill(there.page, Body="{}")
    send(there.page)
    reply = there.page.get_by_role("region", name="Reply")
    expect(reply.get_by_role("status")).to_be_visible()
    assert "400 Bad Request" in reply.inner_text(), reply.inner_text()
    ways.get_by_role("button", name="Pictures").click()
    expect(there.canvas).to_have_count(1)
