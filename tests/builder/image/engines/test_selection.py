"""The selection of the engine."""

from __future__ import annotations

import pytest

from fnbuild.builder.image.engines.selection import choose_engine
from fnbuild.errors import UnavailableError, UsageError
from tests.engine import require_engine

pytestmark = pytest.mark.system


def test_the_first_that_answers_is_taken():
    require_engine()
    assert choose_engine().name == "docker"


def test_the_variable_and_then_the_name_decide(monkeypatch):
    require_engine()
    monkeypatch.setenv("FNBUILD_ENGINE", "kaniko")
    with pytest.raises(
        UsageError, match="FNBUILD_ENGINE=kaniko is not a supported container engine"
    ) as caught:
        choose_engine()
    assert "docker, podman, buildah" in caught.value.hint
    assert choose_engine("docker").name == "docker"


@pytest.mark.parametrize("name", ["docker", "podman", "buildah"])
def test_one_that_is_asked_for_and_missing_is_an_error(monkeypatch, tmp_path, name):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnavailableError, match=f"{name} is not installed"):
        choose_engine(name)


@pytest.fixture
def programs(monkeypatch, tmp_path):
    """Put engines, each a line of shell, on a PATH of their own; no variable names a docker."""
    monkeypatch.setenv("PATH", str(tmp_path))
    for variable in ("FNBUILD_ENGINE", "DOCKER_HOST", "DOCKER_CONTEXT"):
        monkeypatch.delenv(variable, raising=False)

    def put(name, line):
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)

    return put


DOWN = "echo 'Cannot connect to the Docker daemon at unix:///x' >&2; exit 1"
BUILDAH = """echo '{"version": "1.28.2"}'"""


def test_without_any_each_says_what_it_lacks(programs):
    programs("docker", DOWN)
    with pytest.raises(UnavailableError) as caught:
        choose_engine()
    assert caught.value.message == (
        "an image needs a container engine, and none answers: docker does not answer: Cannot"
        " connect to the Docker daemon at unix:///x; podman is not installed;"
        " buildah is not installed"
    )
    assert "systemctl start docker" in caught.value.hint


def test_the_one_in_the_place_of_others_says_why(programs):
    programs("buildah", BUILDAH)
    found = choose_engine()
    assert (found.name, found.selection_reason) == (
        "buildah",
        "docker is not installed; podman is not installed",
    )
    assert choose_engine("buildah").selection_reason == ""
    programs("docker", DOWN)
    assert choose_engine().selection_reason.startswith(
        "docker does not answer: Cannot connect to the Docker daemon"
    )


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("DOCKER_HOST", "tcp://me:secret@far:2375", "at tcp://***@far:2375 (DOCKER_HOST): Cannot"),
        ("DOCKER_CONTEXT", "far", "in the context far (DOCKER_CONTEXT): Cannot connect to the"),
    ],
)
def test_no_other_is_taken_for_a_docker_that_is_named(
    programs, monkeypatch, variable, value, words
):
    programs("docker", DOWN)
    programs("buildah", BUILDAH)
    monkeypatch.setenv(variable, value)
    with pytest.raises(UnavailableError) as caught:
        choose_engine()
    assert f"docker does not answer {words}" in caught.value.message
    assert f"unset {variable}" in caught.value.hint
    assert choose_engine("buildah").name == "buildah"
    monkeypatch.setenv("FNBUILD_ENGINE", "buildah")
    assert choose_engine().name == "buildah"


def test_without_docker_its_variables_say_nothing(programs, monkeypatch):
    programs("buildah", BUILDAH)
    monkeypatch.setenv("DOCKER_HOST", "unix:///x")
    assert choose_engine().selection_reason.startswith("docker is not installed")
