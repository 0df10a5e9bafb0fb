"""Models of functions on this machine: downloaded once, and removed with the function."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fnbuild.errors import NotReadyError
from fnbuild.platforms import FunctionKey
from fnbuild.platforms.process import ProcessPlatform, revisions
from fnbuild.platforms.process.layout import models_dir
from tests import storage_servers
from tests.platforms.process.author import NAMESPACE, Author, invoke
from tests.storage_servers import S3_KEYS, FileServer, put_s3

pytestmark = pytest.mark.system

CODE = """
import os

def init_context(context):
    folder = os.environ["STORAGE_URI"]
    names = [name for name in os.listdir(folder) if not name.startswith(".")]
    context.user_data.text = open(os.path.join(folder, names[0])).read()

def handler(context, event):
    return context.user_data.text
"""


def variables(values: dict[str, str]) -> str:
    lines = [f"- {{name: {name}, value: '{value}'}}" for name, value in values.items()]
    return "\n".join(["env:", *lines])


@pytest.fixture
def web() -> Iterator[FileServer]:
    with storage_servers.file_server() as server:
        yield server


def test_a_redeploy_downloads_only_a_changed_model(
    data: Path, platform: ProcessPlatform, author: Author, web: FileServer
) -> None:
    web.files["/m.txt"] = b"first"
    spec = variables({"STORAGE_URI": f"{web.url}/m.txt"})
    for force in (False, True):
        deployed = author.deploy(author.write_code(CODE, spec=spec), force=force)
        assert invoke(deployed.http_port) == "first"
    assert [method for method, _, _ in web.requests].count("GET") == 1
    web.files["/m.txt"] = b"other"
    deployed = author.deploy(author.write_code(CODE, spec=spec), force=True)
    assert invoke(deployed.http_port) == "other"
    assert list((data / "functions" / NAMESPACE / "greeter" / "home" / "models").iterdir())
    platform.delete(NAMESPACE, "greeter")
    assert not (data / "functions" / NAMESPACE / "greeter").exists()


def test_models_are_removed_with_the_last_revision_that_uses_them(
    data: Path, author: Author, web: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fnbuild.platforms.process.revisions.KEPT_REVISIONS", 2)
    contents = []
    for name in ("a", "b", "c"):
        web.files[f"/{name}.txt"] = name.encode()
        spec = variables({"STORAGE_URI": f"{web.url}/{name}.txt"})
        author.deploy(author.write_code(CODE, spec=spec))
        models = data / "functions" / NAMESPACE / "greeter" / "home" / "models"
        contents.append(sorted(path.read_text() for path in models.rglob("*.txt")))
    assert contents == [["a"], ["a", "b"], ["b", "c"]]


def test_a_link_of_the_functions_user_is_not_followed(data: Path, tmp_path: Path) -> None:
    key = FunctionKey(NAMESPACE, "greeter")
    (tmp_path / "kept").mkdir()
    models = models_dir(key)
    models.parent.mkdir(parents=True)
    models.symlink_to(tmp_path)
    revisions._prune_models(key)
    assert (tmp_path / "kept").is_dir()
    models.unlink()
    (models / "unused").mkdir(parents=True)
    revisions._prune_models(key)
    assert data.is_dir()
    assert list(models.iterdir()) == []


@pytest.mark.usefixtures("data", "platform")
def test_a_missing_model_fails_the_deploy_and_the_old_revision_serves(
    author: Author, web: FileServer
) -> None:
    web.files["/m.txt"] = b"first"
    spec = variables({"STORAGE_URI": f"{web.url}/m.txt"})
    deployed = author.deploy(author.write_code(CODE, spec=spec))
    spec = variables({"STORAGE_URI": f"{web.url}/absent.txt"})
    with pytest.raises(NotReadyError, match=r"absent\.txt cannot be read: 404"):
        author.deploy(author.write_code(CODE, spec=spec))
    assert invoke(deployed.http_port) == "first"


@pytest.mark.usefixtures("data", "platform")
def test_credentials_are_variables_of_the_function(author: Author) -> None:
    with storage_servers.s3_server() as url:
        put_s3(url, "models")
        put_s3(url, "models/a/m.txt", b"from a bucket")
        values = {"STORAGE_URI": "s3://models/a", "AWS_ENDPOINT_URL": url, **S3_KEYS}
        deployed = author.deploy(author.write_code(CODE, spec=variables(values)))
        assert invoke(deployed.http_port) == "from a bucket"
