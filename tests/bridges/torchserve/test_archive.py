"""Model archives: read, unpacked with checks, and written."""

from __future__ import annotations

import json
import os
import stat
import tarfile
import threading
import zipfile
from pathlib import Path

import pytest

from fnbuild.bridges.torchserve.archive import (
    ArchiveFiles,
    ArchiveManifest,
    ArchiveModel,
    archive_draft,
    read_manifest,
    unpack,
    write_archive,
)
from fnbuild.errors import BuildError, BusyError, ConflictError, InputError
from fnbuild.runtime.torchserve import MANIFEST_PATH

FORMATS = {"default": ".mar", "zip-store": ".mar", "tgz": ".tar.gz", "no-archive": ""}
MANIFEST = ArchiveManifest(
    created_on="20/11/2026 06:47:34",
    model=ArchiveModel(
        model_name="echo",
        serialized_file="w.pth",
        handler="echo_handler.py",
        model_version="1.0",
    ),
    archiver_version="0.12.0",
)


def write(target: Path, archive_format: str = "default", force: bool = False) -> Path:
    weights = target.parent / "weights"
    weights.write_bytes(b"\0weights" * 1000)
    files = {"w.pth": weights, "echo_handler.py": b"def handle(data, context): ...\n"}
    with archive_draft(target, force=force) as draft:
        write_archive(draft, files, MANIFEST, archive_format)
    weights.unlink()
    return target


def make_zip(target: Path, members: dict[str, str], manifest: dict | None = None) -> Path:
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        if manifest is not None:
            archive.writestr(MANIFEST_PATH, json.dumps(manifest))
    return target


@pytest.mark.parametrize(("archive_format", "suffix"), FORMATS.items())
def test_an_archive_of_every_format_is_read_as_it_was_written(
    tmp_path: Path, archive_format: str, suffix: str
) -> None:
    archive = write(tmp_path / f"echo{suffix}", archive_format)

    assert read_manifest(archive) == MANIFEST
    unpacked = unpack(archive, tmp_path / "unpacked")
    assert unpacked.manifest == MANIFEST
    files = {path.name for path in unpacked.folder.rglob("*") if path.is_file()}
    assert files == {"w.pth", "echo_handler.py", "MANIFEST.json"}
    assert (unpacked.folder / "w.pth").stat().st_size == 8000


@pytest.mark.parametrize(("archive_format", "suffix"), list(FORMATS.items())[:3])
def test_equal_content_gives_equal_bytes_with_the_manifest_last(
    tmp_path: Path, archive_format: str, suffix: str
) -> None:
    first = write(tmp_path / f"a{suffix}", archive_format)
    second = write(tmp_path / f"b{suffix}", archive_format)

    assert first.read_bytes() == second.read_bytes()
    if archive_format == "tgz":
        with tarfile.open(first) as tar:
            assert tar.getnames()[-1] == "echo/MAR-INF/MANIFEST.json"
        return
    with zipfile.ZipFile(first) as archive:
        assert archive.namelist()[-1] == MANIFEST_PATH
        kinds = {item.compress_type for item in archive.infolist()}
        is_stored = archive_format == "zip-store"
        assert kinds == {zipfile.ZIP_STORED if is_stored else zipfile.ZIP_DEFLATED}


def test_a_manifest_without_name_and_version_has_those_of_torchserve(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "digits.mar", {}, {"runtime": "python", "model": {}})

    model = read_manifest(archive).model
    assert (model.model_name, model.model_version) == ("digits", "1.0")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("/etc/passwd", "its name is an absolute path"),
        ("../outside.py", "its name leads out of the archive"),
        ("sub/../../outside.py", "its name leads out of the archive"),
    ],
)
def test_an_archive_with_a_path_that_leaves_it_is_refused(
    tmp_path: Path, name: str, reason: str
) -> None:
    archive = make_zip(tmp_path / "bad.mar", {name: "x"}, {"model": {"handler": "h.py"}})

    with pytest.raises(InputError, match=f"bad.mar: the member '{name}' is refused: {reason}"):
        unpack(archive, tmp_path / "unpacked")
    assert not (tmp_path / "outside.py").exists()


def test_an_archive_with_a_link_that_leaves_it_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "bad.mar"
    link = zipfile.ZipInfo("weights.pt")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    make_zip(archive, {}, {"model": {"handler": "h.py"}})
    with zipfile.ZipFile(archive, "a") as members:
        members.writestr(link, "/etc/passwd")

    with pytest.raises(InputError, match="a link that leads out of the archive, to '/etc/passwd'"):
        unpack(archive, tmp_path / "unpacked")


def test_a_folder_with_a_link_that_leaves_it_is_refused(tmp_path: Path) -> None:
    archive = write(tmp_path / "echo", "no-archive")
    (archive / "passwd").symlink_to("/etc/passwd")

    with pytest.raises(BuildError, match="the link passwd leads out of"):
        unpack(archive, tmp_path / "unpacked")


