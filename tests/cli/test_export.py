"""Functions are exported with their code and restored: export, delete, import, deploy, invoke."""

from __future__ import annotations

import base64
import io
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.system

Fnbuild = Callable[..., Any]

CONFIG = """\
# Finds nothing
metadata: {name: greeter}
spec:
  handler: main:handler
  runtime: python:3.11
  env: [{name: GREETING, value: hello}]
  triggers:
    more: {kind: kafka-cluster, password: hunter2, attributes: {topics: [t], consumerGroup: g}}
"""
CODE = """\
import os
import subprocess

def handler(context, event):
    return os.environ["GREETING"]
"""
WITH_MODULE = """\
from words.english import answer

def handler(context, event):
    return answer()
"""


@pytest.fixture
def fnbuild(empty: Path, fnbuild: Fnbuild) -> Iterator[Fnbuild]:
    yield fnbuild
    assert fnbuild("down").status == 0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "greeter"
    folder.mkdir()
    (folder / "function.yaml").write_text(CONFIG)
    (folder / "main.py").write_text(CODE)
    return folder


def _spread(folder: Path) -> None:
    """Turn the function into one of several files."""
    (folder / "words").mkdir()
    (folder / "words" / "english.py").write_text("def answer():\n    return 'from a folder'\n")
    (folder / "main.py").write_text(WITH_MODULE)


def _done(outcome: Any) -> Any:
    assert outcome.status == 0, outcome.err
    return outcome


def test_a_single_file_is_restored_from_the_configuration(
    folder: Path, tmp_path: Path, fnbuild: Fnbuild
) -> None:
    _done(fnbuild("deploy", "-p", folder))
    done = _done(fnbuild("export", "functions", "greeter"))
    assert "warning" not in done.err
    build = yaml.safe_load(done.out)["spec"]["build"]
    assert base64.b64decode(build["functionSourceCode"]).decode() == CODE
    assert "path" not in build
    file = tmp_path / "greeter.yaml"
    file.write_text(done.out)
    _done(fnbuild("delete", "function", "greeter"))
    _done(fnbuild("import", "functions", file))
    _done(fnbuild("deploy", "greeter"))
    assert _done(fnbuild("invoke", "greeter")).out == "hello"


def test_code_in_a_folder_is_exported_in_an_archive(
    folder: Path, tmp_path: Path, fnbuild: Fnbuild
) -> None:
    _spread(folder)
    (folder / "function-gpu.yaml").write_text(
        "spec: {triggers: {more: {kind: kafka-cluster, password: hunter3}}}\n"
    )
    (folder / "function-broken.yaml").write_text("password: {hunter4\n")
    _done(fnbuild("deploy", "-p", folder, "--project-name", "walls"))
    done = _done(fnbuild("export", "functions", "greeter"))
    assert "warning: the code of greeter (5 files) is not in the export" in done.err
    assert "--with-code FILE.tar.gz" in done.err

    archive = tmp_path / "greeter.tar.gz"
    done = _done(fnbuild("export", "functions", "greeter", "--with-code", archive))
    assert done.out == ""
    assert "is not in the export" not in done.err
    assert "function-broken.yaml is left out" in done.err
    assert os.stat(archive).st_mode & 0o777 == 0o600
    with tarfile.open(archive) as tar:
        assert all(member.uid == 0 and member.mtime == 0 for member in tar)
    content = _content(archive)
    assert b"from a folder" in content
    assert b"hunter" not in content

    _done(fnbuild("delete", "function", "greeter"))
    done = _done(fnbuild("import", "functions", archive))
    assert "imported greeter with its code" in done.err
    assert "imported" in fnbuild("get", "functions").out
    _done(fnbuild("deploy", "greeter"))
    assert _done(fnbuild("invoke", "greeter")).out == "from a folder"
    kept = tmp_path / "data" / "imports"
    assert not list(kept.glob("*/*/greeter"))

    _done(fnbuild("delete", "function", "greeter"))
    _done(fnbuild("import", "functions", archive))
    assert len(list(kept.glob("*/*/greeter"))) == 1
    _done(fnbuild("delete", "project", "walls", "--strategy", "cascading"))
    assert not list(kept.glob("*/*/greeter"))


def _content(archive: Path) -> bytes:
    """Return the content of all files in an archive."""
    with tarfile.open(archive) as tar:
        texts = [tar.extractfile(member) for member in tar if member.isfile()]
        return b"\n".join(text.read() for text in texts if text is not None)


