"""Failures are reported by `get`, by `history`, and by the exit status of `up`."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fnbuild.errors import UnavailableError
from fnbuild.platforms.process import ProcessPlatform, supervisor_client
from fnbuild.platforms.process.layout import supervisor_socket
from fnbuild.platforms.process.supervisor_client import is_stopped
from tests.platforms.process.author import Author, alive, end_everything, take_port, wait_for

pytestmark = pytest.mark.system


@pytest.fixture
def author(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Author]:
    """A user with their own data directory."""
    monkeypatch.setenv("FNBUILD_DATA_DIR", str(tmp_path / "data"))
    yield Author(tmp_path)
    ProcessPlatform().down()


def test_a_missing_supervisor_is_reported(fnbuild: Callable[..., Any], author: Author) -> None:
    author.deploy(author.write())
    assert fnbuild("get", "functions").err == ""
    running = supervisor_client.running_supervisor()
    assert running is not None
    os.kill(running.pid, signal.SIGKILL)
    assert wait_for(lambda: not alive(running.pid))
    shown = fnbuild("get", "functions")
    assert "ready" in shown.out
    assert "the supervisor does not run" in shown.err

    assert fnbuild("up").status == 0
    assert fnbuild("down").status == 0
    shown = fnbuild("get", "functions")
    assert "the supervisor" not in shown.err
    assert "greeter: it was stopped; `fnbuild up` starts it" in shown.err


def test_up_fails_if_a_function_does_not_start(
    fnbuild: Callable[..., Any], author: Author, tmp_path: Path
) -> None:
    deployment = author.deploy(author.write())
    end_everything(tmp_path / "data")
    with socket.socket() as stranger:
        take_port(stranger, deployment.http_port)
        done = fnbuild("up")
    assert done.status == 1
    assert "1 of 1 functions did not come up: greeter" in done.err
    assert f"greeter: port {deployment.http_port} on 127.0.0.1 is taken by" in done.err


def test_up_names_functions_that_have_never_started(
    fnbuild: Callable[..., Any], author: Author, tmp_path: Path
) -> None:
    author.deploy(author.write())
    stillborn = tmp_path / "stillborn"
    assert fnbuild("init", stillborn, "--kind", "http").status == 0
    (stillborn / "main.py").write_text("raise RuntimeError('no weights')\n")
    assert fnbuild("deploy", "--path", stillborn).status == 1
    done = fnbuild("up")
    assert done.status == 0
    assert "not started, for no deploy has ever brought them up: stillborn" in done.err


def test_history_shows_the_origin_of_a_rollback(
    fnbuild: Callable[..., Any], author: Author
) -> None:
    author.deploy(author.write("one"))
    author.deploy(author.write("two"))
    assert fnbuild("rollback", "greeter").status == 0
    assert "rollback to revision 1" in fnbuild("history", "greeter").out
    again = fnbuild("rollback", "greeter", "--force-conflicts")
    assert again.status == 1
    assert "served before" in again.err


def test_a_failed_deploy_names_the_revision_that_keeps_serving_once(
    fnbuild: Callable[..., Any], author: Author
) -> None:
    author.deploy(author.write("one"))
    folder = author.write_code("import nowhere_to_be_found\n")
    done = fnbuild("deploy", "--path", folder)
    assert done.status == 1
    assert done.err.count("revision 1 goes on serving") == 1
    assert "(main.py:1, in <module>)" in fnbuild("history", "greeter").out


def test_a_stopped_supervisor_is_reported_at_once(
    fnbuild: Callable[..., Any], author: Author
) -> None:
    deployment = author.deploy(author.write())
    author.deploy(author.write(name="second"))
    running = supervisor_client.running_supervisor()
    assert running is not None
    os.kill(running.pid, signal.SIGSTOP)
    try:
        assert wait_for(lambda: is_stopped(running.pid))
        os.kill(deployment.details["pid"], signal.SIGKILL)
        assert wait_for(lambda: not alive(deployment.details["pid"]))
        began = time.monotonic()
        shown = fnbuild("get", "functions", "-o", "wide")
        assert shown.status == 0
        assert "ready" in shown.out
        stopped = f"the supervisor (process {running.pid}) is stopped"
        assert f"greeter: its processor does not run, and {stopped}" in shown.err
        assert "so no function is restarted" in shown.err
        folder = str(author.write("two"))
        for command in (
            ("deploy", "--path", folder),
            ("down",),
            ("up",),
            ("delete", "function", "second"),
        ):
            done = fnbuild(*command)
            assert done.status == 1, command
            assert f"error: {stopped}" in done.err
            assert f"kill -CONT {running.pid}" in done.err
        assert time.monotonic() - began < 8
    finally:
        os.kill(running.pid, signal.SIGCONT)
    assert fnbuild("deploy", "--path", folder).status == 0


SLEEPER = """
import sys, time
from fnbuild.runtime.sockets import listen_unix

listening = listen_unix(sys.argv[1])
print("listens", flush=True)
time.sleep(60)
"""


@pytest.mark.usefixtures("author")
def test_waiting_for_a_suspended_supervisor_ends_soon() -> None:
    command = [sys.executable, "-c", SLEEPER, str(supervisor_socket())]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as sleeper:
        assert sleeper.stdout is not None
        assert sleeper.stdout.readline() == b"listens\n"
        began = time.monotonic()
        with pytest.raises(UnavailableError, match=f"process {sleeper.pid}.*not answer") as error:
            supervisor_client.running_supervisor()
        assert time.monotonic() - began < 8
        sleeper.kill()
    assert f"kill -KILL {sleeper.pid}" in (error.value.hint or "")


@pytest.mark.parametrize(
    "command", [("up",), ("get", "functions"), ("down",), ("delete", "function", "greeter")]
)
def test_every_command_reports_a_damaged_database(
    fnbuild: Callable[..., Any], author: Author, tmp_path: Path, command: tuple[str, ...]
) -> None:
    database = tmp_path / "data" / "fnbuild.db"
    database.parent.mkdir()
    database.write_bytes(b"hello, world\n" * 1000)
    if command == ("down",):
        # With nothing to stop there is no message.
        assert fnbuild(*command).status == 0
        command = ("deploy", "--path", str(author.write()))
    done = fnbuild(*command)
    assert done.status == 1
    assert f"error: {database} is damaged" in done.err
    assert "hint: restore a backup" in done.err
    database.unlink()
