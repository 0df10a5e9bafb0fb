"""Exports contain the code of functions, and imports work without the image."""

from __future__ import annotations

from pathlib import Path

import pytest

from fnbuild.cli.app import run
from tests.platforms.docker.author import Author, invoke

pytestmark = pytest.mark.system


@pytest.mark.parametrize("several", [False, True], ids=["one file", "a folder"])
def test_an_import_rebuilds_a_lost_image_from_exported_code(
    several: bool, author: Author, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--platform", "local", "-n", author.namespace)
    file = str(tmp_path / "greeter.tar.gz")
    folder = author.write("hello")
    if several:
        (folder / "words.txt").write_text("hello")
    author.deploy(folder)
    capsys.readouterr()

    assert run(["export", "functions", "greeter", *options]) == 0
    output = capsys.readouterr()
    assert ("functionSourceCode" in output.out) is not several
    assert ("the code of greeter (3 files) is not in the export" in output.err) is several
    assert run(["export", "functions", "greeter", "--with-code", file, *options]) == 0

    assert run(["delete", "function", "greeter", "--image", *options]) == 0
    assert run(["import", "functions", file, *options]) == 0
    assert run(["deploy", "greeter", *options]) == 0
    assert invoke(author.deployment().http_port) == "hello"
