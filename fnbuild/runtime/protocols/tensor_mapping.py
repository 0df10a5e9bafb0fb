"""Map the tensors of a V2 request to instances, and replies of the handler to tensors.

Without declared inputs, a tensor with images is the instance's `image`: type BYTES (an image file,
or base64), UINT8 of rank 1 (an image file), and UINT8 of the shape H x W x 3 or N x H x W x 3 (RGB
pixels, which become PPM files). Of other tensors, instances get a row at the tensor's name. The
parameters of a request are in each instance, as `parameters`.
"""

import base64
import json
from typing import Any, Dict, List, Sequence, Tuple

from .errors import ProtocolError
from .instances import Instance, check_count
from .mapping import PREDICTIONS, FieldPath, Model, TensorField, get_field, set_field
from .tensors import BYTES, Tensor, element_count, join_rows, tensor_from_value, text_or_bytes
from .v2 import InferRequest

_PIXEL_CHANNELS = 3


class ReplyMappingError(ValueError):
    """The handler's reply does not have the declared outputs; the message names the output."""


def split_request(request: InferRequest, model: Model, limit: int) -> List[List[Tensor]]:
    """Return the tensors of each instance, of which there are at most `limit`.

    A single number applies to all instances. Raises ProtocolError.
    """
    fields = {field.name: field for field in model.inputs}
    counts = [_instance_count(tensor, fields) for tensor in request.tensors]
    total = next((count for count in counts if count != 1), 1)
    for tensor, count in zip(request.tensors, counts):  # noqa: B905 - no strict in 3.6
        # Larger data is not repeated: a small request could become very large.
        if count != total and not _is_number(tensor):
            message = 'the input "%s" has %d rows, and another input has %d'
            raise ProtocolError(message % (tensor.name, count, total))
    if total == 0:
        raise ProtocolError("the request has no instances: an input has no rows")
    if total == 1:
        return [request.tensors]
    check_count(total, limit)
    pairs = list(zip(request.tensors, counts))  # noqa: B905
    return [
        [tensor if count == 1 else tensor.row(index) for tensor, count in pairs]
        for index in range(total)
    ]


def _instance_count(tensor: Tensor, fields: Dict[str, TensorField]) -> int:
    if _is_image_file(tensor) or _is_pixels(tensor, 3):
        return 1
    field = fields.get(tensor.name)
    return tensor.row_count if field is None or field.batched else 1


def _is_number(tensor: Tensor) -> bool:
    return tensor.datatype != BYTES and element_count(tensor.shape) == 1


def _is_image_file(tensor: Tensor) -> bool:
    return tensor.datatype == "UINT8" and len(tensor.shape) == 1


def _is_pixels(tensor: Tensor, *ranks: int) -> bool:
    """Return True for a tensor of RGB pixels of one of these ranks."""
    shape = tensor.shape
    return tensor.datatype == "UINT8" and len(shape) in ranks and shape[-1] == _PIXEL_CHANNELS


def read_instance(tensors: Sequence[Tensor], parameters: Dict[str, Any], model: Model) -> Instance:
    """Return the instance of tensors with one instance."""
    fields = {field.name: field for field in model.inputs}
    images = [tensor.name for tensor in tensors if _may_be_image(tensor)]
    instance = Instance({"parameters": dict(parameters)} if parameters else {})
    for tensor in tensors:
        field = fields.get(tensor.name)
        path: FieldPath = (tensor.name,)
        if field is not None:
            path = field.field
        elif images == [tensor.name]:
            path = ("image",)
        value = _event_value(tensor, field is None or field.batched)
        if isinstance(value, bytes) and len(path) == 1:
            instance.files[str(path[0])] = value
            continue
        set_field(instance.values, path, _as_text(value))
        if path == ("image",) and isinstance(value, str):
            instance.mark_encoded("image")
    return instance


def read_whole_request(request: InferRequest) -> Instance:
    """Return the request as one instance: its JSON, with all data as arrays or lists."""
    inputs = [
        dict(item, data=tensor.to_handler())
        for item, tensor in zip(request.json["inputs"], request.tensors)  # noqa: B905
    ]
    return Instance(dict(request.json, inputs=inputs))


