"""Downloads of models: hashes, resume, versions, archives, and the errors of each."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import tarfile
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from fnbuild.runtime.storage import web as web_module
from fnbuild.runtime.storage.errors import StorageError
from fnbuild.runtime.storage.fetch import stored_sha256
from tests.runtime.storage.conftest import Fetch
from tests.storage_servers import FileServer

WEIGHTS = os.urandom(300_000)
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()


def files_in(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".fnbuild" not in path.parts
    }


def test_a_file_of_a_web_server(web: FileServer, models: Path, fetch: Fetch) -> None:
    web.files["/a/m.pt"] = WEIGHTS
    model = fetch(f"{web.url}/a/m.pt", STORAGE_SHA256=SHA256.upper())
    assert files_in(models) == {"m.pt": WEIGHTS}
    assert model.path == str(models)
    assert model.hashes == {"m.pt": SHA256}


def test_an_interrupted_download_goes_on_at_its_end(
    web: FileServer, models: Path, fetch: Fetch
) -> None:
    web.files["/m.pt"] = WEIGHTS
    web.cuts = 2
    messages: list[str] = []
    fetch(f"{web.url}/m.pt", messages)
    assert files_in(models) == {"m.pt": WEIGHTS}
    assert web.ranges == ["bytes=150000-", "bytes=225000-"]
    assert sum("trying again" in message for message in messages) == 2


def test_a_killed_download_goes_on_at_the_next_start(
    web: FileServer, models: Path, fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.files["/m.pt"] = WEIGHTS
    web.cuts = 1
    monkeypatch.setattr("fnbuild.runtime.storage.fetch._ATTEMPTS", 1)
    with pytest.raises(StorageError, match="ended after 150000 of 300000 bytes"):
        fetch(f"{web.url}/m.pt")
    assert files_in(models) == {}
    fetch(f"{web.url}/m.pt", STORAGE_SHA256=SHA256)
    assert files_in(models) == {"m.pt": WEIGHTS}
    assert web.ranges == ["bytes=150000-"]


def test_a_part_of_another_version_is_not_used(
    web: FileServer, models: Path, fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.files["/m.pt"] = WEIGHTS
    web.cuts = 1
    monkeypatch.setattr("fnbuild.runtime.storage.fetch._ATTEMPTS", 1)
    with pytest.raises(StorageError):
        fetch(f"{web.url}/m.pt")
    web.files["/m.pt"] = WEIGHTS[::-1]
    fetch(f"{web.url}/m.pt")
    assert files_in(models) == {"m.pt": WEIGHTS[::-1]}
    assert web.ranges == []


def test_a_server_without_ranges_and_tags(web: FileServer, models: Path, fetch: Fetch) -> None:
    web.files["/m.pt"] = WEIGHTS
    web.plain, web.cuts = True, 1
    fetch(f"{web.url}/m.pt", STORAGE_SHA256=SHA256)
    assert files_in(models) == {"m.pt": WEIGHTS}


def test_an_unchanged_model_is_not_downloaded_again(
    web: FileServer, models: Path, fetch: Fetch
) -> None:
    web.files["/m.pt"] = WEIGHTS
    first = fetch(f"{web.url}/m.pt")
    web.requests.clear()
    assert fetch(f"{web.url}/m.pt") == first
    assert [method for method, _, _ in web.requests] == ["HEAD"]
    (models / "m.pt").write_bytes(b"cut off")
    fetch(f"{web.url}/m.pt")
    assert files_in(models) == {"m.pt": WEIGHTS}


def test_a_changed_model_replaces_its_files(web: FileServer, models: Path, fetch: Fetch) -> None:
    web.files |= {"/m.pt": WEIGHTS, "/other.pt": b"other"}
    fetch(f"{web.url}/m.pt")
    fetch(f"{web.url}/other.pt")
    assert files_in(models) == {"other.pt": b"other"}


def test_an_index_does_not_lead_out_of_the_folder(
    web: FileServer, models: Path, fetch: Fetch
) -> None:
    web.files["/m.pt"] = WEIGHTS
    other = models.parent / "other"
    other.write_text("precious")
    (models / ".fnbuild").mkdir(parents=True)
    index = {"../other": {"version": "1"}, "a": {"version": "1", "unpacked": ["../other"]}}
    (models / ".fnbuild" / "index").write_text(json.dumps(index))
    fetch(f"{web.url}/m.pt")
    assert other.read_text() == "precious"
    assert stored_sha256(str(models)) == SHA256


def test_another_sha256_is_an_error_with_both(web: FileServer, fetch: Fetch) -> None:
    web.files["/m.pt"] = WEIGHTS
    with pytest.raises(StorageError, match="is not the expected model") as raised:
        fetch(f"{web.url}/m.pt", STORAGE_SHA256="0" * 64)
    assert SHA256 in raised.value.message
    assert "0" * 64 in raised.value.message
    assert "STORAGE_SHA256" in raised.value.hint


@pytest.mark.parametrize("digest", ["abc", "g" * 64])
def test_an_invalid_sha256(digest: str, fetch: Fetch) -> None:
    with pytest.raises(StorageError, match="is not a sha256"):
        fetch("https://example.com/m", STORAGE_SHA256=digest)


def test_plain_http_needs_a_hash(fetch: Fetch) -> None:
    with pytest.raises(StorageError, match="with plain http") as raised:
        fetch("http://192.0.2.1/m.pt")
    assert "STORAGE_SHA256" in raised.value.hint


def test_missing_files_name_the_address(web: FileServer, fetch: Fetch) -> None:
    with pytest.raises(StorageError, match=r"/m\.pt\?… cannot be read: 404") as raised:
        fetch(f"{web.url}/m.pt?signature=s3cret")
    assert "s3cret" not in str(raised.value)


def test_headers_of_a_host_come_from_the_environment(
    web: FileServer, models: Path, fetch: Fetch
) -> None:
    web.files["/m.pt"] = b"x"
    fetch(f"{web.url}/m.pt", **{"127.0.0.1-headers": '{"Authorization": "Bearer t0ken"}'})
    assert all(headers["Authorization"] == "Bearer t0ken" for _, _, headers in web.requests)
    with pytest.raises(StorageError, match=r"127\.0\.0\.1-headers is not a JSON object") as raised:
        fetch(f"{web.url}/m.pt", **{"127.0.0.1-headers": "Bearer t0ken"})
    assert "t0ken" not in str(raised.value)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("https://a/x", "http://b/x", "an address without TLS"),
        ("https://a/x", "https://127.0.0.1/x", "this machine itself"),
        ("https://a/x", "file:///etc/passwd", r"an address that is not http\(s\)"),
    ],
)
def test_redirects_to_this_machine_and_without_tls_are_refused(
    before: str, after: str, message: str
) -> None:
    with pytest.raises(StorageError, match=f"https://a/x leads to {message}"):
        web_module._check_redirect(urlsplit(before), urlsplit(after))
    web_module._check_redirect(urlsplit("https://a/x"), urlsplit("https://b/x"))


def test_redirects_keep_credentials_on_the_same_server(
    web: FileServer, models: Path, fetch: Fetch
) -> None:
    web.files["/final/m.pt"] = b"x"
    web.documents["/m.pt"] = (302, {"Location": f"{web.url}/final/m.pt"}, b"")
    fetch(f"{web.url}/m.pt", **{"127.0.0.1-headers": '{"Authorization": "Bearer t0ken"}'})
    assert all(headers["Authorization"] == "Bearer t0ken" for _, _, headers in web.requests)
    assert files_in(models) == {"m.pt": b"x"}


def test_a_single_archive_is_unpacked(web: FileServer, models: Path, fetch: Fetch) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("saved/1/model.pb", b"graph")
    web.files["/m.zip"] = packed.getvalue()
    fetch(f"{web.url}/m.zip")
    assert files_in(models) == {"saved/1/model.pb": b"graph"}
    web.requests.clear()
    fetch(f"{web.url}/m.zip", STORAGE_SHA256=hashlib.sha256(packed.getvalue()).hexdigest())
    assert files_in(models) == {"saved/1/model.pb": b"graph"}
    assert [method for method, _, _ in web.requests] == ["HEAD"]


def test_an_archive_of_torchserve_stays(web: FileServer, models: Path, fetch: Fetch) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("MAR-INF/MANIFEST.json", b"{}")
    web.files["/m.mar"] = packed.getvalue()
    fetch(f"{web.url}/m.mar")
    assert files_in(models) == {"m.mar": packed.getvalue()}


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        (("../x", tarfile.REGTYPE), "leads out of the archive"),
        (("/etc/x", tarfile.REGTYPE), "leads out of the archive"),
        (("x", tarfile.SYMTYPE), "is not a regular file"),
        (("x", tarfile.CHRTYPE), "is not a regular file"),
        ((".fnbuild/index", tarfile.REGTYPE), "cannot be stored"),
    ],
)
def test_unsafe_members_of_archives_are_refused(
    member: tuple[str, bytes], reason: str, web: FileServer, models: Path, fetch: Fetch
) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        info = tarfile.TarInfo(member[0])
        info.type, info.linkname = member[1], "/etc/passwd"
        archive.addfile(info, io.BytesIO())
    web.files["/m.tgz"] = packed.getvalue()
    with pytest.raises(StorageError, match=reason):
        fetch(f"{web.url}/m.tgz")
    assert not (models.parent / "x").exists()


@pytest.mark.parametrize("compression", ["bz2", "xz"])
def test_a_damaged_archive_has_one_error(compression: str, web: FileServer, fetch: Fetch) -> None:
    packed = io.BytesIO()
    content = random.Random(1).randbytes(50_000)
    with tarfile.open(fileobj=packed, mode=f"w:{compression}") as archive:
        info = tarfile.TarInfo("model.pb")
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    data = bytearray(packed.getvalue())
    data[25_000:25_100] = bytes(100)
    web.files["/m.tar"] = bytes(data)
    with pytest.raises(StorageError, match=r"m\.tar is damaged"):
        fetch(f"{web.url}/m.tar")


def test_an_archive_with_a_wrong_checksum_is_damaged(web: FileServer, fetch: Fetch) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        info = tarfile.TarInfo("model.pb")
        info.size = 3
        archive.addfile(info, io.BytesIO(b"abc"))
    data = bytearray(packed.getvalue())
    data[-8] ^= 1
    web.files["/m.tar.gz"] = bytes(data)
    with pytest.raises(StorageError, match=r"m\.tar\.gz is damaged"):
        fetch(f"{web.url}/m.tar.gz")


def test_an_archive_that_fills_the_disk_is_refused(web: FileServer, fetch: Fetch) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(80 << 20))
    web.files["/m.zip"] = packed.getvalue()
    with pytest.raises(StorageError, match="more than its size allows"):
        fetch(f"{web.url}/m.zip")


def test_local_models_are_left_where_they_are(tmp_path: Path, models: Path, fetch: Fetch) -> None:
    local = tmp_path / "local"
    local.mkdir()
    (local / "m.pt").write_bytes(WEIGHTS)
    assert fetch(str(local), STORAGE_SHA256=SHA256).path == str(local)
    assert fetch(f"file://{local}/m.pt").path == str(local / "m.pt")
    assert not models.exists()
    with pytest.raises(StorageError, match="missing does not exist"):
        fetch(f"file://{local}/missing")


def test_claims_and_images_are_mounted_by_the_platform(models: Path, fetch: Fetch) -> None:
    with pytest.raises(StorageError, match="pvc://claim/a is not mounted") as raised:
        fetch("pvc://claim/a")
    assert "claims exist in clusters only" in raised.value.hint
    with pytest.raises(StorageError, match="oci://a/b is not mounted") as raised:
        fetch("oci://a/b")
    assert "only KServe mounts images" in raised.value.hint
    models.mkdir()
    with pytest.raises(StorageError, match="there are no files at pvc://claim/a") as raised:
        fetch("pvc://claim/a")
    assert "`fnbuild model upload FOLDER pvc://claim/a`" in raised.value.hint
    (models / "m.pt").write_bytes(WEIGHTS)
    assert fetch("pvc://claim/a").path == str(models)


def test_a_folder_that_cannot_be_written(
    web: FileServer, models: Path, fetch: Fetch, tmp_path: Path
) -> None:
    models.write_text("a file")
    with pytest.raises(StorageError, match="cannot be stored in") as raised:
        fetch(f"{web.url}/m.pt")
    assert "emptyDir" in raised.value.hint


def test_a_model_that_does_not_fit_is_refused_before_the_download(
    web: FileServer, fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.files["/m.pt"] = WEIGHTS
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda _path: usage)
    with pytest.raises(StorageError, match=r"needs 0\.3 MiB, but .* has 0\.0 MiB"):
        fetch(f"{web.url}/m.pt")
    assert [method for method, _, _ in web.requests] == ["HEAD"]


def test_an_invalid_uri_names_the_variable(fetch: Fetch) -> None:
    with pytest.raises(StorageError, match=r"STORAGE_URI: .* is not supported"):
        fetch("ftp://example.com/m")


def test_a_model_of_several_files_has_the_hash_of_their_list(tmp_path: Path) -> None:
    from fnbuild.runtime.storage.digests import model_sha256

    hashes = {"b/c": "2" * 64, "a": "1" * 64}
    text = f"{'1' * 64}  a\n{'2' * 64}  b/c\n"
    assert model_sha256(hashes) == hashlib.sha256(text.encode()).hexdigest()
    assert model_sha256({"a": "1" * 64}) == "1" * 64
