"""Functions are deployed from the page, and the command line shows them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.dashboard.conftest import Dashboard, Started, write_function
from tests.dashboard.page.browsing import go, opened, stored

pytestmark = pytest.mark.system


def choose(page: Page, button: str, path: Path) -> None:
    """Choose files or a folder in the browser's own dialog."""
    go(page, "/deploy")
    with page.expect_file_chooser() as chooser:
        page.get_by_text(button, exact=True).click()
    chooser.value.set_files(path)


def deployed(page: Page, name: str) -> None:
    output = page.get_by_role("log", name="Output")
    expect(output).to_contain_text("ready on")
    expect(page.get_by_role("link", name=f"Try {name}")).to_be_visible()


def test_a_folder_is_deployed_under_another_name_in_a_new_project(
    page: Page, dashboard: Dashboard, tmp_path: Path, to_delete: list[str]
) -> None:
    folder = write_function(tmp_path, "page-folder")
    (folder / "parts").mkdir()
    (folder / "parts" / "ünter.txt").write_text("below")
    choose(page, "Choose a folder", folder)
    name = page.get_by_label("Name", exact=True)
    expect(name).to_have_value("page-folder")
    name.fill("page-renamed")
    page.get_by_label("Project").fill("page-project")
    to_delete.append("page-renamed")
    page.get_by_role("button", name="Deploy", exact=True).click()
    deployed(page, "page-renamed")
    page.get_by_role("link", name="Open page-renamed").click()
    expect(page.get_by_role("heading", name="page-renamed")).to_be_visible()
    object_ = stored(dashboard, "page-renamed")
    assert object_["status"]["state"] == "ready"
    assert object_["metadata"]["labels"]["nuclio.io/project-name"] == "page-project"
    code = dashboard.data_dir / "functions/nuclio/page-renamed/revisions/1/code"
    assert (code / "parts" / "ünter.txt").read_text() == "below"
    assert dashboard.cli("invoke", "page-renamed", "--body", "hello").stdout.strip() == "hello"


def test_the_output_of_a_deploy_is_in_view(
    page: Page, dashboard: Dashboard, tmp_path: Path, to_delete: list[str]
) -> None:
    page.set_viewport_size({"width": 1000, "height": 500})
    choose(page, "Choose a folder", write_function(tmp_path, "page-in-view"))
    to_delete.append("page-in-view")
    expect(page.get_by_label("Name", exact=True)).to_have_value("page-in-view")
    page.get_by_role("button", name="Deploy", exact=True).click()
    expect(page.get_by_role("log", name="Output")).to_be_in_viewport()
    deployed(page, "page-in-view")
    expect(page.get_by_role("link", name="Try page-in-view")).to_be_in_viewport()


def test_a_zip_updates_an_existing_function(
    page: Page, dashboard: Dashboard, tmp_path: Path, to_delete: list[str]
) -> None:
    folder = write_function(tmp_path, "page-zip")
    dashboard.deploy(folder)
    to_delete.append("page-zip")
    code = (folder / "main.py").read_text()
    (folder / "main.py").write_text(code.replace("body=event.body", 'body="second"'))
    archive = shutil.make_archive(str(tmp_path / "page-zip"), "zip", folder)
    choose(page, "Choose files", Path(archive))
    there = page.get_by_text("page-zip already exists")
    expect(there).to_contain_text("the current revision serves until")
    page.get_by_role("button", name="Update page-zip").click()
    deployed(page, "page-zip")
    assert dashboard.cli("invoke", "page-zip").stdout.strip() == "second"
    assert stored(dashboard, "page-zip")["status"]["revision"] == 2


