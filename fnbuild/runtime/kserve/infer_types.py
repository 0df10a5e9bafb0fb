"""Requests and responses of V2 as KServe's models see them; arrays need NumPy."""

from typing import Any, Dict, List, Optional, Tuple

# The names of NumPy's types.
_NUMPY_TYPES = {
    "BOOL": "bool", "INT8": "int8", "INT16": "int16", "INT32": "int32", "INT64": "int64",
    "UINT8": "uint8", "UINT16": "uint16", "UINT32": "uint32", "UINT64": "uint64",
    "FP16": "float16", "FP32": "float32", "FP64": "float64", "BYTES": "object",
}  # fmt: skip
_DATATYPES = {numpy_type: datatype for datatype, numpy_type in _NUMPY_TYPES.items()}


class InvalidInput(ValueError):
    """The request is invalid; the reply has status 400."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class InferenceError(RuntimeError):
    """The model failed; the reply has status 500 with the reason."""

    def __init__(self, reason: str, status: Any = None, debug_details: Any = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        self.debug_details = debug_details


def numpy_datatype(dtype: Any) -> str:
    """Return the datatype of a NumPy type; texts are BYTES."""
    return "BYTES" if dtype.kind in "OSU" else _DATATYPES.get(dtype.name, "")


class _Tensor:
    def __init__(
        self,
        name: str,
        shape: List[int],
        datatype: str,
        data: Any = None,
        parameters: Optional[Dict[str, Any]] = None,
    ) -> None:
        self.name = name
        self.shape = shape
        self.datatype = datatype.upper()
        self.data = data
        self.parameters = parameters

    def as_numpy(self) -> Any:
        """Return the data as an array of the tensor's shape."""
        import numpy

        if self.datatype not in _NUMPY_TYPES:
            raise InvalidInput("invalid datatype %s in the input" % self.datatype)
        array = numpy.array(self.data, dtype=_NUMPY_TYPES[self.datatype])
        try:
            return array.reshape(self.shape)
        except ValueError as problem:
            raise InvalidInput("tensor %s: %s" % (self.name, problem)) from None

    def set_data_from_numpy(self, tensor: Any, binary_data: bool = True) -> None:
        """Set the data to the elements of an array of the same type and shape."""
        datatype = numpy_datatype(tensor.dtype)
        if datatype != self.datatype or list(tensor.shape) != list(self.shape):
            raise InferenceError(
                "tensor %s is %s %s, and the array %s %s"
                % (self.name, self.datatype, self.shape, datatype, list(tensor.shape))
            )
        self.data = tensor.reshape(-1).tolist()

    def to_dict(self) -> Dict[str, Any]:
        """Return the tensor as in JSON."""
        tensor: Dict[str, Any] = {
            "name": self.name,
            "shape": self.shape,
            "datatype": self.datatype,
            "data": self.data,
        }
        if self.parameters:
            tensor["parameters"] = self.parameters
        return tensor


class InferInput(_Tensor):
    """A tensor of a request."""

    def as_string(self) -> List[str]:
        """Return the elements of a BYTES tensor as texts."""
        if self.datatype != "BYTES":
            raise InvalidInput("invalid datatype %s in the input" % self.datatype)
        elements = self.as_numpy().reshape(-1).tolist()
        return [item.decode("utf-8") if isinstance(item, bytes) else item for item in elements]


class InferOutput(_Tensor):
    """A tensor of a response."""


class InferRequest:
    """A request of V2."""

    def __init__(  # noqa: PLR0913, PLR0917 - the signature of KServe's class
        self,
        model_name: str,
        infer_inputs: List[InferInput],
        request_id: Optional[str] = None,
        raw_inputs: Any = None,
        from_grpc: bool = False,
        parameters: Optional[Dict[str, Any]] = None,
        request_outputs: Any = None,
        model_version: Optional[str] = None,
    ) -> None:
        self.model_name = model_name
        self.inputs = infer_inputs
        self.id = request_id
        self.from_grpc = from_grpc
        self.parameters = parameters
        self.request_outputs = request_outputs
        self.model_version = model_version
        self.use_binary_outputs = False

    def get_input_by_name(self, name: str) -> Optional[InferInput]:
        """Return the tensor of that name, or None."""
        return next((tensor for tensor in self.inputs if tensor.name == name), None)

    def to_rest(self) -> Tuple[Dict[str, Any], None]:
        """Return the request as an object for JSON."""
        body: Dict[str, Any] = {"inputs": [tensor.to_dict() for tensor in self.inputs]}
        _add_given(body, id=self.id, parameters=self.parameters, outputs=self.request_outputs)
        return body, None


class InferResponse:
    """A response of V2."""

    def __init__(  # noqa: PLR0913, PLR0917 - the signature of KServe's class
        self,
        response_id: Optional[str],
        model_name: str,
        infer_outputs: List[InferOutput],
        model_version: Optional[str] = None,
        raw_outputs: Any = None,
        from_grpc: bool = False,
        parameters: Optional[Dict[str, Any]] = None,
        use_binary_outputs: bool = False,
        requested_outputs: Any = None,
    ) -> None:
        self.id = response_id
        self.model_name = model_name
        self.outputs = infer_outputs
        self.model_version = model_version
        self.from_grpc = from_grpc
        self.parameters = parameters

    @classmethod
    def from_rest(cls, response: Dict[str, Any]) -> "InferResponse":
        """Return the response of a predictor's JSON."""
        outputs = [
            InferOutput(
                tensor["name"],
                tensor["shape"],
                tensor["datatype"],
                tensor.get("data"),
                tensor.get("parameters"),
            )
            for tensor in response["outputs"]
        ]
        return cls(
            response.get("id"),
            response.get("model_name", ""),
            outputs,
            response.get("model_version"),
            parameters=response.get("parameters"),
        )

    def get_output_by_name(self, name: str) -> Optional[InferOutput]:
        """Return the tensor of that name, or None."""
        return next((tensor for tensor in self.outputs if tensor.name == name), None)

    def to_rest(self) -> Tuple[Dict[str, Any], None]:
        """Return the response as an object for JSON."""
        body: Dict[str, Any] = {"model_name": self.model_name}
        _add_given(body, id=self.id, model_version=self.model_version, parameters=self.parameters)
        body["outputs"] = [tensor.to_dict() for tensor in self.outputs]
        return body, None


def _add_given(body: Dict[str, Any], **values: Any) -> None:
    body.update({key: value for key, value in values.items() if value is not None})
