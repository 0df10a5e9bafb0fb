"""docker fulfils the contract of engines, with the classic builder and with BuildKit."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from fnbuild.builder.image.engine import BuildRequest
from fnbuild.builder.image.engines.docker import Docker
from fnbuild.errors import BuildError, UnavailableError
from tests.builder.image.engines.contract import *  # noqa: F403
from tests.engine import EngineResources, engine_resources, require_engine, small_base

pytestmark = pytest.mark.system


def _clients() -> list[str]:
    """Return every docker on PATH; their builders differ."""
    places = [os.path.join(folder, "docker") for folder in os.get_exec_path()]
    return [path for path in dict.fromkeys(places) if os.access(path, os.X_OK)]


def _with_buildkit() -> Docker | None:
    for path in _clients():
        docker = Docker(path)
        if docker.supports_buildkit:
            return docker
    return None


@pytest.fixture(params=["classic", "buildkit"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Docker:
    require_engine("docker")
    if request.param == "classic":
        monkeypatch.setenv("DOCKER_BUILDKIT", "0")
        return Docker()
    monkeypatch.setenv("DOCKER_BUILDKIT", "1")
    docker = _with_buildkit()
    if docker is None:
        pytest.skip("BuildKit is missing: no docker here that builds with it")
    return docker


@pytest.fixture
def resources(engine: Docker) -> Iterator[EngineResources]:
    with engine_resources(engine) as resources:
        yield resources


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with engine_resources(require_engine("docker")) as resources:
        yield small_base(resources, tmp_path_factory.mktemp("base"))


def test_the_variable_selects_the_builder(monkeypatch):
    require_engine("docker")
    for value, expected in (("0", False), ("false", False), ("1", True), ("true", True)):
        monkeypatch.setenv("DOCKER_BUILDKIT", value)
        assert Docker().uses_buildkit is expected


_LOSING = """\
#!/bin/sh
# The docker that is there, whose cache loses a step of the first builds.
cd {folder}
if [ "$1" = build ] && mkdir $(ls | wc -l) && [ $(ls | wc -l) -le {losses} ]; then
    echo "Step 1/2 : FROM {base}"
    echo "Step 2/2 : ADD a /"
    echo "{reason}" >&2
    exit 1
fi
exec {docker} "$@"
"""


@pytest.mark.parametrize(
    ("losses", "reason"),
    [
        (1, "failed to get digest sha256:01ab: open /image/sha256/01ab: no such file or directory"),
        (1, "failed to export image: failed to set parent sha256:01: unknown parent image ID s"),
        (2, "No such image: sha256:0123456789abcdef"),
    ],
)
def test_a_removed_step_is_built_again(monkeypatch, tmp_path, base, losses, reason):
    """It is repeated once: removing other functions' images may remove steps of this build."""
    monkeypatch.setenv("DOCKER_BUILDKIT", "0")
    counted, context, program = (tmp_path / name for name in ("counted", "context", "docker"))
    counted.mkdir()
    values = {"folder": counted, "losses": losses, "base": base, "reason": reason}
    program.write_text(_LOSING.format(**values, docker=Docker().program))
    program.chmod(0o755)
    context.mkdir()
    (context / "a").write_text("a")
    messages: list[str] = []
    with engine_resources(require_engine("docker")) as resources:
        (context / "Dockerfile").write_text(f"FROM {base}\n{resources.label}\nADD a /\n")
        request = BuildRequest(context, context / "Dockerfile", (resources.image("again"),))
        if losses == 1:
            assert Docker(str(program)).build(request, messages.append)
        else:
            with pytest.raises(BuildError, match="docker does not have the image"):
                Docker(str(program)).build(request, messages.append)
    assert len(list(counted.iterdir())) == 2
    assert len([line for line in messages if "building again" in line]) == 1


def test_docker_is_not_installed(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnavailableError, match="docker is not installed"):
        Docker().check()


def test_the_daemon_is_down(monkeypatch, tmp_path):
    require_engine("docker")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with pytest.raises(UnavailableError, match=r"docker does not answer: .*none\.sock") as caught:
        Docker().check()
    assert "systemctl start docker" in caught.value.hint


def test_the_engine_of_the_current_context_is_used(monkeypatch, tmp_path):
    require_engine("docker")
    where = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    make = ["docker", "context", "create", "tests", "--docker", f"host={where}"]
    subprocess.run(make, check=True, capture_output=True)
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setenv("DOCKER_CONTEXT", "tests")
    Docker().check()


def test_buildkit_without_its_plugin_is_explained(monkeypatch, tmp_path):
    require_engine("docker")
    monkeypatch.setenv("DOCKER_BUILDKIT", "0")
    for path in _clients():
        command = [path, "version", "--format", "{{.Client.Version}}"]
        version = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        plugin = subprocess.run([path, "buildx", "version"], capture_output=True, check=False)
        if int(version.partition(".")[0]) >= 23 and plugin.returncode != 0:
            break
    else:
        pytest.skip("every docker here has what BuildKit needs")
    monkeypatch.setenv("DOCKER_BUILDKIT", "1")
    file = tmp_path / "Dockerfile"
    file.write_text("FROM scratch\nENV A=1\n")
    with pytest.raises(BuildError, match="this docker has no buildx plugin for it") as caught:
        Docker(path).build(BuildRequest(tmp_path, file, ()), lambda _: None)
    assert "unset DOCKER_BUILDKIT" in caught.value.hint


def test_an_unknown_context_is_an_error(monkeypatch, tmp_path):
    require_engine("docker")
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setenv("DOCKER_CONTEXT", "nosuchcontext")
    with pytest.raises(UnavailableError, match="docker does not answer") as caught:
        Docker().check()
    assert "docker context ls" in caught.value.hint