def _may_be_image(tensor: Tensor) -> bool:
    return tensor.datatype == BYTES or _is_image_file(tensor) or _is_pixels(tensor, 3, 4)


def _event_value(tensor: Tensor, batched: bool) -> Any:
    """Return the value of an instance; bytes are a file."""
    if isinstance(tensor.data, list):
        values = [text_or_bytes(item) for item in tensor.data]
        return values[0] if len(values) == 1 else [_as_text(value) for value in values]
    if _is_image_file(tensor):
        return bytes(tensor.data)
    if _is_pixels(tensor, 3, 4):
        height, width = tensor.shape[-3:-1]
        return b"P6\n%d %d\n255\n" % (width, height) + tensor.data
    if batched:
        tensor = tensor._replace(shape=tensor.shape[1:])
    return tensor.to_handler()


def _as_text(value: Any) -> Any:
    return base64.b64encode(value).decode("ascii") if isinstance(value, bytes) else value


def predictions_tensor(replies: Sequence[bytes]) -> Tensor:
    """Return the output of a model without declared outputs: the JSON of each reply."""
    return Tensor(PREDICTIONS.name, BYTES, (len(replies),), list(replies))


def output_tensors(payload: Any, model: Model) -> List[Tensor]:
    """Return the declared outputs of a reply, with one row for an instance.

    Raises ReplyMappingError.
    """
    add_row = not model.takes_requests
    return [_output_tensor(payload, field, add_row) for field in model.outputs]


def _output_tensor(payload: Any, field: TensorField, add_row: bool) -> Tensor:
    try:
        value = get_field(payload, field.field)
        if field.datatype == BYTES:
            depth = len(field.shape) - (add_row and field.batched)
            value = _text_elements(value, depth)
        tensor = tensor_from_value(field.name, field.datatype, value)
    except (LookupError, TypeError, ValueError) as problem:
        reason = "%s: %s" % (type(problem).__name__, problem)
        raise ReplyMappingError(
            'the reply has no value for the output "%s" (%s): %s'
            % (field.name, field.datatype, reason)
        ) from None
    if add_row and field.batched:
        return tensor._replace(shape=(1, *tensor.shape))
    return tensor


def _text_elements(value: Any, depth: int) -> Any:
    """Return nested lists of that depth whose elements are text or bytes; others become JSON."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if depth > 0 and isinstance(value, (list, tuple)):
        return [_text_elements(item, depth - 1) for item in value]
    return value if isinstance(value, (str, bytes)) else json.dumps(value)


def join_outputs(rows: Sequence[Sequence[Tensor]], model: Model) -> List[Tensor]:
    """Return the outputs of several instances. Raises ReplyMappingError."""
    outputs: List[Tensor] = []
    for index, field in enumerate(model.outputs):
        if not field.batched:
            message = 'the output "%s" has no dimension for instances: its shape begins with -1'
            raise ReplyMappingError(message % field.name)
        try:
            outputs.append(join_rows([row[index] for row in rows]))
        except ValueError as problem:
            message = 'the output "%s" has a different shape for each instance: %s'
            raise ReplyMappingError(message % (field.name, problem)) from None
    return outputs


def tensors_of_response(value: Dict[str, Any]) -> List[Tensor]:
    """Return the tensors of a reply that is a V2 response itself. Raises ReplyMappingError."""
    tensors: List[Tensor] = []
    for index, item in enumerate(value["outputs"]):
        try:
            shape: Tuple[int, ...] = tuple(int(size) for size in item["shape"])
            datatype = item["datatype"]
            data = _text_elements(item["data"], len(shape)) if datatype == BYTES else item["data"]
            tensor = tensor_from_value(item["name"], datatype, data)
            if element_count(tensor.shape) != element_count(shape):
                raise ValueError("its data has the shape %s" % list(tensor.shape))
        except (LookupError, TypeError, ValueError) as problem:
            message = "outputs[%d] of the reply is not a tensor: %s: %s"
            raise ReplyMappingError(message % (index, type(problem).__name__, problem)) from None
        tensors.append(tensor._replace(shape=shape))
    return tensors