def test_secret_variables_are_in_an_archive_only_on_request(
    folder: Path, tmp_path: Path, fnbuild: Fnbuild
) -> None:
    _spread(folder)
    config = folder / "function.yaml"
    config.write_text(config.read_text().replace("[{", "[{name: API_TOKEN, value: hunter5}, {"))
    _done(fnbuild("deploy", "-p", folder))
    without, with_secrets = tmp_path / "without.tar.gz", tmp_path / "whole.tar.gz"
    done = _done(fnbuild("export", "functions", "greeter", "--with-code", without))
    assert "the value of API_TOKEN is not in the export" in done.err
    assert b"hunter" not in _content(without)
    _done(fnbuild("export", "functions", "greeter", "--with-code", with_secrets, "--with-secrets"))
    _done(fnbuild("delete", "function", "greeter"))
    _done(fnbuild("import", "functions", with_secrets))
    _done(fnbuild("deploy", "greeter"))
    assert b"hunter5" in _content(with_secrets)
    assert b"hunter2" not in _content(with_secrets)
    assert _done(fnbuild("invoke", "greeter")).out == "from a folder"


def test_an_imported_function_starts_by_a_redeploy_and_a_project_has_its_code(
    folder: Path, tmp_path: Path, fnbuild: Fnbuild
) -> None:
    _spread(folder)
    _done(fnbuild("deploy", "-p", folder, "--project-name", "p"))
    archive = tmp_path / "p.tar.gz"
    below = folder / "main.py" / "p.tar.gz"
    refused = fnbuild("export", "projects", "p", "--with-code", below)
    assert (refused.status, f"cannot write {below}: Not a directory" in refused.err) == (1, True)
    done = _done(fnbuild("export", "projects", "p", "--with-code", archive))
    assert f"`fnbuild import projects {archive}` reads it" in done.err
    _done(fnbuild("delete", "project", "p", "--strategy", "cascading"))
    _done(fnbuild("import", "projects", archive))
    again = tmp_path / "again.tar.gz"
    _done(fnbuild("export", "functions", "greeter", "--with-code", again))
    _done(fnbuild("redeploy", "greeter"))
    assert _done(fnbuild("invoke", "greeter")).out == "from a folder"
    with tarfile.open(again) as tar:
        assert "code/greeter/words/english.py" in tar.getnames()


def test_a_later_import_without_code_removes_the_code(
    folder: Path, tmp_path: Path, fnbuild: Fnbuild
) -> None:
    _spread(folder)
    _done(fnbuild("deploy", "-p", folder))
    archive, file = tmp_path / "greeter.tar.gz", tmp_path / "greeter.yaml"
    _done(fnbuild("export", "functions", "greeter", "--with-code", archive))
    file.write_text(fnbuild("export", "functions", "greeter").out)
    _done(fnbuild("delete", "function", "greeter"))
    _done(fnbuild("import", "functions", archive))
    _done(fnbuild("import", "functions", file))
    assert "no code of greeter is recorded" in fnbuild("redeploy", "greeter").err
    done = fnbuild("export", "functions", "greeter")
    assert "no code of greeter is recorded, so the export has none" in done.err


def test_code_from_a_repository_is_fetched_after_the_import(
    folder: Path, tmp_path: Path, fnbuild: Fnbuild
) -> None:
    _spread(folder)
    git = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b.invalid"]
    for arguments in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *arguments], check=True)
    place = ("-p", f"file://{folder}", "--code-entry-type", "git")
    _done(fnbuild("deploy", *place, "--build-code-entry-attrs", '{"branch": "main"}'))
    done = _done(fnbuild("export", "functions", "greeter"))
    assert "warning" not in done.err
    file = tmp_path / "greeter.yaml"
    file.write_text(done.out)
    _done(fnbuild("delete", "function", "greeter"))
    _done(fnbuild("import", "functions", file))
    _done(fnbuild("deploy", "greeter"))
    assert _done(fnbuild("invoke", "greeter")).out == "from a folder"


def _archive(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"main.py": b""}, "holds no export.yaml"),
        ({"export.yaml": b"a: [unclosed"}, "is not YAML"),
        ({"export.yaml": b"{}", "code/../../x": b""}, "its name leads out of the archive"),
        ({"export.yaml": b"{}", "/etc/x": b""}, "its name is an absolute path"),
    ],
)
def test_an_archive_that_is_not_an_export_is_refused(
    members: dict[str, bytes],
    message: str,
    tmp_path: Path,
    fnbuild: Fnbuild,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    done = fnbuild("import", "functions", _archive(tmp_path / "x.tar.gz", members))
    assert done.status == 1
    assert message in done.err
    assert not list(temporary.iterdir())
