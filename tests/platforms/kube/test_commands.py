"""The command line with a cluster behind it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fnbuild.cli.app import run
from tests.platforms.kube.author import Author

Commands = Callable[..., tuple[int, str, str]]


@pytest.fixture
def fnbuild(
    author: Author, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Commands:
    """Runs a command line in this process: its status, what it printed, what it said."""
    monkeypatch.setenv("FNBUILD_PLATFORM", "kube")

    def call(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = run([*words, "-n", author.namespace])
        said = capsys.readouterr()
        return status, said.out, said.err

    return call


def test_every_verb_that_meets_a_conflict_can_take_it_over(
    author: Author, image: str, fnbuild: Commands
) -> None:
    author.run(image)
    edited = {"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 9}}}}
    verbs = [
        ("update", "function", "greeter", "--env", "WORD=two"),
        ("rollback", "greeter"),
        ("redeploy", "greeter"),
    ]
    for verb in verbs:
        author.edit(edited)
        status, _, said = fnbuild(*verb)
        assert status == 1
        assert "that kubectl-edit manages" in said
        assert "--force-conflicts" in said
        status, _, said = fnbuild(*verb, "--force-conflicts")
        assert status == 0, said
    assert author.shown().revision == 4
