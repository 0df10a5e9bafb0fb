"""Calls of the gRPC service as requests of the V2 protocol over HTTP, and answers as messages."""

import json
import re
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Sequence, Tuple
from urllib.parse import quote

from .contents import TensorError, contents_to_raw, has_field, raw_to_contents, values_to_raw
from .proto import message_class

SIZE_HEADER = "Inference-Header-Content-Length"
"""The header with the size of the JSON before raw tensors."""

_MAX_INT64 = 1 << 63
# Hop-by-hop headers, and those that this hop sets itself. Names beginning with `grpc-` or ending
# in `-bin` are left out as well.
_OWN_HEADERS = (
    "accept-encoding", "connection", "content-encoding", "content-length", "content-type", "expect",
    "host", "inference-header-content-length", "keep-alive", "te", "trailer", "transfer-encoding",
    "upgrade",
)  # fmt: skip
# grpcio accepts any value. One with a line feed would be a header, or a request, of its own.
_NAME = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+\Z")
_INVALID_VALUE = re.compile(r"[\0-\x08\x0a-\x1f\x7f]")

_ModelInferResponse = message_class("ModelInferResponse")


class InferRequest(NamedTuple):
    """The HTTP request of a ModelInfer call; the body is the JSON and the raw tensors.

    `typed`: the call has its elements in typed fields, as its reply then does.
    """

    target: str
    head: bytes
    tensors: Sequence[bytes]
    typed: bool


def model_path(name: str, version: str) -> str:
    """Return the path of a model."""
    path = "/v2/models/" + quote(name, safe="")
    return path + "/versions/" + quote(version, safe="") if version else path


def forwarded_headers(metadata: Iterable[Tuple[str, Any]]) -> List[Tuple[str, str]]:
    """Return the headers that the metadata of a call become; invalid headers are left out."""
    return [
        (name, value)
        for name, value in metadata
        if name not in _OWN_HEADERS
        and _NAME.match(name)
        and not name.startswith("grpc-")
        and not name.endswith("-bin")
        and isinstance(value, str)
        and not _INVALID_VALUE.search(value)
    ]


def infer_request(message: Any) -> InferRequest:
    """Return the HTTP request of a ModelInferRequest; raise TensorError if it is invalid."""
    tensors = _raw_inputs(message)
    inputs = []
    for tensor, raw in zip(message.inputs, tensors):  # noqa: B905 - zip has no strict in 3.6
        value = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
        value["parameters"] = _parameters(tensor, binary_data_size=len(raw))
        inputs.append(value)
    head: Dict[str, Any] = {
        "parameters": _parameters(message, binary_data_output=True),
        "inputs": inputs,
    }
    if message.id:
        head["id"] = message.id
    if message.outputs:
        head["outputs"] = [
            {"name": output.name, "parameters": _parameters(output, binary_data=True)}
            for output in message.outputs
        ]
    target = model_path(message.model_name, message.model_version) + "/infer"
    data = json.dumps(head).encode("ascii")
    return InferRequest(target, data, tensors, not message.raw_input_contents)


def _raw_inputs(message: Any) -> List[bytes]:
    raw = message.raw_input_contents
    if not raw:
        return [_raw_input(tensor) for tensor in message.inputs]
    if len(raw) != len(message.inputs):
        raise TensorError(
            "there are %d raw_input_contents for %d inputs; each input needs one"
            % (len(raw), len(message.inputs))
        )
    for tensor in message.inputs:
        if tensor.HasField("contents"):
            raise TensorError(
                'the input "%s" has contents; with raw_input_contents none may have them'
                % tensor.name
            )
    return list(raw)


def _raw_input(tensor: Any) -> bytes:
    try:
        return contents_to_raw(tensor.datatype, tensor.contents)
    except TensorError as error:
        raise TensorError('the input "%s": %s' % (tensor.name, error)) from None


def infer_response(headers: Mapping[str, str], body: bytes, typed: bool) -> Any:
    """Return the ModelInferResponse of an HTTP answer; raise ValueError if it is none."""
    size = headers.get(SIZE_HEADER.lower())
    end = len(body) if size is None else int(size)
    head = json.loads(body[:end].decode("utf-8"))
    if not isinstance(head, dict) or not isinstance(head.get("outputs"), list):
        raise ValueError("it has no outputs")
    message = _ModelInferResponse(
        model_name=str(head.get("model_name") or ""),
        model_version=str(head.get("model_version") or ""),
        id=str(head.get("id") or ""),
    )
    _set_parameters(message.parameters, head.get("parameters"))
    typed = typed and all(has_field(output["datatype"]) for output in head["outputs"])
    for output in head["outputs"]:
        tensor = message.outputs.add(
            name=output["name"], datatype=output["datatype"], shape=output["shape"]
        )
        parameters = dict(output.get("parameters") or {})
        count = parameters.pop("binary_data_size", None)
        _set_parameters(tensor.parameters, parameters)
        if count is None:
            raw = values_to_raw(tensor.datatype, output["data"])
        else:
            raw = bytes(body[end : end + count])
            end += count
        if typed:
            raw_to_contents(tensor.datatype, raw, tensor.contents)
        else:
            message.raw_output_contents.append(raw)
    return message


def _parameters(message: Any, **own: Any) -> Dict[str, Any]:
    """Return the parameters of a message or a tensor, and those of this hop."""
    choices = [(n, p, p.WhichOneof("parameter_choice")) for n, p in message.parameters.items()]
    values = {name: getattr(value, choice) for name, value, choice in choices if choice}
    return dict(values, **own)


def _set_parameters(parameters: Any, values: Any) -> None:
    for name, value in (values or {}).items():
        parameter = parameters[name]
        if isinstance(value, bool):
            parameter.bool_param = value
        elif isinstance(value, int) and -_MAX_INT64 <= value < _MAX_INT64:
            parameter.int64_param = value
        elif isinstance(value, float):
            parameter.double_param = value
        else:
            parameter.string_param = value if isinstance(value, str) else json.dumps(value)
