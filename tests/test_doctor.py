"""What the doctor says of this machine, of engines and of registries."""

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
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A data directory of its own, and no cluster."""
    monkeypatch.setenv("FNBUILD_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "no-such-file"))
    monkeypatch.delenv("FNBUILD_ENGINE", raising=False)


def asked(*areas: str, platform: str = "", registry: str = "") -> DoctorOptions:
    return DoctorOptions(lambda _: "nuclio", platform, registry, areas=frozenset(areas))


def told(request: DoctorOptions) -> list[Finding]:
    return list(doctor.examine_system(request))


def states(found: list[Finding], area: str) -> list[str]:
    return [one.state for one in found if one.area == area]


# Checks


def test_a_check_that_breaks_takes_no_other_along() -> None:
    def breaks() -> Iterator[Finding]:
        yield Finding("disk", "ok", "so far")
        raise ZeroDivisionError("by nothing")

    def refuses() -> Iterator[Finding]:
        raise UnavailableError("nobody is there", hint="call somebody")
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
    assert (findings[2].message, findings[2].remedy) == ("nobody is there", "call somebody")


def test_a_check_that_hangs_is_left() -> None:
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


def test_a_check_is_told_when_nobody_listens_any_more() -> None:
    over, cleared = threading.Event(), threading.Event()

    def makes_something() -> Iterator[Finding]:
        try:
            yield Finding("registry", "ok", "made")
            over.wait(30)
        finally:
            cleared.set()

    findings = run_checks([Check("registry", makes_something)], cancelled=over)
    next(findings)
    assert isinstance(findings, Generator)
    findings.close()
    assert cleared.is_set()


def test_only_the_areas_that_were_asked_for() -> None:
    def never() -> Iterator[Finding]:
        raise AssertionError
        yield

    checks = [Check("disk", never), Check("gpu", lambda: [Finding("gpu", "ok", "there")])]
    assert [finding.area for finding in run_checks(checks, ["gpu"])] == ["gpu"]
    with pytest.raises(UsageError, match="gpx") as failure:
        asked("gpx")
    assert failure.value.hint is not None
    assert all(area in failure.value.hint for area in AREAS)


# This machine


@pytest.mark.parametrize(
    ("free", "state"), [(100 * GIB, "ok"), (2 * GIB, "warning"), (100 << 20, "failure")]
)
def test_room_on_a_disk(tmp_path: Path, free: int, state: str) -> None:
    finding = check_disk_space("code", tmp_path, "make room", lambda _: (200 * GIB, 0, free))
    assert finding.state == state
    assert f"{free / GIB:.1f} of 200.0 GiB" in finding.message
    assert finding.remedy == ("" if state == "ok" else "make room")


def test_a_full_disk(tiny_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FNBUILD_DATA_DIR", str(tiny_disk / "data"))
    (tiny_disk / "data").mkdir()
    with contextlib.suppress(OSError), (tiny_disk / "filler").open("wb") as filler:
        while True:
            filler.write(bytes(4096))
            filler.flush()
    findings = list(doctor.check_disk())
    assert [one.state for one in findings[:2]] == ["failure", "failure"]
    assert "No space left on device" in findings[0].message
    assert "FNBUILD_DATA_DIR" in findings[0].remedy


def test_a_clock_that_is_behind() -> None:
    (finding,) = doctor.check_clock(lambda: 86400.0)
    assert finding.state == "failure"
    assert "1970-01-02 00:00:00 UTC" in finding.message
    assert finding.remedy
    (finding,) = doctor.check_clock(lambda: time.time() + 3600)
    assert (finding.state, "behind" in finding.message) == ("warning", True)
    (finding,) = doctor.check_clock()
    assert finding.state == "ok"


# Engines and registries


def test_no_engine_matters_only_where_one_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    assert states(told(asked("engine")), "engine") == ["warning"]
    needed = told(asked("engine", platform="docker"))
    assert states(needed, "engine") == ["failure"]
    assert needed[0].remedy
    assert told(asked("engine", platform="process")) == []


def test_an_engine_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FNBUILD_ENGINE", "shovel")
    (finding,) = told(asked("engine"))
    assert (finding.state, "FNBUILD_ENGINE=shovel" in finding.message) == ("failure", True)
    assert "podman" in finding.remedy


def test_a_push_leaves_nothing_behind(tmp_path: Path, resources: EngineResources) -> None:
    before = _images(resources)
    with registry(tmp_path, free_port()) as server:
        findings = told(asked("engine", "registry", registry=server.address))
        assert [(finding.area, finding.state) for finding in findings] == [
            ("engine", "ok"),
            ("registry", "ok"),
        ]
        assert server.address in findings[1].message
    assert "linux/" in findings[0].message
    until("the end of the image", lambda: not _images(resources) - before)


def _images(resources: EngineResources) -> set[str]:
    named = call(resources.engine, "images", "--format", "{{.Repository}}:{{.Tag}}").split()
    return {name for name in named if "fnbuild-doctor" in name}


def test_the_cluster_may_know_the_registry_by_another_name(
    tmp_path: Path, resources: EngineResources
) -> None:
    with registry(tmp_path, free_port()) as server:
        trial = TrialImage(server.address, "registry.inside:5000/team", needed=True)
        assert [one.state for one in (*trial.build(), *trial.push())] == ["ok", "ok"]
        assert trial.pushed.startswith("registry.inside:5000/team/fnbuild-doctor@sha256:")
        assert trial.remove() is None


def test_a_registry_that_asks_for_a_login(
    tmp_path: Path, resources: EngineResources, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nobody's credentials.
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with registry(tmp_path, free_port(), login=True) as server:
        (finding,) = told(asked("registry", registry=server.address))
    assert finding.state == "failure"
    assert "credentials" in finding.message
    assert f"docker login {server.address}" in finding.remedy


def test_a_registry_that_is_not_there(resources: EngineResources) -> None:
    (finding,) = told(asked("registry", registry=f"127.0.0.1:{free_port()}"))
    assert finding.state == "failure"
    assert "cannot be reached" in finding.message
    assert finding.remedy


def test_a_registry_that_cannot_be_one(resources: EngineResources) -> None:
    findings = told(asked("registry", registry="Not A Registry"))
    assert [finding.state for finding in findings] == ["failure", "skipped"]
    assert "--registry" in findings[0].message


def test_what_is_not_there_is_skipped() -> None:
    (finding,) = told(asked("rights"))
    assert finding == replace(finding, area="kubeconfig", state="skipped")
    assert "KUBECONFIG" in finding.remedy
    (finding,) = told(asked("registry"))
    assert (finding.area, finding.state) == ("registry", "skipped")
    assert "--registry" in finding.remedy


# Everything


def test_a_whole_machine_with_its_cluster(
    resources: EngineResources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", KUBECONFIG)
    cluster = require_cluster()
    require_local_node(cluster)
    before = _ids(resources)
    with registry(tmp_path, free_port()) as server, own_namespace(cluster) as namespace:
        findings = told(DoctorOptions(lambda _: namespace, registry=server.address))
    assert not [finding for finding in findings if finding.state == "failure"], findings
    assert {"clock", "disk", "engine", "process", "docker", "kubeconfig"} <= {
        finding.area for finding in findings
    }
    assert {finding.area for finding in findings} <= AREAS.keys()
    # Pushed by the engine, pulled by a node.
    assert states(findings, "registry") == ["ok", "ok"]
    assert [finding.message for finding in findings if finding.message.startswith("node ")]
    # The node keeps what it has pulled until it needs the room.
    for image in _ids(resources) - before:
        call(resources.engine, "rmi", "--force", image)


def _ids(resources: EngineResources) -> set[str]:
    arguments = ("images", "--quiet", "--filter", "reference=*/fnbuild-doctor")
    return set(call(resources.engine, *arguments).split())
