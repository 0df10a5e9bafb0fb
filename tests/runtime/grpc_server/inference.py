"""A function that serves gRPC, and a client of its service."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import grpc
import pytest

from fnbuild.builder import grpc_packages
from fnbuild.runtime.grpc_server import proto
from tests.runtime import interpreters

_CACHE = Path(__file__).resolve().parents[3] / ".cache" / "packages"
MAX_BODY = 32 << 20

ECHO = """
    import time

    def handler(context, event):
        body = event.body
        if "sleep" in body:
            time.sleep(body["sleep"][0])
        if "status" in body:
            text = '{"error": "as asked"}'
            return context.Response(body=text, status_code=body["status"][0])
        return {"keys": sorted(body), "header": event.headers.get("X-Test", "")}
"""


def packages(version: str | None = None) -> str:
    """The folder with grpcio for an interpreter of the tests, installed once for all runs."""
    numbers = interpreters.numbers(version) if version else sys.version_info[:2]
    python = grpc_packages.GrpcPython(tuple(numbers), grpc_packages.own_system())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FNBUILD_DATA_DIR", str(_CACHE))
        return str(grpc_packages.ensure_packages(python, lambda _: None))


def settings(version: str | None = None, **attributes: Any) -> dict[str, Any]:
    """Changes of processor.json for a function that serves gRPC."""
    attributes = {"protocols": ["grpc"], "maxRequestBodySize": MAX_BODY, **attributes}
    return {
        "function": {"name": "echo", "namespace": "nuclio", "revision": 7},
        "trigger": {"attributes": attributes},
        "grpc_packages": packages(version),
    }


class Client:
    """A client of GRPCInferenceService, on a connection of its own."""

    def __init__(self, target: str) -> None:
        options = [
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_reconnect_backoff_ms", 200),
        ]
        self.channel = grpc.insecure_channel(target, options)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()

    def method(self, name: str) -> Any:
        return self.channel.unary_unary(
            f"/{proto.SERVICE}/{name}",
            request_serializer=proto.message_class(f"{name}Request").SerializeToString,
            response_deserializer=proto.message_class(f"{name}Response").FromString,
        )

    def call(self, method: str, /, **fields: Any) -> Any:
        request = proto.message_class(f"{method}Request")(**fields)
        return self.method(method)(request, timeout=60)

    def infer(self, request: Any, **options: Any) -> Any:
        return self.method("ModelInfer")(request, **{"timeout": 60, **options})

    def error(self, request: Any, **options: Any) -> tuple[grpc.StatusCode, str]:
        """The status of a call that fails."""
        try:
            answer = self.infer(request, **options)
        except grpc.RpcError as error:
            return error.code(), error.details()
        raise AssertionError(answer)


def request(name: str, datatype: str, shape: list[int], raw: bytes | None = None) -> Any:
    """A ModelInferRequest with one tensor."""
    message = proto.message_class("ModelInferRequest")(model_name="echo")
    message.inputs.add(name=name, datatype=datatype, shape=shape)
    if raw is not None:
        message.raw_input_contents.append(raw)
    return message


def number(name: str, value: float) -> Any:
    """A request whose event has a number, in a typed field."""
    message = request(name, "FP64", [1, 1])
    message.inputs[0].contents.fp64_contents.append(value)
    return message
