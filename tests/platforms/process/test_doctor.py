"""Checks of the process platform for `fnbuild doctor`."""

from __future__ import annotations

import os
import signal
import stat
import sys
from pathlib import Path

import pytest

from fnbuild.platforms import Finding
from fnbuild.platforms.process import ProcessPlatform, supervisor_client
from fnbuild.runtime import nvml
from tests.platforms.process.author import NAMESPACE, Author, alive, wait_for

pytestmark = pytest.mark.system


def examine(platform: ProcessPlatform, *areas: str) -> list[Finding]:
    return list(platform.examine(NAMESPACE, areas=areas))


def test_a_healthy_machine_has_no_failures(platform: ProcessPlatform) -> None:
    findings = examine(platform)
    assert {finding.area for finding in findings} == {"process", "gpu"}
    assert not [finding for finding in findings if finding.state == "failure"], findings
    assert any(sys.executable in finding.message for finding in findings)
    assert any("no supervisor" in finding.message for finding in findings)
    assert examine(platform, "rights") == []


def test_a_lost_supervisor_is_a_warning(platform: ProcessPlatform, author: Author) -> None:
    author.deploy(author.write("one"))
    running = supervisor_client.running_supervisor()
    assert running is not None
    assert any(f"pid {running.pid}" in finding.message for finding in examine(platform, "process"))
    os.kill(running.pid, signal.SIGKILL)
    assert wait_for(lambda: not alive(running.pid))
    (lost,) = (finding for finding in examine(platform, "process") if finding.state != "ok")
    assert lost.state == "warning"
    assert "supervisor" in lost.message
    assert "`fnbuild up`" in lost.remedy
    platform.up()
    assert all(finding.state == "ok" for finding in examine(platform, "process"))


def test_missing_namespaces_are_a_warning(
    platform: ProcessPlatform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing = tmp_path / "python"
    refusing.write_text("#!/bin/sh\necho -n 'mount: Operation not permitted'\n")
    refusing.chmod(refusing.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(sys, "executable", str(refusing))
    (lost,) = (finding for finding in examine(platform, "process") if finding.state != "ok")
    assert lost.state == "warning"
    assert "Operation not permitted" in lost.message
    assert "/opt/nuclio" in lost.message
    assert "sysctl" in lost.remedy


def test_a_broken_gpu_driver_is_a_warning(
    platform: ProcessPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Library:
        def __getattr__(self, name: str) -> object:
            return lambda *_: 18  # NVML_ERROR_LIB_RM_VERSION_MISMATCH

    monkeypatch.setattr(nvml, "load_library", Library)
    (finding,) = examine(platform, "gpu")
    assert finding.state == "warning"
    assert "does not work" in finding.message
    assert "nvidia-smi" in finding.remedy
