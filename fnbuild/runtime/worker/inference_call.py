"""Read a request of an inference protocol, and write its parts, in a worker."""

import json
import struct
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

from .. import wire
from ..protocols import content_coding, v1, v2
from ..protocols.instances import Instance, check_count
from ..protocols.mapping import Model
from ..protocols.tensor_mapping import read_whole_request, split_request
from ..protocols.tensors import Tensor
from .responses import SplitReply

# Before tensors between workers: the size of their JSON.
_JSON_SIZE = struct.Struct("<Q")


class InferenceLimits(NamedTuple):
    """The largest body in bytes, the most instances of a request, and the size of a batch or 0."""

    max_body: int
    max_instances: int
    batch_size: int


class InferenceCall(NamedTuple):
    """A request as far as it is read: its instances, or for V2 the tensors of each.

    `parameters` are those of V2 for the model.
    """

    meta: wire.Meta
    instances: List[Instance]
    tensors: List[List[Tensor]]
    options: v2.ResponseOptions
    raw: bytes
    parameters: Optional[Dict[str, Any]] = None

    @property
    def size(self) -> int:
        """The number of instances."""
        return len(self.tensors) or len(self.instances)


class CallReader:
    """A reader of requests to a model."""

    def __init__(self, model: Model, limits: InferenceLimits) -> None:
        self._model = model
        self._limits = limits

    def read(self, meta: wire.Meta, body: wire.Body) -> InferenceCall:
        """Return the call for a request, or for a request of one instance. Raises ProtocolError."""
        route = meta["pr"]
        options = v2.ResponseOptions(meta["i"], False, None)
        if "part" in route:
            return self._read_part(meta, body, options)
        coding = header(meta, "content-encoding")
        if coding.strip().lower() not in ("", "identity"):
            body = content_coding.decompress(bytes(body), coding, self._limits.max_body)
        takes_requests = self._model.takes_requests
        raw = bytes(body) if takes_requests else b""
        if route["p"] == "v1":
            read = v1.read_whole_request if takes_requests else v1.read_instances
            instances = read(body, meta["ct"])
            check_count(len(instances), self._limits.max_instances)
            call = InferenceCall(meta, instances, [], options, raw)
        else:
            json_size = v2.json_size_of(header(meta, v2.LENGTH_HEADER.lower()) or None)
            request = v2.read_request(body, json_size, self._model)
            options = request.options._replace(identifier=request.options.identifier or meta["i"])
            if takes_requests:
                call = InferenceCall(meta, [read_whole_request(request)], [], options, raw)
            else:
                tensors = split_request(request, self._model, self._limits.max_instances)
                call = InferenceCall(meta, [], tensors, options, raw, request.parameters)
        return call

    def _read_part(
        self, meta: wire.Meta, body: wire.Body, options: v2.ResponseOptions
    ) -> InferenceCall:
        """Return the call for a request of one instance, which `split` has written."""
        if meta["pr"]["p"] == "v1":
            values, encoded = v1.parse_json(body)
            return InferenceCall(meta, [Instance(values, encoded=encoded)], [], options, b"")
        request = _parse_part(body, self._model)
        return InferenceCall(meta, [], [request.tensors], options, b"", request.parameters)


def split(call: InferenceCall) -> SplitReply:
    """Return the requests for each instance of a call."""
    route = {"p": call.meta["pr"]["p"], "m": call.meta["pr"]["m"]}
    if call.tensors:
        bodies = [write_tensors(tensors, call.parameters or {}) for tensors in call.tensors]
    else:
        values = [[instance.values, instance.encoded] for instance in call.instances]
        bodies = [json.dumps(value).encode("ascii") for value in values]
    return SplitReply(bodies, dict(route, part=1), dict(route, join=call.options))


def write_tensors(tensors: Sequence[Tensor], parameters: Dict[str, Any]) -> bytes:
    """Return tensors and parameters as they are sent between workers."""
    body, json_size = v2.write_request(tensors, parameters)
    return _JSON_SIZE.pack(json_size) + body


def read_tensors(part: wire.Body, model: Model) -> List[Tensor]:
    """Return the tensors from `write_tensors`."""
    return _parse_part(part, model).tensors


def _parse_part(part: wire.Body, model: Model) -> v2.InferRequest:
    (json_size,) = _JSON_SIZE.unpack_from(part)
    return v2.read_request(part[_JSON_SIZE.size :], json_size, model)


def header(meta: wire.Meta, name: str) -> str:
    """Return a header of the request, the last of several."""
    values = [value for key, value in meta["h"] if key.lower() == name]
    return str(values[-1]) if values else ""
