"""A keypoint detector that its author published for another platform, in a container."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containers import alphapose
from tests.containers.conftest import User

pytestmark = pytest.mark.system


@pytest.fixture
def names() -> Iterator[None]:
    with alphapose.names():
        yield


def test_it_is_built_and_runs_on_its_own_python(user: User, names: None, tmp_path: Path) -> None:
    folder = tmp_path / "alphapose"
    config = alphapose.write(folder)

    # The tab makes it invalid YAML; --fix repairs this and renames a deprecated key.
    arguments = ("deploy", "--project-name", "cvat", "--path", folder, "--platform", "local")
    result = user.run("fnbuild", *arguments)
    assert result.returncode == 1
    assert "function.yaml:26:1" in result.stderr
    user.fnbuild("validate", "--fix", folder)
    repaired = (
        alphapose.CONFIG.read_text().replace("\t", " " * 8).replace("maxWorkers", "numWorkers")
    )
    assert config.read_text() == repaired

    url = user.fnbuild(*arguments, "-o", "url").strip()
    headers = alphapose.invoke(url, folder)
    assert headers["x-python"] == f"{alphapose.PYTHON} 3.6"
    assert headers["x-numpy"] == "1.19.5"
    assert headers["x-place"].startswith("root ")
    facts = user.resources.engine.inspect(alphapose.IMAGE)
    assert facts is not None
    assert (facts.user, facts.workdir) == ("root", "/Alphapose")
    commands = [layer.created_by for layer in user.resources.engine.history(alphapose.IMAGE)]
    assert any('echo "works well"' in command for command in commands)
    container = user.inspect_container("alphapose")
    assert container["HostConfig"]["RestartPolicy"]["Name"] == "always"
    function = user.describe("alphapose")
    assert function["metadata"]["labels"]["nuclio.io/project-name"] == "cvat"
    assert function["spec"]["nodeSelector"] == {"gpu": "true"}
