"""Uploads of models to folders and buckets: hashes, resume, and what downloads read of them."""

from __future__ import annotations

import hashlib
import logging
import os
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from fnbuild.errors import ConfigError, InputError
from fnbuild.models import buckets
from fnbuild.models.buckets import BucketTarget
from fnbuild.models.layouts import check_layout, detect_format
from fnbuild.models.listing import list_files
from fnbuild.models.local_files import LocalFile, local_files
from fnbuild.models.upload import FolderTarget, ModelTarget, upload_files
from fnbuild.models.uris import parse_storage_uri
from fnbuild.runtime.storage.digests import model_sha256
from fnbuild.runtime.storage.fetch import fetch_model, model_request
from tests.storage_servers import S3_KEYS, put_google, put_s3

WEIGHTS = os.urandom(200_000)
FILES = {"1/model.pt": WEIGHTS, "config.json": b"{}", "labels/ü x.txt": b"cat\n"}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    for path, content in FILES.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


def upload(source: Path, target: ModelTarget, messages: list[str] | None = None):
    return upload_files(
        local_files(source), target, [].append if messages is None else messages.append
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".fnbuild" not in path.parts
    }


def test_a_folder_is_a_copy_with_a_hash(source: Path, tmp_path: Path) -> None:
    result = upload(source, FolderTarget(tmp_path / "target"))
    assert contents(tmp_path / "target") == FILES
    hashes = {path: hashlib.sha256(content).hexdigest() for path, content in FILES.items()}
    assert result.sha256 == model_sha256(hashes)
    assert (result.uploaded, result.skipped, result.others) == (3, 0, ())


