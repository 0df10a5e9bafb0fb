"""`fnbuild doctor`: its table, its JSON, its exit status."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fnbuild.cli import app
from tests.cli.conftest import Outcome

Fnbuild = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def _alone(empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the cluster and the engine of this machine."""
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "no-such-file"))
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    monkeypatch.delenv("FNBUILD_ENGINE", raising=False)


def test_a_machine_without_engine_and_cluster_has_no_error(fnbuild: Fnbuild) -> None:
    done = fnbuild("doctor", "-o", "json")
    result = json.loads(done.out)
    assert (done.status, result["state"]) == (0, "warning"), done.err
    assert all(set(item) == {"area", "state", "message", "remedy"} for item in result["findings"])
    by_area = {item["area"]: item["state"] for item in result["findings"]}
    assert by_area["clock"] == "ok"
    assert (by_area["engine"], by_area["kubeconfig"]) == ("warning", "skipped")
    assert "docker" not in by_area
    assert not any(item["state"] == "failure" for item in result["findings"])


def test_the_table_has_remedies(fnbuild: Fnbuild) -> None:
    done = fnbuild("doctor", "engine", "clock", "--platform", "local")
    assert done.status == 1
    header, clock, engine = done.out.splitlines()[:3]
    assert [word.strip() for word in header.split("|")] == ["STATE", "AREA", "WHAT"]
    assert clock.startswith("ok ")
    assert engine.startswith("failure ")
    assert "engine: start it" in done.err
    assert "1 failure" in done.err or "2 failures" in done.err

    wide = fnbuild("doctor", "engine", "-o", "wide", "--platform", "local")
    assert wide.out.splitlines()[0].endswith("REMEDY")
    assert "start it" in wide.out
    assert "engine: " not in wide.err


def test_the_platform_of_the_environment_is_not_a_requirement(
    fnbuild: Fnbuild, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FNBUILD_PLATFORM", "local")
    assert fnbuild("doctor", "engine").status == 0
    assert fnbuild("--platform", "local", "doctor", "engine").status == 1
    assert fnbuild("doctor", "engine", "--platform", "auto").status == 0


def test_only_the_process_platform(fnbuild: Fnbuild) -> None:
    done = fnbuild("doctor", "--platform", "process", "-o", "json")
    assert done.status == 0, done.out
    areas = {item["area"] for item in json.loads(done.out)["findings"]}
    assert areas == {"clock", "disk", "process", "gpu"}


def test_unknown_arguments(fnbuild: Fnbuild) -> None:
    done = fnbuild("doctor", "gpx")
    assert done.status == 2
    assert 'unknown area "gpx"' in done.err
    assert fnbuild("doctor", "--platform", "moon").status == 2


def test_a_data_directory_that_cannot_be_created(
    fnbuild: Fnbuild, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FNBUILD_DATA_DIR", str(tmp_path / "file" / "data"))
    done = fnbuild("doctor", "disk", "--platform", "process")
    assert done.status == 1
    assert str(tmp_path / "file" / "data") in done.out
    assert "FNBUILD_DATA_DIR" in done.err


def test_every_area_is_in_the_help(fnbuild: Fnbuild) -> None:
    from fnbuild.platforms.checks import AREAS

    text = " ".join(fnbuild("doctor", "--help").out.split())
    assert all(f"{area}" in text for area in AREAS)
    assert "doctor" in app.COMMANDS
