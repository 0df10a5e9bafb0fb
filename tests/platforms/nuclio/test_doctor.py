"""Doctor on a Nuclio."""

from __future__ import annotations

import pytest

from fnbuild.platforms.nuclio import NuclioPlatform
from tests.engine import free_port

pytestmark = pytest.mark.system


def test_a_dashboard_that_answers_is_ok(platform: NuclioPlatform, namespace: str) -> None:
    (finding,) = platform.examine(namespace)
    assert (finding.area, finding.state) == ("nuclio", "ok")
    assert platform.dashboard.place in finding.message
    assert list(platform.examine(namespace, areas=["disk"])) == []


def test_an_unreachable_dashboard_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setenv("FNBUILD_NUCLIO_URL", f"http://127.0.0.1:{port}")
    (finding,) = NuclioPlatform().examine("nuclio")
    assert finding.state == "failure"
    assert str(port) in finding.message
    assert "FNBUILD_NUCLIO_URL" in finding.remedy


def test_a_missing_configuration_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FNBUILD_NUCLIO_URL", raising=False)
    (finding,) = NuclioPlatform().examine("nuclio")
    assert (finding.state, "FNBUILD_NUCLIO_URL" in finding.remedy) == ("failure", True)