def test_a_dropped_folder_is_uploaded(
    page: Page, dashboard: Dashboard, tmp_path: Path, to_delete: list[str]
) -> None:
    folder = write_function(tmp_path, "page-dropped")
    go(page, "/deploy")
    zone = page.get_by_role("region", name="Your code")
    box = zone.bounding_box()
    assert box is not None
    session = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send(
            "Input.dispatchDragEvent",
            {
                "type": kind,
                "x": box["x"] + 20,
                "y": box["y"] + 20,
                "data": {"items": [], "files": [str(folder)], "dragOperationsMask": 1},
            },
        )
    expect(page.get_by_label("Name", exact=True)).to_have_value("page-dropped")
    to_delete.append("page-dropped")
    page.get_by_role("button", name="Deploy", exact=True).click()
    deployed(page, "page-dropped")
    assert stored(dashboard, "page-dropped")["status"]["state"] == "ready"


def test_a_failed_deploy_shows_its_output_and_reason(
    page: Page, dashboard: Dashboard, tmp_path: Path, to_delete: list[str]
) -> None:
    code = "import nothing_of_that_name\n\n\ndef handler(context, event):\n    return 1\n"
    folder = write_function(tmp_path, "page-broken", code)
    to_delete.append("page-broken")
    choose(page, "Choose a folder", folder)
    page.get_by_role("button", name="Deploy", exact=True).click()
    alert = page.get_by_role("alert").filter(has_text="nothing_of_that_name")
    expect(alert).to_be_visible()
    expect(page.get_by_role("link", name="Log", exact=True)).to_be_visible()
    expect(page.get_by_text("it is not running")).to_be_visible()
    # The error is shown once.
    expect(page.get_by_role("log", name="Output")).not_to_contain_text("nothing_of_that_name")
    expect(page.get_by_role("region", name="Deploying page-broken")).to_contain_text("failed")
    go(page, "/")
    row = page.get_by_role("row").filter(has_text="page-broken")
    expect(row).to_contain_text("error")
    expect(row).to_contain_text("nothing_of_that_name")


def test_a_port_in_use_is_reported_with_a_remedy(
    page: Page, dashboard: Dashboard, greeter: str, tmp_path: Path, to_delete: list[str]
) -> None:
    port = stored(dashboard, greeter)["status"]["httpPort"]
    spec = f"triggers: {{web: {{kind: http, attributes: {{port: {port}}}}}}}"
    to_delete.append("page-port")
    choose(page, "Choose a folder", write_function(tmp_path, "page-port", spec=spec))
    page.get_by_role("button", name="Deploy", exact=True).click()
    alert = page.get_by_role("alert").filter(has_text=str(port))
    expect(alert.locator(".error-hint")).to_contain_text("another port")


def test_findings_of_an_upload_are_shown_at_their_lines(page: Page, tmp_path: Path) -> None:
    folder = write_function(tmp_path, "page-findings", spec="eventTimeout: soon")
    choose(page, "Choose a folder", folder)
    findings = page.get_by_role("list", name="Findings")
    expect(findings).to_contain_text("Line 7:")
    expect(findings).to_contain_text("soon")


def test_a_deploy_of_invalid_yaml_shows_the_error(page: Page, tmp_path: Path) -> None:
    folder = write_function(tmp_path, "page-yaml")
    config = folder / "function.yaml"
    content = config.read_text()
    config.write_text(content.replace("handler: main", "handler: [main"))
    choose(page, "Choose a folder", folder)
    page.get_by_text("function.yaml", exact=True).click()  # folded
    page.get_by_role("button", name="Deploy", exact=True).click()
    area = page.get_by_role("textbox", name="function.yaml of the upload")
    expect(area).to_be_focused()
    line = content[: content.index("handler:")].count("\n") + 1
    place = "one => one.value.slice(0, one.selectionStart).split('\\n').length"
    assert area.evaluate(place) == line
    expect(page.get_by_role("alert").filter(has_text="has errors")).to_be_visible()
    # The corrected file can be chosen again.
    config.write_text(content)
    choose(page, "Choose a folder", folder)
    expect(page.get_by_label("Name", exact=True)).to_have_value("page-yaml")


