"""What is not well is said: by `get`, by `history`, and by the exit status of `up`."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fnbuild.platforms.process import client, connect
from tests.platforms.process.author import Author, alive, end_everything, take_port, wait_for


@pytest.fixture
def author(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Author]:
    """Somebody with a data directory of their own."""
    monkeypatch.setenv("FNBUILD_DATA_DIR", str(tmp_path / "data"))
    yield Author(tmp_path)
    connect().down()


def test_a_supervisor_that_is_gone_is_seen(fnbuild: Callable[..., Any], author: Author) -> None:
    author.deploy(author.write())
    assert fnbuild("get", "functions").err == ""
    running = client.hello()
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


def test_up_fails_when_a_function_does_not_come_up(
    fnbuild: Callable[..., Any], author: Author, tmp_path: Path
) -> None:
    made = author.deploy(author.write())
    end_everything(tmp_path / "data")
    with socket.socket() as stranger:
        take_port(stranger, made.http_port)
        done = fnbuild("up")
    assert done.status == 1
    assert "1 of 1 functions did not come up: greeter" in done.err
    assert f"greeter: port {made.http_port} on 127.0.0.1 is taken by" in done.err


def test_up_names_what_has_never_come_up(
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


def test_history_says_where_a_rollback_came_from(
    fnbuild: Callable[..., Any], author: Author
) -> None:
    author.deploy(author.write("one"))
    author.deploy(author.write("two"))
    assert fnbuild("rollback", "greeter").status == 0
    assert "rollback to revision 1" in fnbuild("history", "greeter").out
    again = fnbuild("rollback", "greeter", "--force-conflicts")
    assert again.status == 1
    assert "served before" in again.err


def test_a_deploy_that_fails_says_once_what_goes_on_serving(
    fnbuild: Callable[..., Any], author: Author
) -> None:
    author.deploy(author.write("one"))
    folder = author.write_code("import nowhere_to_be_found\n")
    done = fnbuild("deploy", "--path", folder)
    assert done.status == 1
    assert done.err.count("revision 1 goes on serving") == 1
    assert "(main.py:1, in <module>)" in fnbuild("history", "greeter").out
