"""The files of a recording: pictures once, bodies unchanged, private to their owner."""

from __future__ import annotations

import base64
import io
import json
import os
import random
import tarfile
from pathlib import Path

import pytest

from fnbuild.runtime.recording import files

PICTURE = random.Random(7).randbytes(300_000)
TEXT = base64.b64encode(PICTURE)


def entry(name: str, body: bytes, time: float = 100.0, reply: bytes = b"[]") -> files.Entry:
    header = {"time": time, "method": "POST", "path": "/", "headers": {}, "status": 200}
    return files.Entry(name, {**header, "seconds": 0.1}, body, reply)


def run(folder: Path, action: str) -> bytes:
    output = io.BytesIO()
    files.run(str(folder), action, output)
    return output.getvalue()


@pytest.mark.parametrize(
    "body",
    [
        b'{"image": "' + TEXT + b'", "threshold": 0.5}',
        b'{"image0": "' + TEXT + b'", "image1": "' + TEXT + b'"}',
        b'{"text \\" quoted": "a\\\\", "image": "' + TEXT + b'"}',
        b'{"image": "' + TEXT[:-4] + b'AB\\n"}',
        b'{"image": "' + TEXT[:-1] + b'", "odd length": 1}',
        b'{"texts": [' + b'"a", ' * 5000 + b'"' + TEXT + b'"]}',
        b'{"not base64": "' + b"\xc3\xa4" * 3000 + b'"}',
        b'{"unfinished": "' + TEXT,
        b"",
        b"plain",
    ],
)
def test_a_body_is_the_same_after_its_pictures_were_taken_out(body: bytes) -> None:
    rest, parts = files.split_body(body, "application/json")
    assert files.join_body(rest, parts) == body


def test_pictures_are_taken_out() -> None:
    body = b'{"a": "\\"", "image0": "' + TEXT + b'", "image1": "' + TEXT + b'", "t": 1}'
    rest, parts = files.split_body(body, "application/json")
    assert rest == b'{"a": "\\"", "image0": "", "image1": "", "t": 1}'
    assert [part.content for part in parts] == [TEXT, TEXT]
    assert files.split_body(PICTURE, "image/jpeg") == (b"", [files.Part(0, PICTURE)])


def test_a_picture_is_stored_once_and_files_are_private(tmp_path: Path) -> None:
    folder = tmp_path / "recording"
    files.make_folder(str(folder))
    body = b'{"image": "' + TEXT + b'"}'
    for number in range(3):
        files.store_entry(str(folder), entry(f"{number:020d}-1-1", body, 100 + number), "")
    pictures = list((folder / "images").iterdir())
    assert [picture.read_bytes() for picture in pictures] == [TEXT]
    assert pictures[0].stat().st_mtime == 102
    modes = {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()}
    assert modes == {0o600}
    assert folder.stat().st_mode & 0o777 == 0o700
    read = files.read_entry(str(folder), f"{1:020d}-1-1")
    assert (read.request, read.reply, read.header["status"]) == (body, b"[]", 200)


def test_an_archive_has_all_files_and_clear_removes_them(tmp_path: Path) -> None:
    files.make_folder(str(tmp_path))
    files.store_entry(str(tmp_path), entry("0" * 20 + "-1-1", b'{"image": "' + TEXT + b'"}'), "")
    with tarfile.open(fileobj=io.BytesIO(run(tmp_path, "export"))) as archive:
        assert len(archive.getnames()) == 2
        assert {member.mode for member in archive} == {0o600}
    (listed,) = json.loads(run(tmp_path, "list"))
    assert (listed["id"], listed["status"]) == ("0" * 20 + "-1-1", 200)
    assert json.loads(run(tmp_path, "clear")) == 1
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_damaged_request_hides_no_other(tmp_path: Path) -> None:
    files.make_folder(str(tmp_path))
    files.store_entry(str(tmp_path), entry("1" * 20 + "-1-1", b"{}"), "")
    (tmp_path / ("0" * 20 + "-1-1.rec")).write_bytes(os.urandom(50))
    assert [item["id"] for item in files.list_entries(str(tmp_path))] == ["1" * 20 + "-1-1"]
    (read,) = files.read_entries(str(tmp_path))
    assert read.request == b"{}"


@pytest.mark.parametrize("damage", ["request", "picture", "first line", "no picture"])
def test_a_request_that_has_changed_is_left_out(tmp_path: Path, damage: str) -> None:
    files.make_folder(str(tmp_path))
    stored = entry("0" * 20 + "-1-1", b'{"image": "' + TEXT + b'", "more": "text"}', reply=b"")
    files.store_entry(str(tmp_path), stored, "")
    (request,), (picture,) = files.stored_files(str(tmp_path))
    if damage == "request":
        os.truncate(request.path, request.size - 5)
    if damage == "picture":
        os.truncate(picture.path, 1000)
    if damage == "no picture":
        Path(picture.path).unlink()
    if damage == "first line":
        path = Path(request.path)
        path.write_bytes(path.read_bytes().replace(b'"status": 200', b'"status": "x"'))
        assert files.list_entries(str(tmp_path)) == []
    assert list(files.read_entries(str(tmp_path))) == []


def test_unfinished_files_of_a_killed_processor_are_removed(tmp_path: Path) -> None:
    files.make_folder(str(tmp_path))
    draft = tmp_path / ("0" * 20 + "-1-1.rec.77.new")
    draft.write_bytes(bytes(1000))
    requests, others = files.stored_files(str(tmp_path))
    assert (requests, [stored.size for stored in others]) == ([], [1000])
    assert files.clear(str(tmp_path)) == 0
    assert not draft.exists()
    assert (tmp_path / "images").is_dir()
