"""Code of deploys through the API: URLs, repositories, the library."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fnbuild.dashboard.operations.code_source import source_kind
from fnbuild.errors import UsageError
from fnbuild.function.reader import function_from_dict
from fnbuild.platforms import Deployment
from tests.builder.sources.conftest import Page, Web, web  # noqa: F401 - a fixture
from tests.builder.sources.test_git import repository, served  # noqa: F401 - fixtures
from tests.dashboard.calls import (
    WAIT,
    answering,
    deployed,
    gone_at_the_end,
    invoked,
    operation,
    settled,
)
from tests.dashboard.conftest import Dashboard, Started, write_function
from tests.dashboard.test_uploads import CODE, configured, zipped

pytestmark = pytest.mark.system


@pytest.fixture
def name(dashboard: Dashboard) -> Iterator[str]:
    with gone_at_the_end(dashboard, f"from-{uuid.uuid4().hex[:8]}") as unique_name:
        yield unique_name


def of(name: str, **build: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"build": build}}


@pytest.mark.parametrize("kind", ["archive", ""])
def test_an_archive_is_downloaded_with_the_headers_of_the_request(
    dashboard: Dashboard,
    name: str,
    web: Web,  # noqa: F811
    kind: str,
) -> None:
    files = {"function.yaml": configured("other"), "main.py": CODE.format(text="fetched")}
    web.pages["/code.zip"] = Page(zipped({f"top/{path}": text for path, text in files.items()}))
    body = of(name, path=f"{web.url}/code.zip", codeEntryType=kind)
    body["spec"]["build"]["codeEntryAttributes"] = {"headers": {"X-Key": "s3cret"}}
    deployed(dashboard, body)
    assert invoked(dashboard, name) == "fetched"
    assert web.seen[0][1]["X-Key"] == "s3cret"
    assert any("downloading" in line["message"] for line in operation(dashboard, name)["lines"])
    shown = dashboard.request("GET", f"/api/functions/{name}")
    assert "s3cret" not in shown.text
    assert shown.json["spec"]["description"] == "as sent"


def test_a_missing_url_is_the_error_of_the_change(
    dashboard: Dashboard,
    name: str,
    web: Web,  # noqa: F811
) -> None:
    body = of(name, path=f"{web.url}/none.zip", codeEntryType="archive")
    answer = dashboard.request("POST", "/api/functions", json=body, headers=WAIT)
    assert answer.status == 400, answer.text
    final_status = settled(dashboard, name)
    assert final_status["state"] == "error"
    assert "404" in final_status["message"]
    assert answer.json["error"] in final_status["message"]
    # Only the dashboard has it, and it can be deleted like every other function.
    assert name in dashboard.request("GET", "/api/functions").json
    assert dashboard.request("DELETE", f"/api/functions/{name}").status == 204
    assert dashboard.request("GET", f"/api/functions/{name}").status == 404
    assert name not in dashboard.request("GET", "/api/functions").json


def test_a_repository_is_cloned_and_its_password_is_not_shown(
    dashboard: Dashboard,
    name: str,
    served: tuple[str, list[str]],  # noqa: F811
) -> None:
    attributes = {"branch": "main", "workDir": "fn", "username": "me", "password": "p0rcelain"}
    deployed(
        dashboard,
        of(name, path=served[0], codeEntryType="git", codeEntryAttributes=attributes),
    )
    assert invoked(dashboard, name) == "ok"
    for path in ("", "/operation"):
        assert "p0rcelain" not in dashboard.request("GET", f"/api/functions/{name}{path}").text
    assert "p0rcelain" not in (dashboard.data_dir / "fnbuild.db").read_bytes().decode("latin-1")


@pytest.mark.parametrize("url", ["file:///etc", "FILE:///etc", "/etc", "../etc"])
def test_a_repository_on_this_machine_is_refused(dashboard: Dashboard, name: str, url: str) -> None:
    body = of(name, path=url, codeEntryType="git", codeEntryAttributes={"branch": "main"})
    answer = dashboard.request("POST", "/api/functions", json=body, headers=WAIT)
    assert answer.status == 400, answer.text
    assert any(
        message in answer.json["error"] for message in ("not a supported address", "not opened")
    )


def test_functions_of_the_library_are_listed_and_deployed(
    started: Started, tmp_path_factory: pytest.TempPathFactory
) -> None:
    library = tmp_path_factory.mktemp("library")
    annotations = "  annotations:\n    name: First of them\n    type: detector\n    spec: '[]'\n"
    write_function(
        library / "cv", "first", CODE.format(text="of the library"), annotations=annotations
    )
    write_function(library, "second")
    (library / "broken").mkdir()
    (library / "broken" / "function.yaml").write_text("metadata: [")
    with started("--library", str(library)) as own:
        reply = own.request("GET", "/api/library", token=False).json["functions"]
        assert list(reply) == ["cv/first", "second"]
        first = reply["cv/first"]
        assert (first["title"], first["type"], first["files"]) == ("First of them", "detector", 2)
        assert first["description"] == "first of the tests"
        deployed(own, of("mine", path="library:cv/first"))
        assert invoked(own, "mine") == "of the library"
        for wanted in ("library:none", "library:../library/second", "library:"):
            answer = own.request("POST", "/api/functions", json=of("other", path=wanted))
            assert answer.status == 404, wanted
            assert "cv/first" in answer.json["hint"]


def test_templates_of_the_library_are_rendered_with_values(
    started: Started, tmp_path_factory: pytest.TempPathFactory
) -> None:
    library = tmp_path_factory.mktemp("library")
    write_function(library, "small", CODE.format(text="of a template"))
    large = write_function(library, "large")
    (large / "more.py").write_text("")
    with started("--library", str(library)) as own:
        reply = own.request("GET", "/api/function_templates").json
        assert list(reply) == ["large", "small"]
        assert reply["large"]["spec"]["build"]["path"] == "library:large"
        deployed(own, reply["small"])
        assert invoked(own, "small") == "of a template"
        only = own.request(
            "GET", "/api/function_templates", headers={"x-nuclio-filter-contains": "SMALL"}
        )
        assert list(only.json) == ["small"]
        template = "metadata: {name: {{ .name }}}\nspec: {handler: '{{ .module }}:handler'}"

        def rendered(**values: str) -> Any:
            body = {"template": template, "values": values}
            return own.request("POST", "/api/function_templates/render", json=body, token=False)

        assert rendered(name="made", module="main").json == {
            "metadata": {"name": "made"},
            "spec": {"handler": "main:handler"},
        }
        assert rendered(name="made").status == 400
        assert "'module'" in rendered(name="made").json["error"]
        template = "{{ range .x }}"
        assert rendered().status == 400


@pytest.mark.parametrize(
    ("template", "status"),
    [
        ("metadata: {name: {{- .x -}}}", 200),
        ("{{ .big }}" * 1000, 400),
        ("#" + "{{}}" * 300_000, 400),
        ("{{" + " " * 100_000, 400),
        ("{{ " * 100_000, 400),
    ],
)
def test_rendering_a_template_is_limited(dashboard: Dashboard, template: str, status: int) -> None:
    body = {"template": template, "values": {"x": "y", "big": "#" * 100_000}}
    path = "/api/function_templates/render"
    answer = dashboard.request("POST", path, json=body, token=False, timeout=20)
    assert answer.status == status, answer.text[:500]
    if template.startswith(("{{ .big", "#")):
        assert "more than 1 MiB" in answer.json["error"]


def test_without_a_library_its_list_is_empty(dashboard: Dashboard) -> None:
    for path in ("library", "function_templates"):
        answer = dashboard.request("GET", f"/api/{path}")
        assert answer.status == 200
        assert isinstance(answer.json, dict)


def test_concurrent_deploys_of_one_upload(dashboard: Dashboard, name: str) -> None:
    files = {"function.yaml": configured("any"), "main.py": CODE.format(text="shared")}
    path = dashboard.request("POST", "/api/uploads", body=zipped(files)).json["path"]
    names = [f"{name}-{number}" for number in range(3)]
    for function_name in names:
        assert (
            dashboard.request("POST", "/api/functions", json=of(function_name, path=path)).status
            == 202
        )
    for function_name in names:
        assert settled(dashboard, function_name)["state"] == "ready"
        assert invoked(dashboard, function_name) == "shared"
        dashboard.request("DELETE", f"/api/functions/{function_name}")


def test_no_temporary_code_is_left(dashboard: Dashboard, name: str) -> None:
    deployed(dashboard, answering(name, "one"))
    left = [
        path
        for place in ("dashboards", "staging")
        for path in (dashboard.data_dir / place).rglob("*")
        if path.suffix not in (".lock", ".tmp")
    ]
    assert left == []


# The source that is used if there are several


def deployment_with(**build: Any) -> Deployment:
    raw = {"metadata": {"name": "it"}, "spec": {"image": "it:latest", "build": build}}
    return Deployment(function_from_dict(raw, "it"), "local", "ready", revision=1)


@pytest.mark.parametrize(
    ("spec", "current", "wanted"),
    [
        ({"build": {"functionSourceCode": "eA=="}}, None, "inline"),
        ({"build": {"functionSourceCode": "eA==", "codeEntryType": "image"}}, None, "image"),
        ({"build": {"functionSourceCode": "eA==", "mode": "neverBuild"}}, None, "image"),
        ({"image": "a:1"}, None, "image"),
        ({"build": {"path": "https://example.com/code.zip"}}, None, "remote"),
        ({"build": {"codeEntryType": "s3"}}, None, "remote"),
        ({"build": {"path": "upload:x"}}, None, "upload"),
        ({"build": {"path": "library:x"}}, None, "library"),
        ({}, deployment_with(), "recorded"),
        ({"image": "it:latest"}, deployment_with(), "recorded"),
        ({"image": "another:1"}, deployment_with(), "image"),
        ({"build": {"path": "/home/me/it"}}, deployment_with(path="/home/me/it"), "recorded"),
        ({"build": {"path": "/etc"}}, deployment_with(path="/home/me/it"), None),
        ({"build": {"path": "./it"}}, None, None),
        ({}, None, None),
    ],
)
def test_the_kind_of_a_functions_code(
    spec: dict[str, Any], current: Deployment | None, wanted: str | None
) -> None:
    function = function_from_dict({"metadata": {"name": "it"}, "spec": spec}, "it")
    if wanted is None:
        with pytest.raises(UsageError):
            source_kind(function, current)
    else:
        assert source_kind(function, current) == wanted


def test_a_library_cannot_refer_outside_its_folder(started: Started, tmp_path: Path) -> None:
    library = tmp_path / "library"
    write_function(library, "inside")
    outside = write_function(tmp_path / "outside", "secret")
    (library / "link").symlink_to(outside)
    with started("--library", str(library)) as own:
        assert list(own.request("GET", "/api/library").json["functions"]) == ["inside"]
