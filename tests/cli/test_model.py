"""`fnbuild model upload` and `fnbuild model ls`."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests import storage_servers
from tests.cli.conftest import Outcome
from tests.storage_servers import S3_KEYS, put_s3

Fnbuild = Callable[..., Outcome]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "model.pt").write_bytes(b"weights")
    return folder


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with storage_servers.s3_server() as url:
        put_s3(url, "models")
        yield url


@pytest.fixture
def s3(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in (S3_KEYS | {"AWS_ENDPOINT_URL": server}).items():
        monkeypatch.setenv(name, value)
    return server


def test_an_upload_prints_the_storage_uri(fnbuild: Fnbuild, source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    result = fnbuild("model", "upload", source, target)
    assert result.status == 0, result.err
    assert result.out == f"file://{target}\n"
    assert (target / "1" / "model.pt").read_bytes() == b"weights"
    assert "uploaded 1 file; sha256 " in result.err
    assert "1 unchanged" in fnbuild("model", "upload", source, f"file://{target}").err


def test_a_file_is_stored_in_the_folder_or_under_its_name(
    fnbuild: Fnbuild, source: Path, s3: str
) -> None:
    file = source / "1" / "model.pt"
    digest = hashlib.sha256(b"weights").hexdigest()
    for destination in ("s3://models/one", "s3://models/one/", "s3://models/one/model.pt"):
        result = fnbuild("model", "upload", file, destination)
        # Without the slash at its end, KServe would also download s3://models/ones.
        assert (result.status, result.out) == (0, "s3://models/one/\n"), result.err
        assert digest in result.err
    assert "s3cret" not in result.err


def test_lists_in_every_format(fnbuild: Fnbuild, source: Path, s3: str) -> None:
    assert fnbuild("model", "upload", source, "s3://models/list").status == 0
    table = fnbuild("model", "ls", "s3://models/list").out.splitlines()
    assert table == ["PATH       | SIZE", "1/model.pt | 7"]
    assert "VERSION" in fnbuild("model", "ls", "s3://models/list", "-o", "wide").out
    (file,) = json.loads(fnbuild("model", "ls", "s3://models/list", "-o", "json").out)
    assert (file["path"], file["size"]) == ("1/model.pt", 7)
    assert yaml.safe_load(fnbuild("model", "ls", "s3://models/list", "-o", "yaml").out) == [file]
    assert "1/model.pt | 7" in fnbuild("model", "ls", source).out


def test_a_tree_of_pytorch_is_not_uploaded_to_the_root_of_a_bucket(
    fnbuild: Fnbuild, tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    for path in ("config/config.properties", "model-store/mnist.mar"):
        (tree / path).parent.mkdir(parents=True)
        (tree / path).write_text("x")
    result = fnbuild("model", "upload", tree, "gs://my_models")
    assert result.status == 1
    assert "is the root of a bucket" in result.err
    assert "gs://my_models/pytorch" in result.err


@pytest.mark.parametrize(
    ("destination", "message"),
    [
        ("ftp://host/a", "the scheme 'ftp' is not supported"),
        ("hf://owner/model", "models cannot be uploaded to hf://"),
        ("s3://a_b/x", "is not the name of a bucket"),
    ],
)
def test_destinations_that_cannot_be_written(
    destination: str, message: str, fnbuild: Fnbuild, source: Path
) -> None:
    result = fnbuild("model", "upload", source, destination)
    assert (result.status, message in result.err) == (1, True), result.err


@pytest.mark.parametrize(("scheme", "extra"), [("s3", "s3"), ("gs", "gcs")])
def test_missing_packages_have_a_remedy(
    scheme: str, extra: str, fnbuild: Fnbuild, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.setitem(sys.modules, "gcsfs.core", None)
    result = fnbuild("model", "upload", source, f"{scheme}://models/a")
    assert result.status == 1
    assert f"pip install 'fnbuild[{extra}]'" in result.err


def test_missing_files_and_local_sources(fnbuild: Fnbuild, tmp_path: Path, s3: str) -> None:
    assert "does not exist" in fnbuild("model", "upload", tmp_path / "x", "s3://models/a").err
    assert (
        "there are no files at s3://models/absent"
        in fnbuild("model", "ls", "s3://models/absent").err
    )
