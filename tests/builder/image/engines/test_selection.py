"""The selection of the engine."""

from __future__ import annotations

import pytest

from fnbuild.builder.image.engines.selection import choose_engine
from fnbuild.errors import UnavailableError, UsageError
from tests.engine import require_engine

pytestmark = pytest.mark.system


def test_the_first_available_engine_is_selected():
    require_engine()
    assert choose_engine().name == "docker"


def test_a_requested_name_overrides_the_variable(monkeypatch):
    require_engine()
    monkeypatch.setenv("FNBUILD_ENGINE", "kaniko")
    with pytest.raises(
        UsageError, match="FNBUILD_ENGINE=kaniko is not a supported container engine"
    ) as caught:
        choose_engine()
    assert "docker, podman, buildah" in caught.value.hint
    assert choose_engine("docker").name == "docker"


@pytest.mark.parametrize("name", ["docker", "podman", "buildah"])
def test_a_requested_engine_that_is_missing_is_an_error(monkeypatch, tmp_path, name):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnavailableError, match=f"{name} is not installed"):
        choose_engine(name)


@pytest.fixture
def programs(monkeypatch, tmp_path):
    """Put engines, each a line of shell, on a separate PATH; no variable names a docker."""
    monkeypatch.setenv("PATH", str(tmp_path))
    for variable in ("FNBUILD_ENGINE", "DOCKER_HOST", "DOCKER_CONTEXT"):
        monkeypatch.delenv(variable, raising=False)

    def put(name, line):
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)

    return put


DOWN = "echo 'Cannot connect to the Docker daemon at unix:///x' >&2; exit 1"
BUILDAH = """echo '{"version": "1.28.2"}'"""


def test_without_an_engine_the_error_names_each_problem(programs):
    programs("docker", DOWN)
    with pytest.raises(UnavailableError) as caught:
        choose_engine()
    assert caught.value.message == (
        "an image needs a container engine, and none answers: docker does not answer: Cannot"
        " connect to the Docker daemon at unix:///x; podman is not installed;"
        " buildah is not installed"
    )
    assert "systemctl start docker" in caught.value.hint


def test_the_fallback_engine_reports_why_it_was_selected(programs):
    programs("buildah", BUILDAH)
    engine = choose_engine()
    assert (engine.name, engine.selection_reason) == (
        "buildah",
        "docker is not installed; podman is not installed",
    )
    assert choose_engine("buildah").selection_reason == ""
    programs("docker", DOWN)
    assert choose_engine().selection_reason.startswith(
        "docker does not answer: Cannot connect to the Docker daemon"
    )


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("DOCKER_HOST", "tcp://me:secret@far:2375", "at tcp://***@far:2375 (DOCKER_HOST): Cannot"),
        ("DOCKER_CONTEXT", "far", "in the context far (DOCKER_CONTEXT): Cannot connect to the"),
    ],
)
def test_a_docker_named_by_a_variable_has_no_fallback(
    programs, monkeypatch, variable, value, message
):
    programs("docker", DOWN)
    programs("buildah", BUILDAH)
    monkeypatch.setenv(variable, value)
    with pytest.raises(UnavailableError) as caught:
        choose_engine()
    assert f"docker does not answer {message}" in caught.value.message
    assert f"unset {variable}" in caught.value.hint
    assert choose_engine("buildah").name == "buildah"
    monkeypatch.setenv("FNBUILD_ENGINE", "buildah")
    assert choose_engine().name == "buildah"


def test_without_docker_its_variables_are_ignored(programs, monkeypatch):
    programs("buildah", BUILDAH)
    monkeypatch.setenv("DOCKER_HOST", "unix:///x")
    assert choose_engine().selection_reason.startswith("docker is not installed")