def test_equal_files_are_skipped_and_others_are_named(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    upload(source, FolderTarget(target))
    (target / "old.pt").write_bytes(b"old")
    (target / "config.json").write_bytes(b"[]")
    result = upload(source, FolderTarget(target))
    assert (result.uploaded, result.skipped, result.others) == (1, 2, ("old.pt",))
    assert contents(target) == FILES | {"old.pt": b"old"}


@pytest.mark.parametrize("part", [WEIGHTS[:1000], b"other" * 100, WEIGHTS * 2])
def test_an_interrupted_copy_is_completed(part: bytes, source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    (target / "1").mkdir(parents=True)
    (target / "1" / "model.pt.fnbuild-part").write_bytes(part)
    upload(source, FolderTarget(target))
    assert contents(target) == FILES


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_a_bucket_has_the_files_and_their_hashes(
    scheme: str, request: pytest.FixtureRequest, source: Path, tmp_path: Path
) -> None:
    if scheme == "s3":
        put_s3(request.getfixturevalue("s3"), "models")
    else:
        put_google(request.getfixturevalue("google"), "models")
    uri = parse_storage_uri(f"{scheme}://models/a/b")
    result = upload(source, BucketTarget(uri))
    assert (result.uploaded, result.skipped) == (3, 0)
    assert [file.path for file in list_files(uri)] == sorted(FILES)

    fetched = fetch_model(
        model_request(
            {**os.environ, "STORAGE_URI": str(uri), "STORAGE_SHA256": result.sha256},
            str(tmp_path / "models"),
        ),
        [].append,
    )
    assert contents(Path(fetched.path)) == FILES

    (source / "config.json").write_bytes(b"[]")
    again = upload(source, BucketTarget(uri))
    assert (again.uploaded, again.skipped) == (1, 2)
    assert again.sha256 != result.sha256


def test_an_interrupted_upload_continues_with_the_next_file(
    s3: str, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_s3(s3, "interrupted")
    target = BucketTarget(parse_storage_uri("s3://interrupted/a"))
    store = BucketTarget.store

    def fail_at_labels(self, file, sha256, count):
        if file.path.startswith("labels"):
            raise InputError("the network is gone")
        store(self, file, sha256, count)

    with monkeypatch.context() as patch:
        patch.setattr(BucketTarget, "store", fail_at_labels)
        with pytest.raises(InputError, match="the network is gone"):
            upload(source, target)
    result = upload(source, target)
    assert (result.uploaded, result.skipped) == (1, 2)


def test_a_large_file_is_uploaded_in_parts_with_progress(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fnbuild.models.upload._PROGRESS_SECONDS", 0.0)
    put_s3(s3, "large")
    file = tmp_path / "m.pt"
    file.write_bytes(os.urandom(1 << 20) * 60)
    messages: list[str] = []
    result = upload(file, BucketTarget(parse_storage_uri("s3://large/a")), messages)
    assert result.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert any("60.0 of 60.0 MiB" in text or "of 60.0 MiB" in text for text in messages)
    assert upload(file, BucketTarget(parse_storage_uri("s3://large/a"))).skipped == 1


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_a_missing_bucket_is_an_error(
    scheme: str, request: pytest.FixtureRequest, source: Path
) -> None:
    request.getfixturevalue("s3" if scheme == "s3" else "google")
    with pytest.raises(InputError, match=f"{scheme}://absent-bucket") as raised:
        upload(source, BucketTarget(parse_storage_uri(f"{scheme}://absent-bucket/a")))
    assert "s3cret" not in f"{raised.value}"


def test_settings_of_the_server_apply_to_uploads() -> None:
    variables = {"S3_ENDPOINT": "s3.example.com", "S3_USER_VIRTUAL_BUCKET": "1", **S3_KEYS}
    options = buckets._s3_options(variables)
    assert options["client_kwargs"]["endpoint_url"] == "https://s3.example.com"
    assert options["client_kwargs"]["verify"] is True
    assert options["config_kwargs"]["s3"] == {"addressing_style": "virtual"}
    # Further attempts of botocore take minutes if the address is wrong.
    assert options["config_kwargs"]["retries"] == {"total_max_attempts": 2}
    options = buckets._s3_options({"AWS_CA_BUNDLE": "/etc/ca.pem"})
    assert options["client_kwargs"]["verify"] == "/etc/ca.pem"
    assert "key" not in options
    assert buckets._s3_options({"S3_VERIFY_SSL": "0"})["client_kwargs"]["verify"] is False


def test_an_unreachable_server_is_one_error(caplog: pytest.LogCaptureFixture) -> None:
    target = BucketTarget(parse_storage_uri("gs://bucket/a"), {"STORAGE_EMULATOR_HOST": "x"})

    def fail() -> None:
        error = OSError("Cannot connect to host x:443")
        logging.getLogger("gcsfs").error("out of retries", exc_info=error)
        raise error

    with pytest.raises(InputError, match="gs://bucket cannot be used: Cannot connect") as raised:
        target._translate(fail)
    assert str(raised.value.hint).startswith("check the network, the address of the server")
    assert caplog.records == []


def test_local_models_that_cannot_be_uploaded(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        local_files(tmp_path / "missing")
    (tmp_path / "empty" / ".git").mkdir(parents=True)
    (tmp_path / "empty" / ".git" / "HEAD").write_text("ref")
    with pytest.raises(InputError, match="has no files"):
        local_files(tmp_path / "empty")
    os.mkfifo(tmp_path / "empty" / "pipe")
    with pytest.raises(InputError, match="is not a regular file"):
        local_files(tmp_path / "empty")
    (tmp_path / "empty" / "pipe").unlink()
    (tmp_path / "empty" / "link").symlink_to("nowhere")
    with pytest.raises(InputError, match="cannot read"):
        local_files(tmp_path / "empty")


SETTINGS = (
    '{"defaultVersion": true, "marName": "cats.mar", "minWorkers": 1, "maxWorkers": 1,'
    ' "batchSize": 1, "maxBatchDelay": 100}'
)
CONFIG = f"""\
model_store=/mnt/models/model-store
disable_token_authorization=true
model_snapshot={{"modelCount": 1, "models": {{"cats": {{"1.0": {SETTINGS}}}}}}}
"""


def model_tree(folder: Path) -> list[LocalFile]:
    """Return the files of a tree for PyTorch: the configuration and one archive, `cats.mar`."""
    (folder / "config").mkdir(parents=True)
    (folder / "config" / "config.properties").write_text(CONFIG)
    (folder / "model-store").mkdir()
    with zipfile.ZipFile(folder / "model-store" / "cats.mar", "w") as archive:
        archive.writestr("MAR-INF/MANIFEST.json", '{"model": {"modelName": "cats"}}')
    return local_files(folder)


def test_the_tree_of_pytorch_is_checked_before_the_upload(tmp_path: Path) -> None:
    config, archive = model_tree(tmp_path)
    assert detect_format([config, archive]) == "pytorch"
    assert check_layout("pytorch", [config, archive]) == []
    with pytest.raises(InputError, match=r"needs model-store/NAME\.mar, which"):
        check_layout("pytorch", [config])
    with pytest.raises(InputError, match=r"needs config/config\.properties and model-store"):
        check_layout("pytorch", [replace(archive, path="cats.mar")])


def test_a_tree_that_torchserve_cannot_serve_is_not_uploaded(tmp_path: Path) -> None:
    config, archive = model_tree(tmp_path)
    config.source.write_text(CONFIG.replace("cats.mar", "dogs.mar") + "debug=false # comment\n")
    with pytest.raises(ConfigError) as raised:
        check_layout("pytorch", [config, archive])
    rules = {diagnostic.rule for diagnostic in raised.value.report}
    assert rules == {"missing-archive", "inline-comment"}
    config.source.write_text(CONFIG.replace('"cats"', '"pets"'))
    [warning] = check_layout("pytorch", [config, archive])
    assert "config.properties:3:54: cats.mar was packaged as the model cats; clients" in warning


def test_the_numbered_level_of_tensorflow_is_kept(tmp_path: Path) -> None:
    (tmp_path / "1" / "variables").mkdir(parents=True)
    (tmp_path / "1" / "saved_model.pb").touch()
    assert check_layout("tensorflow", local_files(tmp_path)) == []
    with pytest.raises(InputError, match="numbered versions") as raised:
        check_layout("tensorflow", local_files(tmp_path / "1"))
    assert "1/saved_model.pb" in str(raised.value.hint)
