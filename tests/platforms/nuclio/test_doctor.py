"""What the doctor says of a Nuclio."""

from __future__ import annotations

import pytest

from fnbuild.platforms.nuclio import NuclioPlatform
from tests.engine import free_port

pytestmark = pytest.mark.system


def test_a_dashboard_that_answers(platform: NuclioPlatform, namespace: str) -> None:
    (found,) = platform.examine(namespace)
    assert (found.area, found.state) == ("nuclio", "ok")
    assert platform.dashboard.place in found.message
    assert list(platform.examine(namespace, areas=["disk"])) == []


def test_a_dashboard_that_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setenv("FNBUILD_NUCLIO_URL", f"http://127.0.0.1:{port}")
    (found,) = NuclioPlatform().examine("nuclio")
    assert found.state == "failure"
    assert str(port) in found.message
    assert "FNBUILD_NUCLIO_URL" in found.remedy


def test_no_dashboard_is_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FNBUILD_NUCLIO_URL", raising=False)
    (found,) = NuclioPlatform().examine("nuclio")
    assert (found.state, "FNBUILD_NUCLIO_URL" in found.remedy) == ("failure", True)
