"""The gRPC side of a processor: switches, ends, failures of the server."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import grpc
import pytest

from fnbuild.runtime.access.credentials import digest_of
from tests.runtime import interpreters
from tests.runtime.conftest import ROOT, ask, eventually
from tests.runtime.grpc_server import inference
from tests.runtime.grpc_server.inference import Client, number, request

pytestmark = pytest.mark.system

NO_PACKAGES = "No module named 'grpc'"


def server(processor):
    return processor.status()["grpc"]


def folder_of(processor):
    """The private folder of the server's sockets."""
    return Path(os.readlink(f"/proc/{server(processor)['pid']}/cwd"))


class Successors:
    """Processors that serve on the sockets of the first, one after the other."""

    def __init__(self, first, folder):
        with first.connect() as link:
            link.sendall(b"LISTENERS\n")
            message, fds, _, _ = socket.recv_fds(link, 100, 10)
        assert message == b"LISTENERS 3 1\n"
        self.fds = fds
        self.config = json.loads((first.folder / "processor.json").read_text())
        self.folder = folder
        self.control = first.control
        self.process = first.process
        self.count = 0

    def switch(self):
        """Replace the processor; return when the old one has ended."""
        self.count += 1
        control = self.folder / f"next-{self.count}.sock"
        http, admin, grpc_fd = self.fds
        listeners = {"http": {"fd": http}, "admin": {"fd": admin}, "grpc": {"fd": grpc_fd}}
        config = {**self.config, "accept": "when-ready", "drain_timeout": 20}
        config["listeners"] = {**listeners, "control": str(control)}
        path = self.folder / f"next-{self.count}.json"
        path.write_text(json.dumps(config))
        with (self.folder / f"next-{self.count}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "fnbuild.runtime.processor", "--config", path],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT, pass_fds=self.fds,
            )  # fmt: skip

        def is_ready():
            return (
                control.exists()
                and json.loads(ask("GET", control, "/status").body)["state"] == "ready"
            )

        eventually(is_ready)
        ask("POST", self.control, "/drain")
        self.process.wait(60)
        self.process, self.control = process, control

    def end(self):
        self.process.terminate()
        self.process.wait(60)
        for fd in self.fds:
            os.close(fd)


def test_switches_under_load_lose_no_call(serve, tmp_path):
    processor = serve(inference.ECHO, workers=2, **inference.settings())
    successors = Successors(processor, tmp_path)
    errors, answers, done = [], [], threading.Event()

    def load(size):
        with Client(processor.grpc_target) as client:
            while not done.is_set():
                try:
                    client.infer(request("x", "UINT8", [1, size], bytes(size)))
                    answers.append(size)
                except grpc.RpcError as error:
                    errors.append((error.code(), error.details()))

    threads = [threading.Thread(target=load, args=(size,)) for size in (10, 1000, 300_000, 10)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            count = len(answers)
            successors.switch()
            eventually(lambda: len(answers) > count + 20)  # noqa: B023 - called at once
    finally:
        done.set()
        for thread in threads:
            thread.join()
        successors.end()
    assert not errors


def test_an_idle_client_does_not_delay_the_end_of_a_switch(serve, tmp_path):
    processor = serve(inference.ECHO, **inference.settings())
    successors = Successors(processor, tmp_path)
    with Client(processor.grpc_target) as client:
        client.infer(number("x", 1))
        began = time.monotonic()
        successors.switch()
        assert time.monotonic() - began < 15
        assert client.infer(number("x", 1)).model_name == "echo"
    successors.end()


def test_calls_in_flight_are_finished_at_sigterm(serve):
    processor = serve(inference.ECHO, **inference.settings())
    with Client(processor.grpc_target) as client:
        call = client.method("ModelInfer").future(number("sleep", 2), timeout=60)
        eventually(lambda: processor.status()["workers"][0]["state"] == "busy")
        folder = folder_of(processor)
        processor.process.terminate()
        assert call.result().model_name == "echo"
    assert processor.process.wait(30) == 0
    assert not folder.exists()


def test_a_server_that_does_not_end_is_killed(serve):
    settings = inference.settings()
    settings["trigger"]["termination_timeout"] = 0.2
    processor = serve(inference.ECHO, drain_timeout=0.2, **settings)
    with Client(processor.grpc_target) as client:
        call = client.method("ModelInfer").future(number("sleep", 20), timeout=60)
        eventually(lambda: processor.status()["workers"][0]["state"] == "busy")
        folder = folder_of(processor)
        os.kill(server(processor)["pid"], signal.SIGSTOP)
        assert processor.end() == 0
        assert call.code() is grpc.StatusCode.UNAVAILABLE
    assert processor.records(message="Ending 1 requests that did not finish in time")
    assert "Traceback" not in processor.log_path.read_text()
    assert not folder.exists()
    assert not Path(processor.control).exists()


def test_a_server_that_dies_is_started_again(serve):
    processor = serve(inference.ECHO, **inference.settings())
    with Client(processor.grpc_target) as client:
        client.infer(number("x", 1))
        pid = server(processor)["pid"]
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: server(processor)["pid"] not in (0, pid))
        assert client.infer(number("x", 1), wait_for_ready=True).model_name == "echo"
    assert processor.records(level="error")[0]["message"].startswith("the gRPC server was killed")
    assert processor.call({"over": ["http"]}) == {"keys": ["over"], "header": ""}


