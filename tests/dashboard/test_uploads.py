"""Uploads: archives and files, their functions, and their expiry."""

from __future__ import annotations

import asyncio
import io
import os
import tarfile
import threading
import time
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.requests import Request

from fnbuild import trees
from fnbuild.dashboard.api.library import upload
from fnbuild.dashboard.function_folders import MAX_UPLOADS, Uploads
from fnbuild.errors import InputError, NotFoundError
from tests.dashboard.calls import WAIT, deployed, gone_at_the_end, invoked
from tests.dashboard.conftest import Answer, Dashboard
from tests.test_trees import nested_folders

pytestmark = pytest.mark.system

CODE = "def handler(context, event):\n    return {text!r}\n"


@pytest.fixture
def name(dashboard: Dashboard) -> Iterator[str]:
    with gone_at_the_end(dashboard, f"sent-{uuid.uuid4().hex[:8]}") as unique_name:
        yield unique_name


def configured(name: str) -> str:
    return (
        f"metadata:\n  name: {name}\n  namespace: elsewhere\n"
        "spec:\n  handler: main:handler\n  runtime: python:3.11\n  description: as sent\n"
    )


def zipped(files: dict[str, str]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return content.getvalue()


def tarred(files: dict[str, str], mode: str) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=f"w:{mode}") as archive:
        for path, text in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return content.getvalue()


def sent(dashboard: Dashboard, body: bytes, name: str = "") -> Answer:
    headers = {"x-fnbuild-file-name": name} if name else {}
    return dashboard.request("POST", "/api/uploads", body=body, headers=headers)


def at(path: str, name: str = "") -> dict[str, dict[str, object]]:
    """Return the body of a deploy of an upload."""
    return {"metadata": {"name": name} if name else {}, "spec": {"build": {"path": path}}}


@pytest.mark.parametrize("pack", ["zip", "tar", "tar.gz", "folder in a tar.xz"])
def test_an_archive_is_deployed_by_the_path_of_its_upload(
    dashboard: Dashboard, name: str, pack: str
) -> None:
    files = {"function.yaml": configured(name), "main.py": CODE.format(text=pack)}
    if pack == "zip":
        body = zipped(files)
    elif pack == "folder in a tar.xz":
        body = tarred({f"inner/{path}": text for path, text in files.items()}, "xz")
    else:
        body = tarred(files, pack.partition(".")[2])
    answer = sent(dashboard, body)
    assert answer.status == 201, answer.text
    reply = answer.json
    assert (reply["name"], reply["configuration"]) == (name, configured(name))
    assert reply["metadata"]["name"] == name
    assert reply["path"].startswith("upload:")
    assert not [
        diagnostic for diagnostic in reply["diagnostics"] if diagnostic["severity"] == "error"
    ]
    answer = dashboard.request("POST", "/api/functions", json=at(reply["path"]), headers=WAIT)
    assert answer.status == 202, answer.text
    assert invoked(dashboard, name) == pack
    shown = dashboard.request("GET", f"/api/functions/{name}").json
    assert (shown["spec"]["description"], shown["spec"].get("build", {}).get("path")) == (
        "as sent",
        None,
    )


def test_the_body_of_a_deploy_overrides_the_uploaded_configuration(
    dashboard: Dashboard, name: str
) -> None:
    files = {"function.yaml": configured("in-the-file"), "main.py": CODE.format(text="sent")}
    body = at(sent(dashboard, zipped(files)).json["path"], name)
    body["spec"]["description"] = "of the body"
    deployed(dashboard, body)
    shown = dashboard.request("GET", f"/api/functions/{name}").json
    assert (shown["spec"]["description"], shown["spec"]["handler"]) == (
        "of the body",
        "main:handler",
    )


def test_a_single_source_file_is_an_upload_and_the_deploy_has_its_configuration(
    dashboard: Dashboard, name: str
) -> None:
    answer = sent(dashboard, CODE.format(text="one file").encode(), "answer.py")
    assert answer.status == 201, answer.text
    body = at(answer.json["path"], name)
    body["spec"] |= {"handler": "answer:handler", "runtime": "python:3.11"}
    deployed(dashboard, body)
    assert invoked(dashboard, name) == "one file"


def test_one_of_several_functions_is_selected(dashboard: Dashboard, name: str) -> None:
    files = {}
    for place in ("cv/first", "cv/second", "other"):
        files[f"{place}/function.yaml"] = configured(f"{name}-x")
        files[f"{place}/main.py"] = CODE.format(text=place)
    reply = sent(dashboard, zipped(files)).json
    places = [function["path"].removeprefix(reply["path"]) for function in reply["functions"]]
    assert places == ["/cv/first", "/cv/second", "/other"]
    answer = dashboard.request("POST", "/api/functions", json=at(reply["path"], name))
    assert answer.status == 400
    assert f"{reply['path']}/cv/second" in answer.json["hint"]
    deployed(dashboard, at(f"{reply['path']}/cv/second", name))
    assert invoked(dashboard, name) == "cv/second"
    for path in (f"{reply['path']}/../..", f"{reply['path']}/cv", "upload:../x", "upload:"):
        answer = dashboard.request("POST", "/api/functions", json=at(path, f"{name}-y"))
        assert answer.status == 404, (path, answer.text)


def test_findings_in_an_upload_have_their_lines(dashboard: Dashboard, name: str) -> None:
    text = configured(name).replace("python:3.11", "golang")
    code = "def handler(context, event):\n    return 1\n"
    reply = sent(dashboard, zipped({"function.yaml": text, "main.py": code})).json
    assert [(diagnostic["rule"], diagnostic["line"]) for diagnostic in reply["diagnostics"]][
        :1
    ] == [("runtime", 6)]
    answer = dashboard.request("POST", "/api/functions", json=at(reply["path"]))
    assert answer.status == 400
    assert answer.json["diagnostics"][0]["rule"] == "runtime"
    assert "uploads" not in answer.text


