"""Commands that messages propose are about what the command line was about."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fnbuild.cli import console
from fnbuild.cli.app import run


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    console.clear_global_options()
    yield
    console.clear_global_options()


def test_without_options_nothing_changes() -> None:
    assert console.complete_commands("`fnbuild redeploy f` does") == "`fnbuild redeploy f` does"


def test_options_are_added_once_and_quoted() -> None:
    console.record_global_option("--platform", "kube")
    console.record_global_option("-n", "a b")
    told = "`fnbuild redeploy f`, `fnbuild logs g -n other`, `kubectl get pods`, `fnbuild up`"
    assert console.complete_commands(told) == (
        "`fnbuild redeploy f --platform kube -n 'a b'`, `fnbuild logs g -n other --platform kube`,"
        " `kubectl get pods`, `fnbuild up`"
    )


def test_a_failure_proposes_what_can_be_typed(
    capsys: pytest.CaptureFixture[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert run(["-n", "elsewhere", "redeploy", "nobody"]) == 1
    told = capsys.readouterr().err
    assert "`fnbuild get functions" in told
    assert "-n elsewhere" in told
