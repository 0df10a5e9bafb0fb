"""gRPC beside HTTP: a second port that stays, and switches that lose no call."""

from __future__ import annotations

import json
import os
import signal
import threading

import grpc
import pytest

from fnbuild.platforms.api_objects import function_object
from fnbuild.platforms.process import ProcessPlatform
from fnbuild.platforms.process.layout import supervisor_socket
from fnbuild.platforms.process.processor_client import listening_pid
from tests.platforms.process.author import NAMESPACE, Author, wait_for
from tests.runtime.grpc_server.inference import Client, number

pytestmark = pytest.mark.system

SPEC = """
triggers:
  web:
    kind: http
    numWorkers: 2
    attributes:
      protocols: [v2, grpc]
"""


def message():
    request = number("x", 1)
    request.model_name = "greeter"
    return request


def prediction(client: Client) -> str:
    answer = client.infer(message())
    return json.loads(answer.outputs[0].contents.bytes_contents[0])


def test_the_port_is_shown_and_stays(platform: ProcessPlatform, author: Author) -> None:
    first = author.deploy(author.write("one", spec=SPEC))
    status = function_object(first)["status"]
    assert status["grpcPort"] == first.grpc_port != first.http_port
    assert f"gRPC on port {first.grpc_port}" in author.progress[-1]
    with Client(f"127.0.0.1:{first.grpc_port}") as client:
        assert prediction(client) == "one"
        second = author.deploy(author.write("two", spec=SPEC))
        assert second.grpc_port == first.grpc_port
        assert prediction(client) == "two"
        platform.down()
        platform.up()
        assert platform.deployment(NAMESPACE, "greeter").grpc_port == first.grpc_port
        answer = client.infer(message(), wait_for_ready=True)
        assert answer.model_version == "2"
    without = author.deploy(author.write("three"))
    assert without.grpc_port == 0
    assert "grpcPort" not in function_object(without)["status"]


def test_redeploys_under_load_lose_no_call(platform: ProcessPlatform, author: Author) -> None:
    deployment = author.deploy(author.write("revision 1", spec=SPEC))
    failures, answers, done = [], [], threading.Event()

    def load() -> None:
        with Client(f"127.0.0.1:{deployment.grpc_port}") as client:
            while not done.is_set():
                try:
                    answers.append(prediction(client))
                except grpc.RpcError as error:
                    failures.append((error.code(), error.details()))

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for number_of_revision in (2, 3, 4):
            word = f"revision {number_of_revision}"
            author.deploy(author.write(word, spec=SPEC))
            wait_for(lambda word=word: answers[-1] == word)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert failures == []


def test_the_next_supervisor_takes_the_socket_over(
    platform: ProcessPlatform, author: Author
) -> None:
    deployment = author.deploy(author.write("one", spec=SPEC))
    pid = listening_pid(supervisor_socket())
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    with Client(f"127.0.0.1:{deployment.grpc_port}") as client:
        assert prediction(client) == "one"
        again = author.deploy(author.write("two", spec=SPEC))
        assert again.grpc_port == deployment.grpc_port
        assert prediction(client) == "two"