def test_an_invalid_name_is_reported_at_its_field(page: Page, tmp_path: Path) -> None:
    choose(page, "Choose a folder", write_function(tmp_path, "page-name"))
    name = page.get_by_label("Name", exact=True)
    for text, message in (("", "needs a name"), ("two words", "two words cannot be a name")):
        name.fill(text)
        page.evaluate("scrollTo(0, document.body.scrollHeight)")
        page.get_by_role("button", name="Deploy", exact=True).click()
        expect(name).to_be_focused()
        expect(page.get_by_role("alert").filter(has_text=message)).to_be_visible()
        box, bar = name.bounding_box(), page.locator(".bar").bounding_box()
        assert box is not None
        assert bar is not None
        assert box["y"] >= bar["y"] + bar["height"]
    name.fill("Page_name.2")  # by the rules of function.yaml
    expect(page.get_by_role("alert").filter(has_text="name")).to_have_count(0)


def test_a_model_is_deployed_to_the_project_of_cvat(
    page: Page, dashboard: Dashboard, tmp_path: Path, to_delete: list[str]
) -> None:
    kind = "  annotations:\n    type: detector\n    spec: '[]'\n"
    choose(page, "Choose a folder", write_function(tmp_path, "page-cvat", annotations=kind))
    project = page.get_by_label("Project")
    expect(project).to_have_value("cvat")
    warning = page.get_by_role("status").filter(has_text="CVAT shows")
    expect(warning).to_be_hidden()
    project.fill("elsewhere")
    expect(warning).to_be_visible()
    warning.get_by_role("button", name="Use project cvat").click()
    expect(warning).to_be_hidden()
    to_delete.append("page-cvat")
    page.get_by_role("button", name="Deploy", exact=True).click()
    deployed(page, "page-cvat")
    expect(page.get_by_text("This is what page-cvat has now, as revision 1.")).to_be_visible()
    object_ = stored(dashboard, "page-cvat")
    assert object_["metadata"]["labels"]["nuclio.io/project-name"] == "cvat"
    # Other functions do not need that project.
    choose(page, "Choose a folder", write_function(tmp_path, "page-plain"))
    expect(page.get_by_label("Name", exact=True)).to_have_value("page-plain")
    expect(project).to_have_value("")


def test_an_upload_without_a_function_is_refused_with_a_remedy(page: Page, tmp_path: Path) -> None:
    picture = tmp_path / "faces.png"
    picture.write_bytes(b"\x89PNG\r\n")
    folder = tmp_path / "pictures"
    folder.mkdir()
    picture_below = folder / "other.png"
    picture_below.write_bytes(b"\x89PNG\r\n")
    archive = shutil.make_archive(str(tmp_path / "packed"), "zip", folder)
    chosen = (
        ("Choose files", picture, "faces.png: neither"),
        ("Choose a folder", folder, "pictures: neither"),
        ("Choose files", Path(archive), "packed.zip has neither"),
    )
    for button, path, message in chosen:
        choose(page, button, path)
        alert = page.get_by_role("alert").filter(has_text=message)
        expect(alert.locator(".error-hint")).to_contain_text("folder of")
        expect(page.get_by_role("button", name="Deploy", exact=True)).to_have_count(0)


def test_a_function_of_the_library_is_deployed_with_one_choice(
    browser: Browser, started: Started, tmp_path: Path
) -> None:
    library = tmp_path / "library"
    write_function(library / "plain", "page-book", annotations="  annotations:\n    name: A book\n")
    write_function(library / "plain", "page-other")
    with started("--library", str(library)) as dashboard, opened(browser, dashboard) as page:
        go(page, "/deploy")
        page.get_by_role("searchbox", name="Filter the library").fill("book")
        shelf = page.get_by_role("region", name="From the library").get_by_role("button")
        expect(shelf).to_have_count(1)
        shelf.click()
        expect(page.get_by_label("Name", exact=True)).to_have_value("page-book")
        page.get_by_role("button", name="Deploy", exact=True).click()
        deployed(page, "page-book")
        assert stored(dashboard, "page-book")["status"]["state"] == "ready"
