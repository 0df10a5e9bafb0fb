"""Archives that are published to a model store: a folder or a bucket."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fnbuild.bridges.torchserve.server_config import ModelSettings, ServerConfig, render
from fnbuild.errors import ConflictError, InputError
from fnbuild.models.buckets import BucketTarget
from fnbuild.models.listing import list_files
from fnbuild.models.torchserve_store import TreeStore, publish_to_store
from fnbuild.models.uris import parse_storage_uri
from tests.bridges.torchserve.trees import write_model
from tests.storage_servers import put_google, put_s3

STAMPS = ["231230_1759", "231231_0900", "231231_0901", "240101_0000"]


def write_release(folder: Path, stamp: str) -> tuple[Path, Path]:
    """Return an archive of this time and a configuration that serves it."""
    name = f"cats_{stamp}"
    archive = write_model(folder / f"{name}.mar", name, stamp)
    settings = ModelSettings(
        default_version=True, mar_name=archive.name, min_workers=1, max_workers=1, batch_size=1,
        max_batch_delay=100,
    )  # fmt: skip
    config = folder / "config.properties"
    config.write_text(render(ServerConfig(snapshot={"cats": {stamp: settings}})))
    return archive, config


@pytest.fixture(params=["file", "s3", "gs"])
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URI of an empty tree."""
    if request.param == "file":
        return str(tmp_path / "tree")
    bucket = f"store-{abs(hash(request.node.name))}"
    if request.param == "s3":
        put_s3(request.getfixturevalue("s3"), bucket)
    else:
        put_google(request.getfixturevalue("google"), bucket)
    return f"{request.param}://{bucket}/torch"


def paths_in(tree: str) -> list[str]:
    return [file.path for file in list_files(parse_storage_uri(tree))]


def test_the_fourth_archive_moves_the_first_to_the_backup(tree: str, tmp_path: Path) -> None:
    moved = []
    for stamp in STAMPS:
        archive, config = write_release(tmp_path, stamp)
        moved += publish_to_store(parse_storage_uri(tree), archive, config, 3, lambda _: None)
    assert moved == ["cats_231230_1759.mar"]
    assert paths_in(tree) == [
        "backup/cats_231230_1759.mar",
        "config/config.properties",
        *(f"model-store/cats_{stamp}.mar" for stamp in STAMPS[1:]),
    ]


def test_an_archive_is_not_overwritten_by_another_one(tree: str, tmp_path: Path) -> None:
    uri = parse_storage_uri(tree)
    archive, config = write_release(tmp_path, STAMPS[0])
    publish_to_store(uri, archive, config, 3, lambda _: None)
    assert publish_to_store(uri, archive, config, 3, lambda _: None) == []
    archive.write_bytes(os.urandom(archive.stat().st_size))
    with pytest.raises(ConflictError, match=r"model-store/cats_231230_1759\.mar exists already"):
        publish_to_store(uri, archive, config, 3, lambda _: None)


def test_nothing_in_the_backup_of_a_bucket_is_overwritten(s3: str, tmp_path: Path) -> None:
    put_s3(s3, "occupied")
    uri = parse_storage_uri("s3://occupied/torch")
    for stamp in STAMPS[:2]:
        publish_to_store(uri, *write_release(tmp_path, stamp), 3, lambda _: None)
    put_s3(s3, "occupied/torch/backup/cats_231231_0900.mar", b"another")
    archive, config = write_release(tmp_path, STAMPS[2])
    with pytest.raises(ConflictError, match=r"backup/cats_231231_0900\.mar exists already"):
        publish_to_store(uri, archive, config, 1, lambda _: None)
    names = TreeStore(BucketTarget(uri)).archives()
    assert names == [f"cats_{stamp}.mar" for stamp in STAMPS[:3]]
    assert "backup/cats_231230_1759.mar" not in paths_in(str(uri))


def test_a_full_store_stays_as_it_is(tiny_disk: Path, tmp_path: Path) -> None:
    archive, config = write_release(tmp_path, STAMPS[0])
    archive.write_bytes(os.urandom(2 << 20))
    with pytest.raises(InputError, match="No space left on device"):
        publish_to_store(parse_storage_uri(str(tiny_disk)), archive, config, 3, lambda _: None)
    assert [path for path in tiny_disk.rglob("*") if path.is_file()] == []


def test_a_claim_is_written_by_a_deploy(tmp_path: Path) -> None:
    archive, config = write_release(tmp_path, STAMPS[0])
    with pytest.raises(InputError, match="cannot be published to pvc://") as raised:
        publish_to_store(parse_storage_uri("pvc://claim"), archive, config, 3, lambda _: None)
    assert "`fnbuild deploy --platform torchserve`" in str(raised.value.hint)
