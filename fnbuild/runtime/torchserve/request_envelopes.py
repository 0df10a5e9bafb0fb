"""TorchServe's request envelopes, which convert bodies and results (`service_envelope`).

As in TorchServe, `kserve` and `kservev2` read the first request of a batch only.
"""

import base64
import json
from typing import Any, Callable, Dict, List

_NUMPY_TYPES = {"BOOL": "bool", "FP16": "float16", "FP32": "float32", "FP64": "float64"}


def _body(row: Dict[str, Any]) -> Any:
    return row.get("data") or row.get("body")


def _parsed(body: Any) -> Any:
    return json.loads(body.decode("utf-8")) if isinstance(body, (bytes, bytearray)) else body


class BaseEnvelope:
    """The base of envelopes: `handle` calls `handle_fn` with converted requests."""

    def __init__(self, handle_fn: Callable[[Any, Any], Any]) -> None:
        self._handle_fn = handle_fn
        self.context: Any = None

    def handle(self, data: Any, context: Any) -> Any:
        self.context = context
        results = self._handle_fn(self.parse_input(data) if data else data, context)
        return self.format_output(results) if results else results

    def parse_input(self, data: List[Dict[str, Any]]) -> Any:
        """Return the handler's data for the rows of requests."""
        raise NotImplementedError

    def format_output(self, data: Any) -> Any:
        """Return the items for the handler's results."""
        return data


class BodyEnvelope(BaseEnvelope):
    """The body itself as row."""

    def parse_input(self, data: List[Dict[str, Any]]) -> Any:
        return [_body(row) for row in data]


class JSONEnvelope(BaseEnvelope):
    """TensorFlow Serving's JSON: the instances of all requests are rows of one call."""

    def parse_input(self, data: List[Dict[str, Any]]) -> Any:
        requests = [[_decoded(item) for item in (_body(row) or row)["instances"]] for row in data]
        self._sizes = [len(instances) for instances in requests]
        return [instance for instances in requests for instance in instances]

    def format_output(self, data: Any) -> Any:
        items, start = [], 0
        for size in self._sizes:
            items.append(json.dumps({"predictions": data[start : start + size]}))
            start += size
        return items


def _decoded(value: Any) -> Any:
    """Return the instance with its values `{"b64": …}` as bytes."""
    if not isinstance(value, dict):
        return value
    if list(value) == ["b64"]:
        return base64.b64decode(value["b64"])
    return {
        key: _decoded(item) if isinstance(item, dict) and list(item) == ["b64"] else item
        for key, item in value.items()
    }


class KServeEnvelope(BaseEnvelope):
    """KServe's V1 protocol."""

    def parse_input(self, data: List[Dict[str, Any]]) -> Any:
        return _parsed(_body(data[0])).get("instances")

    def format_output(self, data: Any) -> Any:
        explains = self.context.get_request_header(0, "explain") == "True"
        return [{"explanations" if explains else "predictions": data}]


class KServev2Envelope(BaseEnvelope):
    """KServe's V2 protocol: the tensors of a request are rows of one call."""

    def parse_input(self, data: List[Dict[str, Any]]) -> Any:
        import numpy

        request = _parsed(_body(data[0]))
        self._id = str(request.get("id") or "").strip() and request["id"]
        for tensor in request["inputs"]:
            if tensor["datatype"] == "BYTES":
                tensor["data"] = tensor["data"][0]
            else:
                array = numpy.array(tensor["data"]).reshape(tuple(tensor["shape"]))
                tensor["data"] = array.tolist()
        self._names = [tensor["name"] for tensor in request["inputs"]]
        return request["inputs"]

    def format_output(self, data: Any) -> Any:
        model = self.context.manifest["model"]
        outputs = [self._output(name, item) for name, item in zip(self._names, data)]
        return [
            {
                "id": self._id or self.context.get_request_id(0),
                "model_name": model.get("modelName"),
                "model_version": model.get("modelVersion"),
                "outputs": outputs,
            }
        ]

    def _output(self, name: str, item: Any) -> Dict[str, Any]:
        import numpy

        array = numpy.array(item).flatten()
        types = {numpy_type: name for name, numpy_type in _NUMPY_TYPES.items()}
        kind = str(array.dtype)
        datatype = types.get(kind) or ("BYTES" if array.dtype.kind in "OU" else kind.upper())
        return {
            "name": name,
            "datatype": datatype,
            "data": array.tolist(),
            "shape": list(array.shape),
        }


ENVELOPES = {
    "body": BodyEnvelope,
    "json": JSONEnvelope,
    "kserve": KServeEnvelope,
    "kservev2": KServev2Envelope,
}
