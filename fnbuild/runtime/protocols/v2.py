"""The V2 protocol (Open Inference Protocol): requests to tensors, tensors to responses."""

import json
from collections import Counter
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from .. import wire
from .errors import ProtocolError
from .mapping import Model
from .tensors import (
    BYTES,
    DATATYPES,
    MAX_RANK,
    Tensor,
    tensor_from_binary,
    tensor_from_json,
)
from .v1 import parse_json

LENGTH_HEADER = "Inference-Header-Content-Length"

# The parameter for outputs in binary form.
_BINARY_OUTPUT = "binary_data_output"
_SHOWN_LENGTH = 80

Headers = List[Tuple[str, str]]


class ResponseOptions(NamedTuple):
    """The response that a client has asked for.

    `outputs` are the names, and if each is in binary form; None for all outputs, which are then in
    the form of `binary`.
    """

    identifier: str
    binary: bool
    outputs: Optional[Dict[str, bool]]


class InferRequest(NamedTuple):
    """A request's tensors, the object of its JSON, and the options of its response."""

    tensors: List[Tensor]
    json: Dict[str, Any]
    options: ResponseOptions

    @property
    def parameters(self) -> Dict[str, Any]:
        """The parameters for the model."""
        items = (self.json.get("parameters") or {}).items()
        return {name: value for name, value in items if name != _BINARY_OUTPUT}


class Outputs(NamedTuple):
    """The tensors of a response, and its parameters."""

    tensors: List[Tensor]
    parameters: Dict[str, Any]


class Response(NamedTuple):
    """The headers and the body of a response."""

    headers: Headers
    body: bytes


def read_request(body: wire.Body, json_size: Optional[int], model: Model) -> InferRequest:
    """Return the request; `json_size` is the size of its JSON if binary data follows it.

    Nothing of the result refers to the body. Raises ProtocolError.
    """
    view = memoryview(body)
    has_binary_data = json_size is not None
    if json_size is None:
        json_size = len(view)
    if json_size > len(view):
        message = "%s is %d, and the body has %d bytes"
        raise ProtocolError(message % (LENGTH_HEADER, json_size, len(view)))
    value = parse_json(view[:json_size])
    if not isinstance(value, dict):
        raise ProtocolError("the request is not a JSON object with the key inputs")
    inputs = value.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        raise ProtocolError("inputs is not a list of one or more tensors")
    tensors: List[Tensor] = []
    at = json_size
    for index, item in enumerate(inputs):
        size = _binary_size(index, item)
        if size > len(view) - at:
            message = "inputs[%d].parameters.binary_data_size is %d, and the body has %d more bytes"
            if not has_binary_data:
                message += "; the header %s has the size of the JSON before them" % LENGTH_HEADER
            raise ProtocolError(message % (index, size, len(view) - at))
        data = view[at : at + size] if size >= 0 else None
        at += max(size, 0)
        tensors.append(_read_tensor(index, item, data))
    if at != len(view):
        raise ProtocolError("the body has %d bytes that belong to no input" % (len(view) - at))
    names = [tensor.name for tensor in tensors]
    if len(set(names)) < len(names):
        ((name, _),) = Counter(names).most_common(1)
        raise ProtocolError('two inputs have the same name, "%s"' % name)
    _check_inputs(tensors, model)
    return InferRequest(tensors, value, _read_options(value, model))


def json_size_of(header: Optional[str]) -> Optional[int]:
    """Return the value of the header with the size of the JSON. Raises ProtocolError."""
    if header is None:
        return None
    # More digits than a body's size has.
    if not header.isdecimal() or len(header) > 18:
        raise ProtocolError("%s is not a number: %r" % (LENGTH_HEADER, header))
    return int(header)


def _binary_size(index: int, item: Any) -> int:
    """Return the size of an input's binary data; -1 if its data is in the JSON."""
    if not isinstance(item, dict):
        raise ProtocolError("inputs[%d] is not an object" % index)
    parameters = item.get("parameters")
    if parameters is not None and not isinstance(parameters, dict):
        raise ProtocolError("inputs[%d].parameters is not an object" % index)
    size = (parameters or {}).get("binary_data_size")
    if (size is None) is (item.get("data") is None):
        message = "inputs[%d] needs either data or parameters.binary_data_size"
        raise ProtocolError(message % index)
    if size is None:
        return -1
    if not isinstance(size, int) or size is True or size < 0:
        raise ProtocolError("inputs[%d].parameters.binary_data_size is not a size" % index)
    return size


def _read_tensor(index: int, item: Dict[str, Any], data: Optional[memoryview]) -> Tensor:
    name, datatype, shape = item.get("name"), item.get("datatype"), item.get("shape")
    if not isinstance(name, str) or not name:
        raise ProtocolError("inputs[%d].name is missing" % index)
    if datatype not in DATATYPES:
        message = 'the input "%s": invalid datatype %s; the datatypes are %s'
        raise ProtocolError(message % (name, _shortened(datatype), ", ".join(DATATYPES)))
    if (
        not isinstance(shape, list)
        or len(shape) > MAX_RANK
        or not all(isinstance(size, int) and size is not True and size >= 0 for size in shape)
    ):
        message = 'the input "%s": its shape %s is not a list of sizes'
        raise ProtocolError(message % (name, _shortened(shape)))
    if data is None:
        return tensor_from_json(name, datatype, tuple(shape), item["data"])
    return tensor_from_binary(name, datatype, tuple(shape), data)