def test_an_archive_that_would_fill_the_disk_is_refused(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "bomb.mar", {}, {"model": {"handler": "h.py"}})
    with zipfile.ZipFile(archive, "a", zipfile.ZIP_DEFLATED) as members:
        members.writestr("weights.pt", bytes(80 << 20))

    with pytest.raises(InputError, match=r"bomb\.mar unpacks to more than 200 times its size"):
        unpack(archive, tmp_path / "unpacked")


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04 cut off", b"\x1f\x8b cut off"])
def test_a_broken_archive_is_a_clear_error(tmp_path: Path, content: bytes) -> None:
    archive = tmp_path / "broken.mar"
    archive.write_bytes(content)

    with pytest.raises(InputError, match=r"broken\.mar is not a model archive, or it is damaged"):
        unpack(archive, tmp_path / "unpacked")
    assert not (tmp_path / "unpacked").exists()


def test_an_archive_without_manifest_is_a_clear_error(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "plain.mar", {"handler.py": ""})

    with pytest.raises(InputError, match=r"plain\.mar has no MAR-INF/MANIFEST\.json") as raised:
        read_manifest(archive)
    assert raised.value.hint == "make it with `fnbuild package torchserve` or torch-model-archiver"


@pytest.mark.parametrize("text", ["{", "[]", '{"model": {"handler": 1}}', "\xff"])
def test_an_invalid_manifest_is_a_clear_error(tmp_path: Path, text: str) -> None:
    archive = make_zip(tmp_path / "plain.mar", {MANIFEST_PATH: text})

    with pytest.raises(InputError, match=r"plain\.mar: MAR-INF/MANIFEST\.json is invalid: "):
        read_manifest(archive)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"handler": "missing.py"}, "the handler 'missing.py' does not exist: the archive has no"),
        ({"handler": "missing:run"}, "the handler 'missing:run' does not exist"),
        ({}, "the manifest names no handler"),
        ({"handler": "h.py", "serializedFile": "w.pt"}, "bad.mar has no w.pt, which its manifest"),
        ({"handler": "h.py", "modelFile": "/etc/passwd"}, "bad.mar has no /etc/passwd"),
        ({"handler": "h.py", "configFile": "../../etc/passwd"}, "bad.mar has no ../../etc/passwd"),
    ],
)
def test_an_archive_without_a_file_of_its_manifest_is_refused(
    tmp_path: Path, model: dict, message: str
) -> None:
    archive = make_zip(tmp_path / "bad.mar", {"h.py": ""}, {"model": model})

    with pytest.raises(InputError, match=message):
        unpack(archive, tmp_path / "unpacked")


@pytest.mark.parametrize("handler", ["h.py", "h", "h:run", "folder/h.py", "image_classifier"])
def test_a_handler_is_a_module_of_the_archive_or_of_torchserve(
    tmp_path: Path, handler: str
) -> None:
    archive = make_zip(tmp_path / "good.mar", {"h.py": ""}, {"model": {"handler": handler}})

    assert unpack(archive, tmp_path / "unpacked").manifest.model.handler == handler


def test_an_existing_archive_is_replaced_by_force_only(tmp_path: Path) -> None:
    for archive_format, suffix in FORMATS.items():
        target = write(tmp_path / f"echo{suffix}", archive_format, force=True)
        with pytest.raises(ConflictError, match="exists already") as raised:
            write(target, archive_format)
        assert raised.value.hint == "`--force` replaces it"
        write(target, archive_format, force=True)
    assert sorted(os.listdir(tmp_path)) == ["echo", "echo.mar", "echo.tar.gz"]


def test_two_processes_cannot_write_one_archive_at_the_same_time(tmp_path: Path) -> None:
    target = tmp_path / "store" / "echo.mar"
    begun, done = threading.Event(), threading.Event()

    def write_slowly() -> None:
        with archive_draft(target) as draft:
            begun.set()
            assert done.wait(10)
            draft.write_bytes(b"first")

    writer = threading.Thread(target=write_slowly)
    writer.start()
    assert begun.wait(10)
    with pytest.raises(BusyError, match="another process is writing"), archive_draft(target):
        pass
    done.set()
    writer.join()
    assert os.listdir(target.parent) == ["echo.mar"]
    assert target.read_bytes() == b"first"


def test_the_draft_of_a_killed_process_is_removed_later(tmp_path: Path) -> None:
    draft = tmp_path / ".fnbuild-echo.mar"
    draft.mkdir()
    (draft / "echo.mar").write_bytes(b"half")
    hour_ago = draft.stat().st_mtime - 3600
    for path in (draft, draft / "echo.mar"):
        os.utime(path, (hour_ago, hour_ago))

    write(tmp_path / "echo.mar")
    assert sorted(os.listdir(tmp_path)) == ["echo.mar"]


def test_a_full_disk_leaves_the_folder_as_it_was(tiny_disk: Path) -> None:
    target = tiny_disk / "echo.mar"
    target.write_bytes(b"old")

    with pytest.raises(InputError, match="No space left") as raised:
        write_archive_to(target, {"w.pt": os.urandom(2 << 20)})
    assert raised.value.hint == "free some space, or remove old archives"
    assert os.listdir(tiny_disk) == ["echo.mar"]
    assert target.read_bytes() == b"old"


def test_a_read_only_folder_is_a_clear_error(tmp_path: Path) -> None:
    # Root may write to any folder, but not here.
    with pytest.raises(InputError, match=r"cannot write /proc/1/echo\.mar") as raised:
        write_archive_to(Path("/proc/1/echo.mar"), {})
    assert raised.value.hint == "use a folder you may write to"


def write_archive_to(target: Path, files: ArchiveFiles) -> None:
    with archive_draft(target, force=True) as draft:
        write_archive(draft, files, MANIFEST)
