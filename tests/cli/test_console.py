"""Commands proposed in messages have the global options of the command line."""

from __future__ import annotations

import click
import pytest

from fnbuild.cli.app import cli, run
from fnbuild.cli.batch import run_batch
from fnbuild.cli.console import add_options_to_commands
from fnbuild.cli.session import Session
from fnbuild.errors import NotFoundError


def test_without_options_proposed_commands_are_unchanged() -> None:
    assert add_options_to_commands("`fnbuild redeploy f` does", {}) == "`fnbuild redeploy f` does"


def test_options_are_added_once_and_quoted() -> None:
    options = {"--platform": "kube", "-n": "a b"}
    message = "`fnbuild redeploy f`, `fnbuild logs g -n other`, `kubectl get pods`, `fnbuild up`"
    assert add_options_to_commands(message, options) == (
        "`fnbuild redeploy f --platform kube -n 'a b'`, `fnbuild logs g -n other --platform kube`,"
        " `kubectl get pods`, `fnbuild up`"
    )


@pytest.mark.usefixtures("empty")
def test_a_failure_proposes_a_command_with_the_same_options(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["-n", "elsewhere", "redeploy", "nobody"]) == 1
    message = capsys.readouterr().err
    assert "`fnbuild get functions" in message
    assert "-n elsewhere" in message


def test_failures_in_threads_suggest_the_same_options(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(name: str) -> None:
        raise NotFoundError(f"no function {name}", hint=f"`fnbuild logs {name}` says more")

    with click.Context(cli, obj=Session(location_options={"-n": "other"})).scope():
        run_batch(["f", "g"], fail, 2)
    messages = capsys.readouterr().err
    assert "`fnbuild logs f -n other`" in messages
    assert "`fnbuild logs g -n other`" in messages
