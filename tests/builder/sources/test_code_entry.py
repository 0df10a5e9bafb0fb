"""Opening the code that a path or a configuration names."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fnbuild.builder.sources.code_entry import OpenedCode, github_archive_url, open_code
from fnbuild.errors import ConfigError, InputError
from fnbuild.function import reader
from fnbuild.function.files import display_path
from fnbuild.function.types import Build
from tests.builder.sources.conftest import CONFIG, MAIN, Page, Web

Pack = Callable[..., Path]
FILES = {"function.yaml": CONFIG, "main.py": MAIN}


def fault(path: Any, **options: Any) -> InputError:
    with pytest.raises(InputError) as raised, open_code(path, **options):
        pass
    return raised.value


def names(place: Path | None) -> list[str]:
    assert place is not None
    return sorted(path.name for path in place.iterdir())


def test_a_local_folder_is_returned_unchanged(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", "/nowhere")  # nothing exists there
    for path in (folder, folder / "function.yaml", folder / "main.py", folder / "none", None):
        with open_code(path) as opened:
            assert opened == OpenedCode(path)


@pytest.mark.parametrize("name", ["face.zip", "face.tar.gz", "face.tar.xz"])
def test_an_archive_is_unpacked(pack: Pack, name: str) -> None:
    messages: list[str] = []
    with open_code(str(pack(name, FILES)), progress=messages.append) as opened:
        assert opened.path is not None
        assert opened.path.name == "face"
        loaded = reader.load_function(opened.path)
        assert loaded.function.metadata.name == "face"
        place = opened.path
    assert not place.exists()
    assert not place.parent.parent.exists()
    assert name in messages[0]


def test_the_unpacked_folder_is_removed_after_a_failure(pack: Pack) -> None:
    places: list[Path | None] = []

    def use() -> None:
        with open_code(pack("x.zip", FILES)) as opened:
            places.append(opened.path)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        use()
    assert [place is not None and place.exists() for place in places] == [False]


def test_an_archive_of_one_folder(pack: Pack) -> None:
    files = {f"repo-1a2b/{name}": text for name, text in FILES.items()}
    with open_code(pack("x.zip", files | {"__MACOSX/._x": b""})) as opened:
        assert (opened.path is not None and opened.path.name, names(opened.path)) == (
            "repo-1a2b",
            ["function.yaml", "main.py"],
        )


def test_a_file_that_is_not_an_archive(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("hello")
    with open_code(tmp_path / "x.txt") as opened:
        assert opened.path == tmp_path / "x.txt"  # the reader reports the error


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [("x.zip", b"hello", "'hello'"), ("x.tar.gz", b"", "empty"), ("x.ZIP", b"<html>", "web page")],
)
def test_a_file_that_is_an_archive_only_by_name(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    error = fault(tmp_path / name)
    assert f"{name} is not a readable archive: it " in str(error)
    assert message in str(error)
    assert ".tar.gz" in str(error.hint)


def finding(path: Any) -> tuple[str, str]:
    """Return the reader's error for a path, and its hint."""
    with open_code(path) as opened:
        assert opened.path is not None
        with pytest.raises(ConfigError) as raised:
            reader.load_function(opened.path)
    return raised.value.message, raised.value.hint or ""


