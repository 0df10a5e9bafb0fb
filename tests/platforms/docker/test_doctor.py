"""Doctor on the available engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from fnbuild.platforms.checks import pci_gpus
from fnbuild.platforms.docker import DockerPlatform, doctor
from tests.engine import EngineResources

pytestmark = pytest.mark.system


def test_a_healthy_engine_has_no_failures(resources: EngineResources) -> None:
    platform = DockerPlatform()
    findings = list(platform.examine("nuclio"))
    assert not [finding for finding in findings if finding.state == "failure"]
    assert platform.engine.version in findings[0].message
    assert platform.engine.host in findings[0].message
    assert {finding.area for finding in findings} == {"docker", "gpu", "disk"}
    assert {finding.area for finding in platform.examine("nuclio", areas=["gpu"])} == {"gpu"}
    platform.engine.close()


def test_an_unreachable_engine_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    (finding,) = DockerPlatform().examine("nuclio")
    assert (finding.area, finding.state) == ("docker", "failure")
    assert "/nowhere/docker.sock" in finding.message
    assert "DOCKER_HOST" in finding.remedy
    assert list(DockerPlatform().examine("nuclio", areas=["rights"])) == []


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ({"Runtimes": {"runc": {}}}, False),
        ({"Runtimes": {"runc": {}, "nvidia": {}}}, True),
        ({"DiscoveredDevices": [{"Source": "cdi", "ID": "nvidia.com/gpu=0"}]}, True),
        ({"DiscoveredDevices": [{"Source": "cdi", "ID": "example.com/device=0"}]}, False),
        ({}, False),
    ],
)
def test_gpus_of_an_engine_are_detected(info: dict[str, object], expected: bool) -> None:
    assert doctor.offers_gpus(info) is expected


def test_gpus_are_found_on_the_pci_bus(tmp_path: Path) -> None:
    for name, vendor, kind in (
        ("0000:01:00.0", "0x10de", "0x030200"),
        ("0000:01:00.1", "0x10de", "0x040300"),  # its audio device
        ("0000:02:00.0", "0x8086", "0x030000"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "vendor").write_text(f"{vendor}\n")
        (tmp_path / name / "class").write_text(f"{kind}\n")
    assert pci_gpus(tmp_path) == ["0000:01:00.0"]
    assert pci_gpus(tmp_path / "none") == []