def test_the_server_ends_with_a_processor_that_is_killed(serve):
    processor = serve(inference.ECHO, **inference.settings())
    pid, folder = server(processor)["pid"], folder_of(processor)
    processor.process.kill()
    processor.process.wait()
    eventually(lambda: not Path(f"/proc/{pid}/cmdline").exists() or not _command_line(pid))
    eventually(lambda: not folder.exists())


def _command_line(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_without_grpcio_http_is_served_and_the_error_names_the_remedy(serve, tmp_path):
    settings = {**inference.settings(), "grpc_packages": str(tmp_path / "none")}
    processor = serve(inference.ECHO, **settings)
    state = server(processor)
    assert state["state"] == "unavailable"
    for text in ("only HTTP", NO_PACKAGES, str(tmp_path / "none"), "pip install 'fnbuild[grpc]'"):
        assert text in state["message"]
    assert processor.status()["warnings"] == [state["message"]]
    assert processor.call({"over": ["http"]}) == {"keys": ["over"], "header": ""}
    with Client(processor.grpc_target) as client:
        code, _ = client.error(number("x", 1))
        assert code is grpc.StatusCode.UNAVAILABLE
    answer = ask("GET", f"http://{processor.grpc_target}")
    assert (answer.status, json.loads(answer.body)["error"]) == (503, state["message"])


@pytest.mark.versions
@pytest.mark.skipif(interpreters.find("3.13") is None, reason="there is no Python 3.13")
def test_the_handler_does_not_see_the_packages(serve):
    source = """
        import sys

        def handler(context, event):
            return {"modules": [name for name in ("grpc", "google") if name in sys.modules],
                    "path": sys.path}
        """
    settings = inference.settings("3.13")
    seen = serve(source, version="3.13", **settings).call({"a": 1})
    assert seen["modules"] == []
    assert settings["grpc_packages"] not in seen["path"]


@pytest.mark.parametrize("protocols", [["v1"], ["v1", "v2"]])
def test_without_grpc_in_the_protocols_there_is_no_server(serve, protocols):
    processor = serve(inference.ECHO, **inference.settings(protocols=protocols))
    assert server(processor) is None
    assert b"LISTENERS 2 0" in _listeners(processor)


def _listeners(processor):
    with processor.connect() as link:
        link.sendall(b"LISTENERS\n")
        return link.recv(100)


def test_calls_need_credentials_in_their_metadata(serve):
    token = "of a client, with high entropy"
    settings = inference.settings(
        authenticationMode="api",
        authentication={"tokens": [{"name": "ci", "sha256": digest_of(token)}]},
    )
    function = serve(inference.ECHO, **settings)
    eventually(lambda: server(function)["state"] == "ready")
    with Client(function.grpc_target) as client:
        status, text = client.error(number("x", 1))
        assert (status, "needs credentials" in text) == (grpc.StatusCode.UNAUTHENTICATED, True)
        metadata = (("authorization", f"Bearer {token}"),)
        assert client.infer(number("x", 1), metadata=metadata).model_name == "echo"
        assert client.call("ServerReady").ready
        assert client.call("ModelReady", name="echo").ready
        with pytest.raises(grpc.RpcError):
            client.call("ModelMetadata", name="echo")
