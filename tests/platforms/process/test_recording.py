"""Recorded requests of a function on this machine, as commands show them."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from fnbuild.cli.app import run
from fnbuild.platforms.process import ProcessPlatform
from tests.platforms.process.author import NAMESPACE, Author, invoke, wait_for

pytestmark = pytest.mark.system


@pytest.fixture
def command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str]:
    """Run `fnbuild record greeter` with arguments and return its output."""
    monkeypatch.setenv("FNBUILD_PLATFORM", "process")

    def call(*arguments: str) -> str:
        capsys.readouterr()
        assert run(["record", "greeter", *arguments]) == 0
        captured = capsys.readouterr()
        return captured.out + captured.err

    return call


def test_a_recording_is_listed_exported_and_cleared(
    tmp_path: Path, platform: ProcessPlatform, author: Author, command: Callable[..., str]
) -> None:
    folder = author.write()
    config = folder / "function.yaml"
    deployed = author.deploy(folder)
    assert "`fnbuild update function greeter --record` turns it on" in command()
    text = config.read_text().replace("spec:", "  annotations: {fnbuild.io/record: 10Mi}\nspec:", 1)
    config.write_text(text)
    deployed = author.deploy(folder)
    invoke(deployed.http_port, "/v1?token=secret")

    def listed() -> list[dict[str, object]]:
        return json.loads(command("-o", "json"))

    wait_for(listed)
    # A redeploy goes on with the same recording.
    deployed = author.deploy(folder, force=True)
    invoke(deployed.http_port)
    wait_for(lambda: len(listed()) == 2)
    assert [entry["path"] for entry in listed()] == ["/v1", "/"]
    assert "secret" not in command("-o", "yaml")
    table = command().splitlines()
    assert [name.strip() for name in table[0].split("|")][:3] == ["ID", "TIME", "METHOD"]
    assert "exported 2 requests" in command("--export", str(tmp_path / "r.tar"))
    assert (tmp_path / "r.tar").stat().st_mode & 0o777 == 0o600
    with tarfile.open(tmp_path / "r.tar") as archive:
        assert len(archive.getnames()) == 2
    assert "removed 2 recorded requests" in command("--clear")
    assert listed() == []
    platform.delete(NAMESPACE, "greeter")
