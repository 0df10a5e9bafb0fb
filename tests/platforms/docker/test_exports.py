"""Functions on an engine leave with their code and come back without their image."""

from __future__ import annotations

from pathlib import Path

import pytest

from fnbuild.cli.app import run
from tests.platforms.docker.author import Author, ask

pytestmark = pytest.mark.system


@pytest.mark.parametrize("several", [False, True], ids=["one file", "a folder"])
def test_an_export_brings_back_the_code_of_a_lost_image(
    several: bool, author: Author, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ("--platform", "local", "-n", author.namespace)
    file = str(tmp_path / "greeter.tar.gz")
    folder = author.write("hello")
    if several:
        (folder / "words.txt").write_text("hello")
    author.deploy(folder)
    capsys.readouterr()

    assert run(["export", "functions", "greeter", *place]) == 0
    output = capsys.readouterr()
    assert ("functionSourceCode" in output.out) is not several
    assert ("the code of greeter (3 files) is not in the export" in output.err) is several
    assert run(["export", "functions", "greeter", "--with-code", file, *place]) == 0

    assert run(["delete", "function", "greeter", "--image", *place]) == 0
    assert run(["import", "functions", file, *place]) == 0
    assert run(["deploy", "greeter", *place]) == 0
    assert ask(author.shown().http_port) == "hello"
