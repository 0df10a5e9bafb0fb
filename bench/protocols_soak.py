"""Requests of the inference protocols under faults: workers killed, and redeploys in between.

    python -m bench.protocols_soak --requests 100000 --kills 200 --redeploys 20

A function on the process platform, in a separate data directory, gets requests of V1, V2 and gRPC.
About every fourth is malformed, and must be refused with its documented status. A request may fail
only if its worker was killed, and its reply must have this reason. The exit status is 1 if an
expectation is violated.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import random
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc

from fnbuild.runtime.grpc_server import proto

from .faults import NAME, FaultPlan, MixedLoad, print_outcome, run

_MAX_BODY = 1 << 20
_CONFIG = f"""
metadata: {{name: {NAME}}}
spec:
  handler: main:handler
  runtime: "python:3.11"
  triggers:
    http:
      kind: http
      numWorkers: %d
      attributes: {{protocols: [v1, v2, grpc], maxRequestBodySize: {_MAX_BODY}}}
"""
_HANDLER = """
import base64

VERSION = %d


def handler(context, event):
    body = event.body
    if "image" in body:
        value = len(base64.b64decode(body["image"], validate=True))
    else:
        value = float(sum(body["values"]))
    return {"value": value, "version": VERSION}
"""
_PREDICT = f"/v1/models/{NAME}:predict"
_INFER = f"/v2/models/{NAME}/infer"
_METHOD = f"/{proto.SERVICE}/ModelInfer"
_TIMEOUT = 30.0
_MALFORMED_SHARE = 0.25
# Sizes of images and their frequencies.
_SIZES = (50, 3_000, 100_000, 500_000)
_WEIGHTS = (60, 25, 12, 3)

Headers = dict[str, str]


@dataclass(frozen=True)
class Request:
    """A request over HTTP, or over gRPC if it has no path.

    `status` is a number or the name of a code of gRPC; `values` are those of the replies.
    """

    body: bytes
    status: int | str
    path: str = ""
    headers: Headers | None = None
    method: str = "POST"
    values: tuple[float, ...] = ()


def _v1(value: Any, values: tuple[float, ...] = ()) -> Request:
    """Return a request; one without values is malformed."""
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return Request(body, 200 if values else 400, _PREDICT, values=values)


def _v2(tensor: dict[str, Any], data: bytes = b"", values: tuple[float, ...] = ()) -> Request:
    """Return a request; one without values is malformed."""
    head = json.dumps({"inputs": [tensor]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))} if data else None
    return Request(head + data, 200 if values else 400, _INFER, headers, values=values)


def _tensor(datatype: str, shape: list[int], name: str = "values", **more: Any) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, **more}


def _binary(size: int) -> dict[str, Any]:
    return {"parameters": {"binary_data_size": size}}


def _message(
    datatype: str, shape: list[int], *raw: bytes, name: str = "values", **fields: str
) -> Any:
    message = proto.message_class("ModelInferRequest")(model_name=NAME)
    message.inputs.add(name=name, datatype=datatype, shape=shape)
    message.raw_input_contents.extend(raw)
    for key, value in fields.items():
        setattr(message, key, value)
    return message


def _grpc(message: Any, status: str = "OK", values: tuple[float, ...] = ()) -> Request:
    return Request(message.SerializeToString(), status, values=values)


def _element(data: bytes) -> bytes:
    return struct.pack("<I", len(data)) + data


def _rows(rng: random.Random) -> tuple[list[list[int]], tuple[float, ...]]:
    rows = [[rng.randrange(1000) for _ in range(3)] for _ in range(rng.choice((1, 1, 1, 4)))]
    return rows, tuple(float(sum(row)) for row in rows)


def _flat(rows: list[list[int]]) -> list[int]:
    return [value for row in rows for value in row]


def _image(rng: random.Random) -> bytes:
    # The first byte of a JPEG file is not UTF-8.
    return b"\xff" + rng.randbytes(rng.choices(_SIZES, _WEIGHTS)[0])


def _valid_v1(rng: random.Random) -> Request:
    if rng.random() < 0.5:
        image = _image(rng)
        instance = {"image": {"b64": base64.b64encode(image).decode()}}
        return _v1({"instances": [instance]}, values=(float(len(image)),))
    rows, values = _rows(rng)
    return _v1({"instances": [{"values": row} for row in rows]}, values=values)


def _valid_v2(rng: random.Random) -> Request:
    form = rng.randrange(3)
    if form == 0:
        image = _image(rng)
        data = _element(image)
        tensor = _tensor("BYTES", [1], "image", **_binary(len(data)))
        return _v2(tensor, data, values=(float(len(image)),))
    rows, values = _rows(rng)
    if form == 1:
        return _v2(_tensor("INT64", [len(rows), 3], data=_flat(rows)), values=values)
    data = struct.pack(f"<{3 * len(rows)}f", *_flat(rows))
    return _v2(_tensor("FP32", [len(rows), 3], **_binary(len(data))), data, values=values)


def _valid_grpc(rng: random.Random) -> Request:
    form = rng.randrange(3)
    if form == 0:
        image = _image(rng)
        message = _message("BYTES", [1], _element(image), name="image")
        return _grpc(message, values=(float(len(image)),))
    rows, values = _rows(rng)
    if form == 1:
        data = struct.pack(f"<{3 * len(rows)}d", *_flat(rows))
        return _grpc(_message("FP64", [len(rows), 3], data), values=values)
    message = _message("INT64", [len(rows), 3])
    message.inputs[0].contents.int64_contents.extend(_flat(rows))
    return _grpc(message, values=values)


VALID: dict[str, Callable[[random.Random], Request]] = {
    "V1": _valid_v1,
    "V2": _valid_v2,
    "gRPC": _valid_grpc,
}

_GOOD = _tensor("FP32", [1, 3], data=[1, 2, 3])


def _typed_and_raw() -> Any:
    message = _message("FP32", [1, 1], bytes(4))
    message.inputs[0].contents.fp32_contents.append(1)
    return message


MALFORMED: dict[str, list[Request]] = {
    "V1": [
        _v1(b'{"instances": ['),
        _v1(b"\xff\x00 no JSON"),
        _v1(b""),
        _v1([{"values": [1]}]),
        _v1({"inputs": 5}),
        _v1({"instances": 5}),
        _v1({"instances": {}}),
        _v1({"instances": [{"image": {"b64": "?"}}]}),
        Request(b'{"instances": [1]}', 404, "/v1/models/nobody:predict"),
        Request(b"", 404, _PREDICT, method="GET"),
    ],
    "V2": [
        Request(b'{"inputs": [', 400, _INFER),
        Request(b'{"inputs": []}', 400, _INFER),
        Request(b'{"inputs": {}}', 400, _INFER),
        Request(b"[1]", 400, _INFER),
        _v2(_tensor("FP99", [1], data=[1])),
        _v2(_tensor("FP32", [1, 4], data=[1, 2, 3])),
        _v2(_tensor("FP32", [-1], data=[1])),
        _v2(_tensor("INT8", [1], data=[300])),
        _v2(_tensor("INT8", [1], data=["x"])),
        _v2({"name": "values", "datatype": "FP32"}),
        _v2(_tensor("FP32", [1, 1])),
        _v2(_tensor("FP32", [1, 1], **_binary(4)), b"12345"),
        _v2(_tensor("FP32", [1, 2], **_binary(4)), b"1234"),
        _v2(_tensor("FP32", [1, 1], **_binary(400)), b"1234"),
        _v2(_tensor("BYTES", [1], "image", **_binary(8)), b"\x09\x00\x00\x00abcd"),
        Request(b"{}", 400, _INFER, {"Inference-Header-Content-Length": "99"}),
        Request(b"{}", 400, _INFER, {"Inference-Header-Content-Length": "-1"}),
        Request(json.dumps({"inputs": [_GOOD]}).encode(), 404, "/v2/models/nobody/infer"),
        Request(
            json.dumps({"inputs": [_GOOD]}).encode(),
            404,
            f"/v2/models/{NAME}/versions/99999/infer",
        ),
        Request(b"", 405, _INFER, method="GET"),
    ],
    "gRPC": [
        Request(b"\xff\xff\xff", "INVALID_ARGUMENT"),
        _grpc(_message("FP32", [1, 1], bytes(4), model_name="nobody"), "NOT_FOUND"),
        _grpc(_message("FP32", [1, 1], bytes(4), model_version="99999"), "NOT_FOUND"),
        _grpc(_message("FP32", [1, 2], bytes(4)), "INVALID_ARGUMENT"),
        _grpc(_message("FP99", [1], bytes(4)), "INVALID_ARGUMENT"),
        _grpc(_message("BYTES", [1], b"\x09\x00\x00\x00a", name="image"), "INVALID_ARGUMENT"),
        _grpc(_message("FP32", [1, 1], bytes(4), bytes(4)), "INVALID_ARGUMENT"),
        _grpc(_typed_and_raw(), "INVALID_ARGUMENT"),
        _grpc(proto.message_class("ModelInferRequest")(model_name=NAME), "INVALID_ARGUMENT"),
        _grpc(_message("UINT8", [1, _MAX_BODY], bytes(_MAX_BODY)), "RESOURCE_EXHAUSTED"),
    ],
}


class ProtocolLoad(MixedLoad):
    """Clients that each have a connection over HTTP and one over gRPC."""

    config = _CONFIG
    handler = _HANDLER

    def run_client(self, number: int) -> None:
        """Send requests until the load is over."""
        rng = self.make_random(number)
        target = f"127.0.0.1:{self.function.grpc_port}"
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_reconnect_backoff_ms", 200)]
        connection = self.connect()
        with grpc.insecure_channel(target, options) as channel:
            method = channel.unary_unary(_METHOD)
            while not self.is_over:
                protocol = rng.choice(tuple(VALID))
                if rng.random() < _MALFORMED_SHARE:
                    request = rng.choice(MALFORMED[protocol])
                else:
                    request = VALID[protocol](rng)
                try:
                    if request.path:
                        self._ask_http(connection, request)
                    else:
                        self._ask_grpc(method, request)
                except (OSError, http.client.HTTPException) as problem:
                    self.report(f"no reply: {problem!r}")
                    connection.close()
                    connection = self.connect()
        connection.close()

    def _ask_http(self, connection: http.client.HTTPConnection, request: Request) -> None:
        headers = {"Content-Type": "application/json", **(request.headers or {})}
        connection.request(request.method, request.path, request.body or None, headers)
        response = connection.getresponse()
        data = response.read()
        self.count()
        text = data.decode("utf-8", "replace")
        if response.status != request.status:
            self.count_failure(f"{response.status} instead of {_describe(request)}: {text}")
        elif response.status != 200:
            self._check_error(text, request)
        elif request.path == _PREDICT:
            self._check_replies(json.loads(data)["predictions"], request)
        else:
            elements = json.loads(data)["outputs"][0]["data"]
            self._check_replies([json.loads(element) for element in elements], request)

    def _ask_grpc(self, method: Any, request: Request) -> None:
        try:
            answer = method(request.body, timeout=_TIMEOUT)
        except grpc.RpcError as error:
            self.count()
            code, details = error.code().name, error.details()
            if code != request.status:
                self.count_failure(f"{code} instead of {_describe(request)}: {details}")
            return
        self.count()
        if request.status != "OK":
            self.count_failure(f"OK instead of {_describe(request)}")
            return
        message = proto.message_class("ModelInferResponse").FromString(answer)
        elements = list(message.outputs[0].contents.bytes_contents)
        if message.raw_output_contents:
            elements = _split(message.raw_output_contents[0])
        self._check_replies([json.loads(element) for element in elements], request)

    def _check_replies(self, replies: list[dict[str, Any]], request: Request) -> None:
        if tuple(reply["value"] for reply in replies) != request.values:
            self.report(f"a wrong reply to {_describe(request)}: {str(replies)[:200]}")
        for reply in replies:
            self.check_version(reply["version"])

    def _check_error(self, text: str, request: Request) -> None:
        try:
            value = json.loads(text)
        except ValueError:
            value = None
        if not isinstance(value, dict) or list(value) != ["error"]:
            self.report(f"{_describe(request)} has no error in JSON: {text[:200]}")


def _describe(request: Request) -> str:
    return f"{request.status} for {request.method} {request.path or 'gRPC'} {request.body[:80]!r}"


def _split(data: bytes) -> list[bytes]:
    """Return the elements of a BYTES tensor."""
    elements, at = [], 0
    while at < len(data):
        (size,) = struct.unpack_from("<I", data, at)
        elements.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    return elements


def main(arguments: list[str]) -> int:
    """Run the soak and print the outcome; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.protocols_soak", description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--redeploys", type=int, default=20)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    plan = FaultPlan(
        requests=options.requests,
        kills=options.kills,
        redeploys=options.redeploys,
        workers=options.workers,
        seed=options.seed,
    )
    say = lambda text: print(text, file=sys.stderr, flush=True)  # noqa: E731
    return print_outcome(plan, run(plan, say, ProtocolLoad))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
