"""Which engine is taken."""

from __future__ import annotations

import pytest

from fnbuild.build.image.engine import choose
from fnbuild.errors import UnavailableError, UsageError
from tests.engine import require_engine


def test_the_first_that_answers_is_taken():
    require_engine()
    assert choose().name == "docker"


def test_the_variable_and_then_the_name_decide(monkeypatch):
    require_engine()
    monkeypatch.setenv("FNBUILD_ENGINE", "kaniko")
    with pytest.raises(UsageError, match="FNBUILD_ENGINE=kaniko is no container engine") as caught:
        choose()
    assert "docker, podman, buildah" in caught.value.hint
    assert choose("docker").name == "docker"


@pytest.mark.parametrize("name", ["docker", "podman", "buildah"])
def test_one_that_is_asked_for_and_missing_is_an_error(monkeypatch, tmp_path, name):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnavailableError, match=f"{name} is not installed"):
        choose(name)


def test_without_any_each_says_what_it_lacks(monkeypatch, tmp_path):
    broken = tmp_path / "docker"
    broken.write_text(
        "#!/bin/sh\necho 'Cannot connect to the Docker daemon at unix:///x' >&2\nexit 1\n"
    )
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnavailableError) as caught:
        choose()
    assert caught.value.message == (
        "an image needs a container engine, and none answers: docker does not answer: Cannot"
        " connect to the Docker daemon at unix:///x; podman is not installed;"
        " buildah is not installed"
    )
    assert "systemctl start docker" in caught.value.hint
