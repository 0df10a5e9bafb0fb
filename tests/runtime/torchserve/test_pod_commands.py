"""The commands of pods, with a real TorchServe on this machine."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fnbuild.runtime.torchserve import pod_commands
from tests.engine import until
from tests.torchserve_server import TorchServe, archive, running_torchserve

pytestmark = pytest.mark.system

HANDLER = """\
def handle(data, context):
    return None if data is None else ["hello"] * len(data)
"""
BROKEN = """\
def handle(data, context):
    raise ValueError("no weights")
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TorchServe]:
    """A server with tokens."""
    store = tmp_path_factory.mktemp("store")
    for name, code in (("fine", HANDLER), ("broken", BROKEN)):
        handler = store.parent / f"{name}_handler.py"
        handler.write_text(code)
        archive(name, handler, store)
    with running_torchserve(store, options=(), ready=False) as running:
        until("the model", lambda: run(running, "ready", "fine").returncode == 0)
        yield running


def run(server: TorchServe, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    source = Path(pod_commands.__file__).read_text()
    port = str(server.ports["management"])
    command = ["python3", "-I", "-S", "-c", source, str(server.folder / "key_file.json"), port]
    environment = {"PATH": os.environ["PATH"], **variables}
    return subprocess.run(
        [*command, *arguments], capture_output=True, text=True, check=False, env=environment
    )


def test_a_pod_is_ready_when_its_model_is_although_ping_says_healthy_before(
    server: TorchServe,
) -> None:
    assert server.ask("inference", "/ping").status_code in (200, 400)
    assert run(server, "ready", "fine").returncode == 0
    broken = run(server, "ready", "fine", "broken")
    assert broken.returncode == 1
    assert "broken has no ready worker" in broken.stderr
    assert "absent" in run(server, "ready", "absent").stderr


def test_requests_have_the_tokens_of_the_server(server: TorchServe) -> None:
    status, _, body = run(server, "send", "GET", "/models", "5").stdout.partition("\n")
    assert (status, len(json.loads(body)["models"])) == ("200", 2)
    key = run(server, "key").stdout
    assert key == server.key("inference")
    reply = server.predict("fine", b"x", {"Authorization": f"Bearer {key}"})
    assert reply.status_code == 200


def test_errors_of_the_management_api_are_passed_on(server: TorchServe) -> None:
    status, _, body = run(
        server, "send", "PUT", "/models/absent?min_worker=1", "5"
    ).stdout.partition("\n")
    assert (status, json.loads(body)["type"]) == ("404", "ModelNotFoundException")


def test_a_server_that_does_not_answer_is_not_ready(server: TorchServe, tmp_path: Path) -> None:
    source = Path(pod_commands.__file__).read_text()
    command = ["python3", "-I", "-S", "-c", source, str(tmp_path / "keys"), "1", "ready", "fine"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("TorchServe does not answer")


def test_the_end_waits_for_the_request_in_progress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "busy.lock"
    monkeypatch.setenv(pod_commands.BUSY_LOCK_VARIABLE, str(lock))
    assert pod_commands.is_idle(0)  # no handler has made the file
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_SH)
        assert not pod_commands.is_idle(0)
        threading.Timer(1.0, lambda: fcntl.flock(held, fcntl.LOCK_UN)).start()
        # No process of this test is a server that could be ended.
        monkeypatch.setattr(pod_commands, "MODEL_SERVER", b"a server that does not exist")
        began = time.monotonic()
        pod_commands.end(0.0, 30.0, 0)
        assert 1.5 < time.monotonic() - began < 10


def test_archives_of_other_tools_keep_a_pod_until_their_clients_have_left(
    server: TorchServe,
) -> None:
    port = server.ports["inference"]
    with socket.create_connection(("127.0.0.1", port)):
        assert pod_commands.has_connections(port)
    assert not pod_commands.has_connections(1)
