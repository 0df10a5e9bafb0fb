"""The API's description is valid and complete, and its page works on its own."""

from __future__ import annotations

import re

from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.routing import Route

from fnbuild.dashboard.app import ENDPOINTS, create_app
from fnbuild.dashboard.settings import Settings
from fnbuild.store import Store
from tests.dashboard.conftest import Dashboard


def test_the_description_is_valid_openapi(dashboard: Dashboard) -> None:
    response = dashboard.request("GET", "/api/openapi.json", token=False)
    assert response.status == 200
    OpenAPIV31SpecValidator(response.json).validate()


def test_every_route_is_in_the_description(dashboard: Dashboard, tmp_path) -> None:
    described = dashboard.request("GET", "/api/openapi.json").json["paths"]
    with Store(tmp_path / "fnbuild.db") as store:
        app = create_app(Settings(), store)
        app.state.services.tokens.close()
    api = [
        app_route
        for app_route in app.routes
        if isinstance(app_route, Route) and app_route.path.startswith("/api/")
    ]
    assert len(api) > 20
    for route in api:
        path = re.sub(r":\w+}", "}", route.path)
        methods = {method.lower() for method in route.methods or ()}
        assert methods - {"head"} <= set(described[path]), path


def test_the_required_access_is_in_the_description(dashboard: Dashboard) -> None:
    described = dashboard.request("GET", "/api/openapi.json").json["paths"]
    assert {} in described["/api/functions"]["get"]["security"]
    assert {} not in described["/api/functions"]["post"]["security"]
    assert described["/api/functions"]["post"]["security"]
    assert described["/api/session"]["post"]["security"] == []


def test_every_endpoint_has_a_unique_description() -> None:
    taken = [(endpoint.path, endpoint.method) for endpoint in ENDPOINTS]
    assert len(taken) == len(set(taken))
    assert all(entry.summary for entry in ENDPOINTS)


def test_the_page_loads_nothing_from_other_hosts(dashboard: Dashboard) -> None:
    text = dashboard.request("GET", "/api/docs", token=False).text
    for name in re.findall(r'(?:src|href)="(/static/[^"]+)"', text):
        assert dashboard.request("GET", name, token=False).status == 200
    assert "//" not in re.sub(r"<!doctype html>", "", text)
