"""Endpoints of Nuclio's dashboard for features that fnbuild does not have."""

from __future__ import annotations

from typing import Any

import pytest

from fnbuild import __version__
from tests.dashboard.conftest import Dashboard, Started

pytestmark = pytest.mark.system


def value(dashboard: Dashboard, path: str) -> Any:
    answer = dashboard.request("GET", path, token=False)
    assert answer.status == 200
    return answer.json


def test_the_dashboard_describes_itself(dashboard: Dashboard) -> None:
    spec = value(dashboard, "/api/frontend_spec")["frontendSpec"]
    assert spec["namespace"] == "nuclio"
    assert spec["platformKind"] == "process"
    assert spec["scaleToZero"]["mode"] == "disabled"
    assert spec.keys() == {
        "externalIPAddresses", "namespace", "defaultHTTPIngressHostTemplate",
        "imageNamePrefixTemplate", "scaleToZero", "defaultFunctionConfig", "platformKind",
        "allowedAuthenticationModes", "validFunctionPriorityClassNames",
        "defaultFunctionPodResources", "autoScaleMetrics", "disableDefaultHttpTrigger",
        "defaultProxyLogsSource",
    }  # fmt: skip
    assert spec["autoScaleMetrics"]["customMetricsEnabled"] is False
    function = spec["defaultFunctionConfig"]["attributes"]
    assert function["metadata"] == {}
    assert function["spec"]["readinessTimeoutSeconds"] == 120
    assert function["spec"]["triggers"].keys() == {"default-http", "http", "cron"}
    assert function["spec"]["triggers"]["default-http"]["kind"] == "http"
    assert function["spec"]["eventTimeout"] == ""
    version = value(dashboard, "/api/versions")["dashboard"]
    assert version.keys() == {"label", "fnbuild", "gitCommit", "os", "arch"}
    assert (version["label"], version["fnbuild"]) == ("1.17.9", __version__)
    assert version["os"] == "linux"
    assert value(dashboard, "/api/namespaces") == {"namespaces": {"names": ["nuclio"]}}


def test_addresses_are_those_of_the_flag(dashboard: Dashboard, started: Started) -> None:
    own = {"externalIPAddresses": {"addresses": ["127.0.0.1"]}}
    assert value(dashboard, "/api/external_ip_addresses") == own
    with started("--external-ip-addresses", "192.0.2.1,192.0.2.2") as configured:
        addresses = value(configured, "/api/external_ip_addresses")["externalIPAddresses"][
            "addresses"
        ]
        assert addresses == ["192.0.2.1", "192.0.2.2"]
        spec = value(configured, "/api/frontend_spec")["frontendSpec"]
        assert spec["externalIPAddresses"] == addresses


@pytest.mark.parametrize("path", ["/api/api_gateways", "/api/v3io_streams"])
def test_lists_of_unsupported_objects_are_empty(dashboard: Dashboard, path: str) -> None:
    assert value(dashboard, path) == {}


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/api/api_gateways"), ("PUT", "/api/api_gateways/any")]
)
def test_gateways_cannot_be_created(dashboard: Dashboard, method: str, path: str) -> None:
    gateway = {"metadata": {"name": "any"}, "spec": {"host": "any.example"}}
    answer = dashboard.request(method, path, json=gateway)
    assert (answer.status, answer.json["error"]) == (412, "there are no API gateways here")
    assert answer.json["hint"]
    assert dashboard.request(method, path, json=gateway, token=False).status == 401


def test_deleting_a_missing_gateway_succeeds(dashboard: Dashboard) -> None:
    body = {"metadata": {"name": "any"}}
    assert dashboard.request("DELETE", "/api/api_gateways", json=body).status == 204
    assert dashboard.request("DELETE", "/api/api_gateways/any").status == 204
    assert dashboard.request("DELETE", "/api/api_gateways/any", token=False).status == 401


def test_gateways_and_shards_are_not_found(dashboard: Dashboard) -> None:
    assert dashboard.request("GET", "/api/api_gateways/any").status == 404
    lags = dashboard.request("POST", "/api/v3io_streams/get_shard_lags", json={}, token=False)
    assert (lags.status, lags.json) == (200, {})
    broken = dashboard.request("POST", "/api/v3io_streams/get_shard_lags", body="[")
    assert broken.status == 400
