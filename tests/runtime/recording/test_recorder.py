"""A processor that records requests: within bounds, without credentials, and never in the way."""

from __future__ import annotations

import base64
import json
import random
from pathlib import Path
from typing import Any

import pytest

from fnbuild.runtime.recording import files
from tests.runtime import interpreters

pytestmark = pytest.mark.system

HANDLER = """
def handler(context, event):
    size = int(event.get_header("x-size") or 0)
    if event.get_header("x-pieces"):
        return (piece for piece in (b"a", b"b"))
    if size:
        return bytes(size)
    return [{"label": "cat", "threshold": event.body.get("threshold", 0)}]
"""


def picture(seed: int, size: int = 200_000) -> bytes:
    return random.Random(seed).randbytes(size)


def cvat_request(content: bytes, **values: Any) -> dict[str, Any]:
    return {"image": base64.b64encode(content).decode(), **values}


def recorded(folder: Path) -> list[files.Entry]:
    return list(files.read_entries(str(folder)))


@pytest.mark.parametrize("version", interpreters.every())
def test_requests_and_replies_are_recorded_without_credentials(
    serve: Any, soon: Any, tmp_path: Path, version: str
) -> None:
    folder = tmp_path / "recording"
    record = {"size": 10_000_000, "age": 3600.0, "folder": str(folder)}
    processor = serve(HANDLER, record=record, version=version)
    sent = [cvat_request(picture(1), threshold=number / 10) for number in range(3)]
    for value in sent:
        processor.call(value, "/?token=secret", authorization="Bearer secret", cookie="secret")
    soon(lambda: len(recorded(folder)) == 3)
    entries = recorded(folder)
    assert [json.loads(entry.request) for entry in entries] == sent
    assert [json.loads(entry.reply)[0]["threshold"] for entry in entries] == [0, 0.1, 0.2]
    assert len(list((folder / "images").iterdir())) == 1
    text = b"".join(path.read_bytes() for path in folder.glob("*.rec"))
    assert b"secret" not in text
    assert entries[0].header["path"] == "/"
    assert entries[0].header["content_type"] == "application/json"
    soon(lambda: processor.status()["recording"]["recorded"] == 3)


def test_a_reply_in_shared_memory_is_recorded_and_one_in_pieces_is_not(
    serve: Any, soon: Any, tmp_path: Path
) -> None:
    record = {"size": 50_000_000, "age": 3600.0, "folder": str(tmp_path / "r")}
    processor = serve(HANDLER, record=record)
    assert processor.send("{}", x_pieces="1").body == b"ab"
    assert len(processor.send("{}", x_size="5000000").body) == 5_000_000
    soon(lambda: recorded(tmp_path / "r"))
    assert [entry.reply for entry in recorded(tmp_path / "r")] == [bytes(5_000_000)]


def test_the_oldest_requests_give_way_and_their_pictures_go_with_them(
    serve: Any, soon: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "r"
    processor = serve(HANDLER, record={"size": 1_000_000, "age": 3600.0, "folder": str(folder)})
    for number in range(12):
        processor.call(cvat_request(picture(number), threshold=number))
    soon(lambda: processor.status()["recording"]["recorded"] == 12)
    kept = [json.loads(entry.request)["threshold"] for entry in recorded(folder)]
    assert kept == list(range(12))[-len(kept) :]
    assert 2 <= len(kept) <= 5
    assert len(list((folder / "images").iterdir())) == len(kept)


def test_old_requests_are_removed_without_new_ones(serve: Any, soon: Any, tmp_path: Path) -> None:
    folder = tmp_path / "r"
    processor = serve(HANDLER, record={"size": 1_000_000, "age": 1.0, "folder": str(folder)})
    processor.call(cvat_request(picture(1)))
    soon(lambda: processor.status()["recording"]["recorded"] == 1)
    soon(lambda: not recorded(folder))


def test_a_folder_that_cannot_be_written_costs_no_request(
    serve: Any, soon: Any, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    record = {"size": 1_000_000, "age": 60.0, "folder": str(tmp_path / "file" / "r")}
    processor = serve(HANDLER, record=record)
    processor.call({"threshold": 1})
    assert processor.await_record("Requests cannot be recorded in")
    soon(lambda: processor.status()["recording"]["dropped"] == 1)


def test_on_a_full_disk_the_newest_requests_are_kept(
    serve: Any, soon: Any, tiny_disk: Path
) -> None:
    folder = tiny_disk / "r"
    processor = serve(HANDLER, record={"size": 50_000_000, "age": 60.0, "folder": str(folder)})
    for number in range(12):
        processor.call(cvat_request(picture(number), threshold=number))
    soon(lambda: sum(map(processor.status()["recording"].get, ("recorded", "dropped"))) == 12)
    kept = [json.loads(entry.request)["threshold"] for entry in recorded(folder)]
    assert kept
    assert min(kept) > 5


def test_nothing_is_recorded_by_default(serve: Any) -> None:
    processor = serve(HANDLER)
    processor.call({})
    assert processor.status()["recording"] is None