def test_the_error_for_an_archive_of_several_functions_lists_them(
    pack: Pack, web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    files = {"top/a/function.yaml": CONFIG, "top/b/nuclio/function.yml": CONFIG}
    web.pages["/two.zip?key=secret"] = Page(pack("two.zip", files).read_bytes())
    message, hint = finding("two.zip")
    assert message == "'two.zip:top' holds no function.yaml (nor function.yml)"
    assert hint.startswith("functions in it: top/a, top/b/nuclio; unpack it")
    message, hint = finding(f"{web.url}/two.zip?key=secret")
    assert message.startswith(f"'{web.url}/two.zip?…:top' holds no function.yaml")
    assert "functions in it: top/a, top/b/nuclio; `codeEntryAttributes: {workDir: " in hint


def test_the_error_for_an_archive_without_a_configuration_lists_its_files(pack: Pack) -> None:
    archive = pack("code.tar", {"main.py": MAIN, "weights": b"x"})
    message, hint = finding(archive)
    assert message == f"'{archive}' holds no function.yaml (nor function.yml)"
    assert hint.startswith("it contains main.py, weights; ")
    assert "`--file face.yaml`" in finding(pack("other.zip", {"face.yaml": CONFIG}))[1]
    assert finding(pack("empty.zip", {}))[1].startswith("it is empty")


def test_findings_in_an_archive_name_the_archive(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pack("face.zip", {"function.yaml": CONFIG.replace(b"runtime", b"runtme")})
    with open_code("face.zip") as opened:
        assert opened.path is not None
        place = opened.path
        report = reader.check_function(place)[1]
    text = report.render()
    assert "face.zip:function.yaml:2:33: " in text
    assert "'main' is not in face.zip\n" in text
    assert str(place) not in text
    assert str(place) in display_path(
        place / "function.yaml"
    )  # a later call treats it as any other path


def test_a_url_of_an_archive(web: Web, pack: Pack) -> None:
    web.pages["/x/face.zip"] = Page(pack("face.zip", FILES).read_bytes())
    digest = hashlib.sha256(web.pages["/x/face.zip"].body).hexdigest()
    with open_code(f"{web.url}/x/face.zip#sha256={digest}") as opened:
        assert names(opened.path) == ["function.yaml", "main.py"]
    assert "sha256" in str(fault(f"{web.url}/x/face.zip#sha256={'0' * 64}"))


def test_a_url_of_one_file(web: Web) -> None:
    web.pages["/main.py"] = Page(MAIN)
    with open_code(f"{web.url}/main.py") as opened:
        assert opened.path is not None
        assert reader.load_function(opened.path, overrides=reader.function_from_dict(
            {"metadata": {"name": "x"}}, "here"
        )).function.spec.handler == "main:handler"  # fmt: skip


@pytest.mark.parametrize(
    ("body", "message"),
    [(b"<!DOCTYPE html><title>Sign in</title>", "web page"), (b"", "empty"), (b"hi", "'hi'")],
)
def test_a_url_of_something_else(web: Web, body: bytes, message: str) -> None:
    web.pages["/code"] = web.pages["/main.py"] = Page(body)
    error = fault(f"{web.url}/code")
    assert message in str(error)
    assert error.hint
    if b"html" in body:
        assert message in str(fault(f"{web.url}/main.py"))


def archive_entry(web: Web, pack: Pack, **attributes: Any) -> Build:
    files = {f"top/fn/{name}": text for name, text in FILES.items()} | {"top/README": b""}
    web.pages["/code"] = Page(pack("code.tar.gz", files).read_bytes())
    return Build(
        path=f"{web.url}/code", code_entry_type="archive", code_entry_attributes=attributes
    )


def test_code_entry_archive(web: Web, pack: Pack) -> None:
    build = archive_entry(web, pack, workDir="/top/fn", headers={"X-Token": "1"})
    with open_code(None, build=build) as opened:
        assert names(opened.path) == ["function.yaml", "main.py"]
    assert web.seen[0][1]["X-Token"] == "1"
    with open_code(None, build=archive_entry(web, pack, workDir="fn")) as opened:
        assert names(opened.path) == ["function.yaml", "main.py"]


@pytest.mark.parametrize("work_dir", ["../..", "none", "top/README", "fn/../../.."])
def test_invalid_work_dirs(web: Web, pack: Pack, work_dir: str) -> None:
    assert "workDir" in str(fault(None, build=archive_entry(web, pack, workDir=work_dir)))


def test_the_hash_of_an_entry_is_checked(web: Web, pack: Pack) -> None:
    error = fault(None, build=archive_entry(web, pack, sha256="0" * 64))
    assert "sha256" in str(error)


def test_a_configuration_refers_to_its_code(web: Web, pack: Pack, folder: Path) -> None:
    files = {"main.py": MAIN, "function.yaml": b"metadata: {name: other}"}
    web.pages["/c.zip"] = Page(pack("c.zip", files).read_bytes())
    (folder / "main.py").unlink()
    build = {"path": f"{web.url}/c.zip", "codeEntryType": "archive"}
    config = {"metadata": {"name": "face"}, "spec": {"handler": "main:handler", "build": build}}
    (folder / "function.yaml").write_text(json.dumps(config))
    with open_code(folder) as opened:
        assert opened.config_file == folder / "function.yaml"
        assert opened.path is not None
        loaded = reader.load_function(opened.path, config_file=opened.config_file)
        assert (loaded.folder, loaded.function.metadata.name) == (opened.path, "face")
        assert (loaded.folder / "main.py").is_file()
    with open_code(folder, follow=False) as opened:
        assert opened == OpenedCode(folder)
    with open_code(folder, build=Build(function_source_code="eA==")) as opened:
        assert opened == OpenedCode(folder)


def test_an_archive_that_refers_to_another(web: Web, pack: Pack) -> None:
    web.pages["/code.zip"] = Page(pack("code.zip", {"main.py": MAIN}).read_bytes())
    build = b", build: {path: '%s/code.zip'}}" % web.url.encode()
    first = pack("first.zip", {"function.yaml": CONFIG.rstrip(b"}\n") + build})
    with open_code(first) as opened:
        assert names(opened.path) == ["main.py"]
        assert opened.config_file is not None
        assert opened.config_file.read_bytes().startswith(b"metadata: {name: face}")


def test_entries_without_a_url() -> None:
    for kind in ("archive", "github"):
        error = fault(
            None, build=Build(code_entry_type=kind, code_entry_attributes={"branch": "b"})
        )
        assert kind in str(error)
        assert error.hint


def test_urls_of_github() -> None:
    for url in (
        "https://github.com/a/b.c",
        "https://github.com/a/b.c.git",
        "https://github.com/a/b.c/",
    ):
        assert github_archive_url(url, "x/y") == "https://api.github.com/repos/a/b.c/zipball/x/y"
    for url in ("https://gitlab.com/a/b", "https://github.com/a", "http://github.com/a/b", "a/b"):
        with pytest.raises(InputError, match="github"):
            github_archive_url(url, "main")


def test_a_full_disk(
    web: Web, pack: Pack, tiny_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tiny_disk))
    weights = pack("x.tar", {"weights": os.urandom(2 << 20)})
    web.pages["/x.tar"] = Page(weights.read_bytes())
    for path in (weights, f"{web.url}/x.tar"):
        error = fault(path)
        assert "No space left" in str(error)
        assert "TMPDIR" in str(error.hint)
        assert list(tiny_disk.iterdir()) == []