def _shortened(value: Any) -> str:
    """Return the JSON of a value for an error."""
    text = json.dumps(value)
    return text if len(text) <= _SHOWN_LENGTH else text[:_SHOWN_LENGTH] + "…"


def _check_inputs(tensors: Sequence[Tensor], model: Model) -> None:
    """Compare the tensors with the declared inputs, if there are any."""
    if not model.inputs:
        return
    declared = {field.name: field for field in model.inputs}
    missing = sorted(set(declared) - {tensor.name for tensor in tensors})
    if missing:
        raise ProtocolError("the input %s is missing" % ", ".join(map(json.dumps, missing)))
    for tensor in tensors:
        field = declared.get(tensor.name)
        if field is None:
            message = 'the model has no input "%s"; its inputs are %s'
            raise ProtocolError(message % (tensor.name, ", ".join(declared)))
        if field.datatype != tensor.datatype:
            message = 'the input "%s" has the datatype %s, not %s'
            raise ProtocolError(message % (tensor.name, tensor.datatype, field.datatype))
        pairs = zip(tensor.shape, field.shape)  # noqa: B905 - zip has no strict in 3.6
        fits = all(expected in (-1, size) for size, expected in pairs)
        if len(tensor.shape) != len(field.shape) or not fits:
            message = 'the input "%s" has the shape %s, not %s'
            shapes = list(tensor.shape), list(field.shape)
            raise ProtocolError(message % ((tensor.name, *shapes)))


def _read_options(value: Dict[str, Any], model: Model) -> ResponseOptions:
    identifier, parameters = value.get("id"), value.get("parameters")
    if identifier is not None and not isinstance(identifier, str):
        raise ProtocolError("id is not a text")
    if parameters is not None and not isinstance(parameters, dict):
        raise ProtocolError("parameters is not an object")
    binary = (parameters or {}).get(_BINARY_OUTPUT, False) is True
    requested = value.get("outputs")
    if requested is None:
        return ResponseOptions(identifier or "", binary, None)
    if not isinstance(requested, list) or not all(_is_output(item) for item in requested):
        raise ProtocolError("outputs is not a list of objects with a name")
    outputs = {
        item["name"]: (item.get("parameters") or {}).get("binary_data", binary) is True
        for item in requested
    }
    names = [field.name for field in model.outputs]
    if not names and not model.takes_requests:
        names = ["predictions"]
    for name in outputs:
        if names and name not in names:
            message = 'the model has no output "%s"; its outputs are %s'
            raise ProtocolError(message % (name, ", ".join(names)))
    return ResponseOptions(identifier or "", binary, outputs or None)


def _is_output(item: Any) -> bool:
    return (
        isinstance(item, dict)
        and isinstance(item.get("name"), str)
        and isinstance(item.get("parameters") or {}, dict)
    )


def write_request(tensors: Sequence[Tensor], parameters: Dict[str, Any]) -> Tuple[bytes, int]:
    """Return a request with binary data, and the size of its JSON."""
    items, parts = _write_tensors([(tensor, True) for tensor in tensors])
    head = json.dumps({"inputs": items, "parameters": parameters}).encode("ascii")
    return b"".join([head, *parts]), len(head)


def write_response(outputs: Outputs, model: Model, options: ResponseOptions) -> Response:
    """Return the response with the outputs that the client has asked for."""
    binary_forms = options.outputs
    by_name = {tensor.name: tensor for tensor in outputs.tensors}
    if binary_forms is None:
        binary_forms = dict.fromkeys(by_name, options.binary)
    chosen = [(by_name[name], form) for name, form in binary_forms.items() if name in by_name]
    for tensor, binary in chosen:
        if tensor.datatype == "FP16" and not binary:
            message = 'the output "%s" is FP16, which has binary data only: ask for binary_data'
            raise ProtocolError(message % tensor.name)
    items, parts = _write_tensors(chosen)
    value: Dict[str, Any] = {"model_name": model.name, "id": options.identifier}
    if model.version:
        value["model_version"] = model.version
    if outputs.parameters:
        value["parameters"] = outputs.parameters
    value["outputs"] = items
    head = json.dumps(value).encode("ascii")
    if not any(binary for _, binary in chosen):
        return Response([("Content-Type", "application/json")], head)
    headers = [("Content-Type", "application/octet-stream"), (LENGTH_HEADER, str(len(head)))]
    return Response(headers, b"".join([head, *parts]))


def _write_tensors(
    tensors: Sequence[Tuple[Tensor, bool]],
) -> Tuple[List[Dict[str, Any]], List[bytes]]:
    """Return the JSON of tensors, and the binary data of those that are in binary form."""
    items: List[Dict[str, Any]] = []
    parts: List[bytes] = []
    for tensor, binary in tensors:
        item: Dict[str, Any] = {
            "name": tensor.name, "shape": list(tensor.shape), "datatype": tensor.datatype
        }  # fmt: skip
        if binary:
            parts.append(tensor.binary_data())
            item["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            item["data"] = _json_values(tensor)
        items.append(item)
    return items, parts


def _json_values(tensor: Tensor) -> List[Any]:
    values = tensor.values()
    if tensor.datatype == BYTES and not all(isinstance(value, str) for value in values):
        message = 'the output "%s" is not text, so it has binary data only: ask for binary_data'
        raise ProtocolError(message % tensor.name)
    return values
