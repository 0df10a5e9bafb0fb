"""Text of functions cannot run as script, and the page sends no requests to other hosts."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.dashboard.conftest import Dashboard, write_function
from tests.dashboard.page.browsing import go

pytestmark = pytest.mark.system

_EVIL = "<img src=x onerror=window.pwned=1><script>window.pwned=1</script>"
_CODE = f'''\
EVIL = """{_EVIL}"""


def handler(context, event):
    context.logger.error_with(EVIL, **{{"<b>field</b>": EVIL}})
    context.logger.info("\\x1b[31m" + EVIL + "javascript:window.pwned=1")
    raise ValueError(EVIL)
'''
_ROUTES = ("", "/logs", "/charts", "/revisions", "/configuration", "/playground")


def test_markup_in_names_logs_annotations_and_messages_stays_text(
    page: Page, dashboard: Dashboard, tmp_path: Path, to_delete: list[str]
) -> None:
    notes = (
        f"  annotations:\n    name: {_EVIL!r}\n    type: detector\n"
        f'    spec: \'[{{"name": "{_EVIL}", "type": "rectangle"}}]\'\n'
    )
    spec = f"env:\n  - {{name: NOTE, value: {_EVIL!r}}}"
    folder = write_function(tmp_path, "page-evil", _CODE, annotations=notes, spec=spec)
    name = dashboard.deploy(folder)
    to_delete.append(name)
    dashboard.cli("invoke", name, check=False)
    broken = write_function(tmp_path / "b", "page-evil-broken", f"raise ValueError({_EVIL!r})\n")
    to_delete.append(broken.name)
    dashboard.cli("deploy", "--path", str(broken), check=False)

    row = page.get_by_role("row").filter(has=page.get_by_role("link", name=name, exact=True))
    expect(row).to_contain_text(_EVIL)
    expect(page.get_by_role("row").filter(has_text=broken.name)).to_contain_text(_EVIL)
    for route in _ROUTES:
        go(page, f"/functions/{name}{route}")
        expect(page.get_by_role("navigation", name=f"Pages of {name}")).to_be_visible()
        expect(page.locator(".head").first).to_contain_text(_EVIL)
        if route == "/logs":
            expect(page.locator(".records")).to_contain_text(_EVIL)
        if route == "":
            expect(page.get_by_role("region", name="Last errors")).to_contain_text(_EVIL)
        assert page.locator("main img[src='x'], main script").count() == 0
    go(page, f"/functions/{_EVIL}")
    expect(page.get_by_role("alert")).to_be_visible()
    assert page.evaluate("window.pwned") is None


def test_a_script_url_of_a_function_is_not_a_link(
    page: Page, dashboard: Dashboard, greeter: str
) -> None:
    kinds = page.evaluate(
        """async () => {
            const { webLink } = await import("/static/dom.js");
            return ["javascript:alert(1)", "data:text/html,x", "https://example.org/"]
                .map(one => typeof webLink(one));
        }"""
    )
    assert kinds == ["string", "string", "object"]


def test_the_page_has_no_inline_style_or_script(page: Page, greeter: str) -> None:
    for route in ("/", f"/functions/{greeter}/configuration", "/deploy", "/audit", "/session"):
        go(page, route)
        expect(page.locator("main h1").first).to_be_visible()
        assert page.locator("script:not([src]), style").count() == 0
