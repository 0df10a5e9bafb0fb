"""The forms of a request: the same content as plain JSON, or in an inference protocol."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Headers = tuple[tuple[str, str], ...]

MODEL = "bench"
"""The name of the model in the URLs of all servers."""

METHOD = "/inference.GRPCInferenceService/ModelInfer"
GRPC_SCHEME = "grpc"

JSON_HEADERS: Headers = (("Content-Type", "application/json"),)


@dataclass(frozen=True)
class Content:
    """A JPEG file, or an array of FP32."""

    data: bytes
    is_array: bool = False

    @property
    def shape(self) -> list[int]:
        return [1, len(self.data) // 4] if self.is_array else [1]

    @property
    def tensor(self) -> dict[str, Any]:
        """The tensor's name, type and shape."""
        name, datatype = ("x", "FP32") if self.is_array else ("image", "BYTES")
        return {"name": name, "datatype": datatype, "shape": self.shape}


@dataclass(frozen=True)
class Form:
    """A form of requests. `path` replaces that of the server; `read` finds the handler's reply."""

    encode: Callable[[Content], tuple[Headers, bytes]]
    read: Callable[[Any], Any]
    path: str | None = None
    scheme: str = "http"


def _plain(content: Content) -> tuple[Headers, bytes]:
    return JSON_HEADERS, json.dumps({"image": base64.b64encode(content.data).decode()}).encode()


def _file(content: Content) -> tuple[Headers, bytes]:
    return (("Content-Type", "image/jpeg"),), content.data


def _v1(content: Content) -> tuple[Headers, bytes]:
    instance = {"image": {"b64": base64.b64encode(content.data).decode()}}
    return JSON_HEADERS, json.dumps({"instances": [instance]}).encode()


def _v2(content: Content) -> tuple[Headers, bytes]:
    """Return binary data. A JPEG is in base64, since kserve refuses BYTES that are not UTF-8."""
    data = content.data if content.is_array else _element(base64.b64encode(content.data))
    tensor = {**content.tensor, "parameters": {"binary_data_size": len(data)}}
    head = json.dumps({"id": "1", "inputs": [tensor]}).encode()
    headers = (
        ("Content-Type", "application/octet-stream"),
        ("Inference-Header-Content-Length", str(len(head))),
    )
    return headers, head + data


def _grpc(content: Content) -> tuple[Headers, bytes]:
    from fnbuild.runtime.grpc_server import proto

    message = proto.message_class("ModelInferRequest")(model_name=MODEL, id="1")
    message.inputs.add(**content.tensor)
    message.raw_input_contents.append(content.data if content.is_array else _element(content.data))
    encoded: bytes = message.SerializeToString()
    return (), encoded


def _element(data: bytes) -> bytes:
    """Return an element of a BYTES tensor."""
    return len(data).to_bytes(4, "little") + data


def _read_v2(value: Any) -> Any:
    return json.loads(value["outputs"][0]["data"][0])


def _read_grpc(value: bytes) -> Any:
    from fnbuild.runtime.grpc_server import proto

    message = proto.message_class("ModelInferResponse").FromString(value)
    if message.raw_output_contents:
        return json.loads(message.raw_output_contents[0][4:])
    return json.loads(message.outputs[0].contents.bytes_contents[0])


FORMS = {
    "plain": Form(_plain, lambda value: value),
    "file": Form(_file, lambda value: value),
    "v1": Form(_v1, lambda value: value["predictions"][0], f"/v1/models/{MODEL}:predict"),
    "v2": Form(_v2, _read_v2, f"/v2/models/{MODEL}/infer"),
    "grpc": Form(_grpc, _read_grpc, scheme=GRPC_SCHEME),
}
