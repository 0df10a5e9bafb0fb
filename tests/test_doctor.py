"""Doctor on this machine, engines and registries."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fnbuild import doctor
from fnbuild.doctor import DoctorOptions, TrialImage
from fnbuild.errors import UnavailableError, UsageError
from fnbuild.platforms import Finding
from fnbuild.platforms.checks import AREAS, Check, check_disk_space, run_checks
from tests.cluster import own_namespace, require_cluster, require_local_node
from tests.engine import EngineResources, call, free_port, registry, until

pytestmark = pytest.mark.system

GIB = 1 << 30


KUBECONFIG = os.environ.get("KUBECONFIG", "")


@pytest.fixture(autouse=True)
def _isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use a separate data directory and no cluster."""
    monkeypatch.setenv("FNBUILD_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "no-such-file"))
    monkeypatch.delenv("FNBUILD_ENGINE", raising=False)


def doctor_options(*areas: str, platform: str = "", registry: str = "") -> DoctorOptions:
    return DoctorOptions(lambda _: "nuclio", platform, registry, areas=frozenset(areas))


def examine(request: DoctorOptions) -> list[Finding]:
    return list(doctor.examine_system(request))


def states(findings: list[Finding], area: str) -> list[str]:
    return [finding.state for finding in findings if finding.area == area]


# Checks


def test_a_failing_check_does_not_affect_others() -> None:
    def breaks() -> Iterator[Finding]:
        yield Finding("disk", "ok", "so far")
        raise ZeroDivisionError("by nothing")

    def refuses() -> Iterator[Finding]:
        raise UnavailableError("no answer", hint="start it")
        yield

    def works() -> Iterator[Finding]:
        yield Finding("gpu", "ok", "there")

    findings = list(
        run_checks([Check("disk", breaks), Check("clock", refuses), Check("gpu", works)])
    )
    assert [(finding.area, finding.state) for finding in findings] == [
        ("disk", "ok"),
        ("disk", "failure"),
        ("clock", "failure"),
        ("gpu", "ok"),
    ]
    assert "ZeroDivisionError: by nothing" in findings[1].message
    assert (findings[2].message, findings[2].remedy) == ("no answer", "start it")


def test_a_hanging_check_is_a_failure() -> None:
    hanging = threading.Event()

    def hangs() -> Iterator[Finding]:
        yield Finding("disk", "ok", "first")
        hanging.wait(30)

    started = time.monotonic()
    findings = list(
        run_checks(
            [Check("disk", hangs, 2.0), Check("gpu", lambda: [Finding("gpu", "ok", "there")])]
        )
    )
    assert time.monotonic() - started < 25
    assert [finding.state for finding in findings] == ["ok", "failure", "ok"]
    assert "no answer within 2 s" in findings[1].message
    hanging.set()


def test_a_cancelled_check_cleans_up() -> None:
    cancelled, cleaned_up = threading.Event(), threading.Event()

    def create_object() -> Iterator[Finding]:
        try:
            yield Finding("registry", "ok", "made")
            cancelled.wait(30)
        finally:
            cleaned_up.set()

    findings = run_checks([Check("registry", create_object)], cancelled=cancelled)
    next(findings)
    assert isinstance(findings, Generator)
    findings.close()
    assert cleaned_up.is_set()


def test_only_requested_areas_are_checked() -> None:
    def never() -> Iterator[Finding]:
        raise AssertionError
        yield

    checks = [Check("disk", never), Check("gpu", lambda: [Finding("gpu", "ok", "there")])]
    assert [finding.area for finding in run_checks(checks, ["gpu"])] == ["gpu"]
    with pytest.raises(UsageError, match="gpx") as failure:
        doctor_options("gpx")
    assert failure.value.hint is not None
    assert all(area in failure.value.hint for area in AREAS)


# This machine


@pytest.mark.parametrize(
    ("free", "state"), [(100 * GIB, "ok"), (2 * GIB, "warning"), (100 << 20, "failure")]
)
def test_free_space_is_checked(tmp_path: Path, free: int, state: str) -> None:
    finding = check_disk_space("code", tmp_path, "make room", lambda _: (200 * GIB, 0, free))
    assert finding.state == state
    assert f"{free / GIB:.1f} of 200.0 GiB" in finding.message
    assert finding.remedy == ("" if state == "ok" else "make room")


def test_a_full_disk_is_a_failure(tiny_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FNBUILD_DATA_DIR", str(tiny_disk / "data"))
    (tiny_disk / "data").mkdir()
    with contextlib.suppress(OSError), (tiny_disk / "filler").open("wb") as filler:
        while True:
            filler.write(bytes(4096))
            filler.flush()
    findings = list(doctor.check_disk())
    assert [finding.state for finding in findings[:2]] == ["failure", "failure"]
    assert "No space left on device" in findings[0].message
    assert "FNBUILD_DATA_DIR" in findings[0].remedy


def test_a_wrong_clock_is_reported() -> None:
    (finding,) = doctor.check_clock(lambda: 86400.0)
    assert finding.state == "failure"
    assert "1970-01-02 00:00:00 UTC" in finding.message
    assert finding.remedy
    (finding,) = doctor.check_clock(lambda: time.time() + 3600)
    assert (finding.state, "behind" in finding.message) == ("warning", True)
    (finding,) = doctor.check_clock()
    assert finding.state == "ok"


# Engines and registries


def test_a_missing_engine_is_a_failure_only_if_it_is_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    assert states(examine(doctor_options("engine")), "engine") == ["warning"]
    findings = examine(doctor_options("engine", platform="docker"))
    assert states(findings, "engine") == ["failure"]
    assert findings[0].remedy
    assert examine(doctor_options("engine", platform="process")) == []


def test_an_unknown_engine_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FNBUILD_ENGINE", "shovel")
    (finding,) = examine(doctor_options("engine"))
    assert (finding.state, "FNBUILD_ENGINE=shovel" in finding.message) == ("failure", True)
    assert "podman" in finding.remedy


def test_a_test_push_leaves_no_image(tmp_path: Path, resources: EngineResources) -> None:
    before = _images(resources)
    with registry(tmp_path, free_port()) as server:
        findings = examine(doctor_options("engine", "registry", registry=server.address))
        assert [(finding.area, finding.state) for finding in findings] == [
            ("engine", "ok"),
            ("registry", "ok"),
        ]
        assert server.address in findings[1].message
    assert "linux/" in findings[0].message
    until("the end of the image", lambda: not _images(resources) - before)


def _images(resources: EngineResources) -> set[str]:
    references = call(resources.engine, "images", "--format", "{{.Repository}}:{{.Tag}}").split()
    return {name for name in references if "fnbuild-doctor" in name}


def test_the_cluster_may_use_another_name_of_the_registry(
    tmp_path: Path, resources: EngineResources
) -> None:
    with registry(tmp_path, free_port()) as server:
        trial = TrialImage(server.address, "registry.inside:5000/team", needed=True)
        assert [finding.state for finding in (*trial.build(), *trial.push())] == ["ok", "ok"]
        assert trial.pushed.startswith("registry.inside:5000/team/fnbuild-doctor@sha256:")
        assert trial.remove() is None


def test_a_registry_that_requires_a_login_is_a_failure(
    tmp_path: Path, resources: EngineResources, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A configuration without credentials.
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with registry(tmp_path, free_port(), login=True) as server:
        (finding,) = examine(doctor_options("registry", registry=server.address))
    assert finding.state == "failure"
    assert "credentials" in finding.message
    assert f"docker login {server.address}" in finding.remedy


def test_an_unreachable_registry_is_a_failure(resources: EngineResources) -> None:
    (finding,) = examine(doctor_options("registry", registry=f"127.0.0.1:{free_port()}"))
    assert finding.state == "failure"
    assert "cannot be reached" in finding.message
    assert finding.remedy


def test_an_invalid_registry_is_a_failure(resources: EngineResources) -> None:
    findings = examine(doctor_options("registry", registry="Not A Registry"))
    assert [finding.state for finding in findings] == ["failure", "skipped"]
    assert "--registry" in findings[0].message


def test_missing_services_are_skipped() -> None:
    (finding,) = examine(doctor_options("rights"))
    assert finding == replace(finding, area="kubeconfig", state="skipped")
    assert "KUBECONFIG" in finding.remedy
    (finding,) = examine(doctor_options("registry"))
    assert (finding.area, finding.state) == ("registry", "skipped")
    assert "--registry" in finding.remedy


# The whole machine


def test_a_machine_with_a_cluster_has_no_failures(
    resources: EngineResources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", KUBECONFIG)
    cluster = require_cluster()
    require_local_node(cluster)
    before = _ids(resources)
    with registry(tmp_path, free_port()) as server, own_namespace(cluster) as namespace:
        findings = examine(DoctorOptions(lambda _: namespace, registry=server.address))
    assert not [finding for finding in findings if finding.state == "failure"], findings
    assert {"clock", "disk", "engine", "process", "docker", "kubeconfig"} <= {
        finding.area for finding in findings
    }
    assert {finding.area for finding in findings} <= AREAS.keys()
    # The engine has pushed the image, and a node has pulled it.
    assert states(findings, "registry") == ["ok", "ok"]
    assert [finding.message for finding in findings if finding.message.startswith("node ")]
    # The node keeps pulled images until it needs the space.
    for image in _ids(resources) - before:
        call(resources.engine, "rmi", "--force", image)


def _ids(resources: EngineResources) -> set[str]:
    arguments = ("images", "--quiet", "--filter", "reference=*/fnbuild-doctor")
    return set(call(resources.engine, *arguments).split())
