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


def told(platform: ProcessPlatform, *areas: str) -> list[Finding]:
    return list(platform.examine(NAMESPACE, areas=areas))


def test_a_machine_that_is_well(platform: ProcessPlatform) -> None:
    found = told(platform)
    assert {one.area for one in found} == {"process", "gpu"}
    assert not [one for one in found if one.state == "failure"], found
    assert any(sys.executable in one.message for one in found)
    assert any("no supervisor" in one.message for one in found)
    assert told(platform, "rights") == []


def test_the_supervisor(platform: ProcessPlatform, author: Author) -> None:
    author.deploy(author.write("one"))
    running = supervisor_client.running_supervisor()
    assert running is not None
    assert any(f"pid {running.pid}" in one.message for one in told(platform, "process"))
    os.kill(running.pid, signal.SIGKILL)
    assert wait_for(lambda: not alive(running.pid))
    (lost,) = (one for one in told(platform, "process") if one.state != "ok")
    assert lost.state == "warning"
    assert "supervisor" in lost.message
    assert "`fnbuild up`" in lost.remedy
    platform.up()
    assert all(one.state == "ok" for one in told(platform, "process"))


def test_a_kernel_that_allows_no_namespaces(
    platform: ProcessPlatform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing = tmp_path / "python"
    refusing.write_text("#!/bin/sh\necho -n 'mount: Operation not permitted'\n")
    refusing.chmod(refusing.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(sys, "executable", str(refusing))
    (lost,) = (one for one in told(platform, "process") if one.state != "ok")
    assert lost.state == "warning"
    assert "Operation not permitted" in lost.message
    assert "/opt/nuclio" in lost.message
    assert "sysctl" in lost.remedy


def test_a_driver_that_does_not_work(
    platform: ProcessPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Library:
        def __getattr__(self, name: str) -> object:
            return lambda *_: 18  # NVML_ERROR_LIB_RM_VERSION_MISMATCH

    monkeypatch.setattr(nvml, "load", Library)
    (found,) = told(platform, "gpu")
    assert found.state == "warning"
    assert "does not work" in found.message
    assert "nvidia-smi" in found.remedy