def test_an_upload_without_code_is_refused(dashboard: Dashboard) -> None:
    before = set((dashboard.data_dir / "uploads").glob("*"))
    for body, file, message in (
        (b"hello", "", "neither an archive"),
        (b"", "", "neither an archive"),
        (b"7z\xbc\xaf\x27\x1c", "", "7-Zip"),
        (zipped({"../out": "x"}), "", "leads out"),
        (zipped({}), "", "empty"),
        (zipped({"face.png": "no code"}), "faces.zip", "faces.zip has neither Python code"),
        (b"x", "../main.py", "plain file name"),
    ):
        answer = sent(dashboard, body, file)
        assert answer.status == 400, (message, answer.text)
        assert message in answer.json["error"]
        assert answer.json["hint"] or message == "empty"
    assert set((dashboard.data_dir / "uploads").glob("*")) == before
    assert dashboard.request("POST", "/api/uploads", body=b"x", token=False).status == 401


def test_a_decompression_bomb_is_refused_before_it_fills_the_disk(dashboard: Dashboard) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(128 << 20))
    answer = sent(dashboard, content.getvalue())
    assert answer.status == 400
    assert "fill a disk" in answer.json["error"]


def test_an_archive_of_nested_folders_affects_no_other_upload(
    dashboard: Dashboard,
) -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:xz") as archive:
        member = tarfile.TarInfo("d/" * 1900)
        member.type = tarfile.DIRTYPE
        archive.addfile(member)
    assert len(content.getvalue()) < 1000
    answer = sent(dashboard, content.getvalue())
    assert answer.status == 400
    assert "more than 100 folders deep" in answer.json["error"]
    good = zipped({"main.py": CODE.format(text="good")})
    assert sent(dashboard, good).status == 201


def test_incomplete_uploads_of_an_earlier_release_do_not_prevent_uploads(
    dashboard: Dashboard,
) -> None:
    good = zipped({"main.py": CODE.format(text="good")})
    assert sent(dashboard, good).status == 201
    # No process has that id.
    left = nested_folders(dashboard.data_dir / "uploads" / "4194303-0123456789abcdef", 1900, "d")
    assert sent(dashboard, good).status == 201
    assert not left.exists()


def test_refused_uploads_are_removed_without_delaying_others(
    uploads: Uploads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []
    remove = trees.try_remove

    def removed(path: Path) -> bool:
        threads.append(threading.current_thread())
        return remove(path)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"hello", "more_body": False}

    monkeypatch.setattr(trees, "try_remove", removed)
    app = SimpleNamespace(state=SimpleNamespace(services=SimpleNamespace(uploads=uploads)))
    request = Request({"type": "http", "method": "POST", "headers": [], "app": app}, receive)
    with pytest.raises(InputError, match="neither an archive"):
        asyncio.run(upload(request))
    assert threads
    assert threading.main_thread() not in threads
    assert list((tmp_path / "uploads").iterdir()) == []


@pytest.fixture
def uploads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Uploads:
    monkeypatch.setenv("FNBUILD_DATA_DIR", str(tmp_path))
    return Uploads()


def kept(uploads: Uploads, home: Path) -> tuple[str, Path]:
    folder = home / "uploads" / f"{os.getpid()}-in"
    (folder / "content").mkdir(parents=True)
    (folder / "content" / "main.py").write_text("")
    name = uploads.keep(folder)
    return name, home / "uploads" / name


def test_uploads_expire_after_an_hour_unless_they_are_in_use(
    uploads: Uploads, tmp_path: Path
) -> None:
    old, folder = kept(uploads, tmp_path)
    used, used_folder = kept(uploads, tmp_path)
    young, young_folder = kept(uploads, tmp_path)
    hours_ago = time.time() - 7200
    for folder_ in (folder, used_folder):
        os.utime(folder_, (hours_ago, hours_ago))
    with uploads.open(used):
        uploads.sweep()
        assert [folder_.exists() for folder_ in (folder, used_folder, young_folder)] == [
            False,
            True,
            True,
        ]
    uploads.sweep()
    assert [folder_.exists() for folder_ in (used_folder, young_folder)] == [False, True]
    with pytest.raises(NotFoundError), uploads.open(old):
        pass
    with uploads.open(young) as path:
        assert path.name == "main.py"


def test_the_oldest_and_incomplete_uploads_are_removed_beyond_the_limit(
    uploads: Uploads, tmp_path: Path
) -> None:
    folders = [kept(uploads, tmp_path)[1] for _ in range(MAX_UPLOADS)]
    for number, folder_ in enumerate(folders):
        os.utime(folder_, (time.time() - 600 + number,) * 2)
    half = tmp_path / "uploads" / "4194303-half"
    half.mkdir()
    kept(uploads, tmp_path)
    assert not folders[0].exists()
    assert all(folder.exists() for folder in folders[1:])
    assert not half.exists()


def test_concurrent_sweeps_remove_incomplete_uploads_completely(
    uploads: Uploads, tmp_path: Path
) -> None:
    (tmp_path / "uploads").mkdir(exist_ok=True)
    for attempt in range(5):
        half = nested_folders(tmp_path / "uploads" / f"4194303-half{attempt}", 1900, "d")
        remained = []

        def sweep(half: Path = half, remained: list[bool] = remained) -> None:
            uploads.sweep()
            remained.append(half.exists())

        threads = [threading.Thread(target=sweep) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert remained == [False] * 4
