"""gRPC from a container: its packages, its port, and its redeploy."""

from __future__ import annotations

import json
import socket

import pytest

from fnbuild.platforms.api_objects import function_object
from tests.platforms.docker.author import Author, invoke
from tests.runtime.grpc_server.inference import Client, number

pytestmark = pytest.mark.system

SPEC = """
triggers:
  web:
    kind: http
    attributes:
      protocols: [grpc]
"""


def prediction(port: int) -> tuple[str, str]:
    """The model's version and its prediction."""
    request = number("x", 1)
    request.model_name = "greeter"
    with Client(f"127.0.0.1:{port}") as client:
        answer = client.infer(request, wait_for_ready=True)
    return answer.model_version, json.loads(answer.outputs[0].contents.bytes_contents[0])


def test_a_container_serves_grpc_on_a_port_that_stays(author: Author) -> None:
    first = author.deploy(author.write("one", spec=SPEC))
    assert first.warnings == ()
    assert function_object(first)["status"]["grpcPort"] == first.grpc_port != first.http_port
    assert prediction(first.grpc_port) == ("1", "one")
    assert invoke(first.http_port) == "one"
    described = author.inspect_container()
    bindings = described["HostConfig"]["PortBindings"]
    assert sorted(bindings) == ["8080/tcp", "8081/tcp"]
    assert {entry["HostPort"] for entry in bindings["8081/tcp"]} == {str(first.grpc_port)}

    second = author.deploy(author.write("two", spec=SPEC))
    assert second.grpc_port == first.grpc_port
    assert prediction(second.grpc_port) == ("2", "two")

    author.docker("stop", author.container())
    with socket.create_server(("127.0.0.1", first.grpc_port)):
        third = author.deploy(author.write("two", spec=SPEC), force=True)
    assert third.grpc_port not in (0, first.grpc_port)

    fourth = author.deploy(author.write("four"))
    assert fourth.grpc_port == 0
    assert sorted(author.inspect_container()["HostConfig"]["PortBindings"]) == ["8080/tcp"]
