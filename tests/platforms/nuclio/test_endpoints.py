"""Invocations of functions of a local or remote Nuclio."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import replace

import pytest

from fnbuild.platforms.nuclio import NuclioPlatform
from tests.engine import free_port
from tests.platforms.nuclio.fake_nuclio import Nuclio
from tests.platforms.nuclio.scenario import Scenario, invoke

pytestmark = pytest.mark.system


def test_a_function_without_a_reachable_port_is_called_through_the_dashboard(
    scenario: Scenario,
) -> None:
    deployment = scenario.deploy("one", scenario.function(serviceType="ClusterIP"))
    closed = free_port()
    remote = replace(deployment, http_port=closed, external_urls=(f"127.0.0.1:{closed}",))
    with scenario.platform.reachable_url(remote) as url:
        assert str(closed) not in url
        assert invoke(url, {"a": [1]})["got"] == {"a": [1]}
        assert invoke(url, None)["word"] == "one"
        target, headers = f"{url}/deep/path?x=1", {"Content-Type": "application/json"}
        request = urllib.request.Request(target, b'"text"', headers, method="PUT")
        with urllib.request.urlopen(request, timeout=60) as reply:
            assert json.load(reply)["got"] == "text"
            assert reply.getheader("Content-Type") == "application/json"
    with pytest.raises(OSError):  # noqa: PT011 - of any kind
        urllib.request.urlopen(url, timeout=2)
    assert ("PUT", "/api/function_invocations") in scenario.nuclio.requests


def test_a_reachable_port_is_used_directly(scenario: Scenario) -> None:
    deployment = scenario.deploy("one")
    with scenario.platform.reachable_url(deployment) as url:
        assert url.endswith(f":{deployment.http_port}")
        assert invoke(url)["word"] == "one"


def test_errors_of_the_dashboard_are_returned(
    nuclio: Nuclio, platform: NuclioPlatform, namespace: str
) -> None:
    scenario = Scenario(platform, namespace, {}, nuclio)
    scenario.add_foreign("eyes", image="nothing")
    with (
        platform.reachable_url(scenario.deployment("eyes")) as url,
        pytest.raises(urllib.error.HTTPError) as failure,
    ):
        urllib.request.urlopen(url, timeout=60)
    with failure.value as answer:
        assert answer.status == 500
        assert "Failed to invoke function" in json.load(answer)["error"]
