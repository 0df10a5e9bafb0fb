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
        self, name: str, shape: List[int], datatype: str, data: Any = None, parameters: Any = None
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
        tensor = {"name": self.name, "shape": self.shape, "datatype": self.datatype}
        return dict(_with_values(tensor, parameters=self.parameters or None), data=self.data)


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


class _Message:
    """The parts that requests and responses have in common, for keywords of KServe's classes."""

    def __init__(self, model_name: str, identifier: Any, options: Dict[str, Any]) -> None:
        self.model_name = model_name
        self.id = identifier
        self.model_version = options.get("model_version")
        self.from_grpc = options.get("from_grpc", False)
        self.parameters = options.get("parameters")


class InferRequest(_Message):
    """A request of V2."""

    def __init__(
        self,
        model_name: str,
        infer_inputs: List[InferInput],
        request_id: Any = None,
        **options: Any,
    ) -> None:
        super().__init__(model_name, request_id, options)
        self.inputs = infer_inputs
        self.request_outputs = options.get("request_outputs")
        self.use_binary_outputs = False

    def get_input_by_name(self, name: str) -> Optional[InferInput]:
        """Return the tensor of that name, or None."""
        return next((tensor for tensor in self.inputs if tensor.name == name), None)

    def to_rest(self) -> Tuple[Dict[str, Any], None]:
        """Return the request as an object for JSON."""
        body = {"inputs": [tensor.to_dict() for tensor in self.inputs]}
        outputs = self.request_outputs
        return _with_values(body, id=self.id, parameters=self.parameters, outputs=outputs), None


class InferResponse(_Message):
    """A response of V2."""

    def __init__(
        self, response_id: Any, model_name: str, infer_outputs: List[InferOutput], **options: Any
    ) -> None:
        super().__init__(model_name, response_id, options)
        self.outputs = infer_outputs

    @classmethod
    def from_rest(cls, response: Dict[str, Any]) -> "InferResponse":
        """Return the response of a predictor's JSON."""
        names = ("name", "shape", "datatype", "data", "parameters")
        outputs = [InferOutput(*map(tensor.get, names)) for tensor in response["outputs"]]
        options = {name: response.get(name) for name in ("model_version", "parameters")}
        return cls(response.get("id"), response.get("model_name", ""), outputs, **options)

    def get_output_by_name(self, name: str) -> Optional[InferOutput]:
        """Return the tensor of that name, or None."""
        return next((tensor for tensor in self.outputs if tensor.name == name), None)

    def to_rest(self) -> Tuple[Dict[str, Any], None]:
        """Return the response as an object for JSON."""
        body = {
            "model_name": self.model_name,
            "outputs": [tensor.to_dict() for tensor in self.outputs],
        }
        version = self.model_version
        return _with_values(
            body, id=self.id, model_version=version, parameters=self.parameters
        ), None


def _with_values(body: Dict[str, Any], **values: Any) -> Dict[str, Any]:
    """Return the object with the values that are set."""
    return dict(body, **{key: value for key, value in values.items() if value is not None})
