"""The model that a function is in the inference protocols, from attributes of its http trigger.

    {"protocols": ["v1", "v2", "grpc", "torchserve"],
     "model": "face",                 the name in URLs; by default the function's
     "version": "1.0",                the version in URLs; by default the revision's number
     "event": "instance" | "request", an event for each instance, or one with the whole request
     "inputs": [{"name": "input-0", "datatype": "FP32", "shape": [-1, 4], "field": "features"}],
     "outputs": [{"name": "scores", "datatype": "FP32", "shape": [-1, 10], "field": "[].score"}]}

`field` is a path in the body of the event or of the reply: keys, `[0]` for an item of a list, `[]`
for all its items, and `.` for the whole. By default it is the tensor's name. A first dimension of
-1 counts instances.
"""

import re
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

from .tensors import BYTES, DATATYPES, MAX_RANK

PROTOCOLS = ("v1", "v2", "grpc", "torchserve")
EVENTS = ("instance", "request")
ATTRIBUTES = ("protocols", "model", "version", "event", "inputs", "outputs")

_MODEL_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?\Z")
# A part of a path.
_VERSION = re.compile(r"[^/\x00-\x1f\x7f]+\Z")
_TENSOR_KEYS = ("name", "datatype", "shape", "field")
_FIELD = re.compile(r"(?:[^.\[\]]+|\[[0-9]*\])(?:\.[^.\[\]]+|\[[0-9]*\])*\Z")
_STEP = re.compile(r"[^.\[\]]+|\[[0-9]*\]")
# The step of a path to all items of a list.
_EACH = -1

Attributes = Dict[str, Any]
FieldPath = Tuple[Union[str, int], ...]


class MappingProblem(NamedTuple):
    """An invalid value: its path in the attributes, the reason, and the remedy."""

    path: FieldPath
    message: str
    hint: Optional[str] = None


class TensorField(NamedTuple):
    """A tensor of the model, and its place in the body of an event or a reply."""

    name: str
    datatype: str
    shape: Tuple[int, ...]
    field: FieldPath

    @property
    def batched(self) -> bool:
        """True if the first dimension counts instances."""
        return self.shape[:1] == (-1,)

    def metadata(self) -> Dict[str, Any]:
        """Return the entry in the model's metadata."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}


PREDICTIONS = TensorField("predictions", BYTES, (-1,), ())
IMAGE = TensorField("image", BYTES, (-1,), ("image",))


class Model(NamedTuple):
    """A model: its name, its version or serving revision, and the mapping of its tensors."""

    name: str
    version: str
    protocols: Tuple[str, ...]
    takes_requests: bool
    inputs: Tuple[TensorField, ...]
    outputs: Tuple[TensorField, ...]

    def metadata(self, declared_tensors: Dict[str, Any]) -> Dict[str, Any]:
        """Return the model's metadata in V2.

        `declared_tensors` are those of a model of KServe, which the attributes replace.
        """
        inputs, outputs = self.inputs, self.outputs
        if not (self.takes_requests or declared_tensors):
            inputs, outputs = inputs or (IMAGE,), outputs or (PREDICTIONS,)
        return {
            "name": self.name,
            "versions": [self.version] if self.version else [],
            "platform": "python",
            "inputs": _tensor_entries(inputs) or declared_tensors.get("inputs", []),
            "outputs": _tensor_entries(outputs) or declared_tensors.get("outputs", []),
        }


def read_model(attributes: Attributes, function: Dict[str, Any]) -> Optional[Model]:
    """Return the model; None if the trigger serves no protocol. Raises ValueError.

    Names of attributes are in lower case. `function` has the name and the revision.
    """
    problems = mapping_problems(attributes)
    if problems:
        path, message, _ = problems[0]
        place = "".join("[%d]" % key if isinstance(key, int) else ".%s" % key for key in path)
        raise ValueError("attributes%s: %s" % (place, message))
    if not attributes.get("protocols"):
        return None
    revision = function.get("revision")
    return Model(
        attributes.get("model") or str(function.get("name", "")),
        attributes.get("version") or (str(revision) if revision else ""),
        tuple(attributes["protocols"]),
        attributes.get("event") == "request",
        _tensor_fields(attributes.get("inputs")),
        _tensor_fields(attributes.get("outputs")),
    )


def _tensor_entries(tensors: Sequence[TensorField]) -> List[Dict[str, Any]]:
    return [tensor.metadata() for tensor in tensors]


def _tensor_fields(items: Optional[List[Dict[str, Any]]]) -> Tuple[TensorField, ...]:
    return tuple(
        TensorField(
            item["name"],
            item["datatype"],
            tuple(item.get("shape", (-1,))),
            _parse_field(item["field"]) if "field" in item else (item["name"],),
        )
        for item in items or ()
    )


def mapping_problems(attributes: Attributes) -> List[MappingProblem]:
    """Return everything that is invalid in these attributes; the rest is not inspected."""
    problems = _protocol_problems(attributes.get("protocols"))
    model, event = attributes.get("model"), attributes.get("event")
    if model is not None and not (isinstance(model, str) and _MODEL_NAME.match(model)):
        message = "%r is not a model's name: letters, digits, '-', '_' and '.'" % (model,)
        problems.append(MappingProblem(("model",), message))
    version = attributes.get("version")
    if version is not None and not (isinstance(version, str) and _VERSION.match(version)):
        message = "%r is not a version: a text without '/'" % (version,)
        problems.append(MappingProblem(("version",), message, 'as in `version: "1.0"`'))
    if event not in (None, *EVENTS):
        message = "%r is not %s" % (event, " or ".join(EVENTS))
        hint = "`instance` is one event for each instance, `request` one for the whole request"
        problems.append(MappingProblem(("event",), message, hint))
    for key in ("inputs", "outputs"):
        value = attributes.get(key)
        if isinstance(value, list):
            names = [item.get("name") for item in value if isinstance(item, dict)]
            for index, item in enumerate(value):
                problems += _tensor_problems(key, index, item, names[:index])
        elif value is not None:
            message = "%s is a list of tensors with name, datatype, shape and field" % key
            problems.append(MappingProblem((key,), message))
    return problems


def _protocol_problems(value: Any) -> List[MappingProblem]:
    if value is None:
        return []
    if not isinstance(value, list):
        message = "protocols is a list of %s, not %r" % (", ".join(PROTOCOLS), value)
        return [MappingProblem(("protocols",), message, "as in `protocols: [v1, v2]`")]
    return [
        MappingProblem(
            ("protocols", index),
            "%r is not one of the protocols %s" % (item, ", ".join(PROTOCOLS)),
        )
        for index, item in enumerate(value)
        if item not in PROTOCOLS
    ]


def _tensor_problems(
    key: str, index: int, item: Any, earlier: Sequence[Any]
) -> List[MappingProblem]:
    path: FieldPath = (key, index)
    if not isinstance(item, dict):
        return [MappingProblem(path, "a tensor has a name, a datatype, a shape and a field")]
    problems = []

    def add(name: str, message: str, hint: Optional[str] = None) -> None:
        problems.append(MappingProblem((*path, name) if name in item else path, message, hint))

    for unknown in [name for name in item if name not in _TENSOR_KEYS]:
        add(unknown, "a tensor has no key %r" % unknown, "its keys are " + ", ".join(_TENSOR_KEYS))
    name, datatype = item.get("name"), item.get("datatype")
    if not isinstance(name, str) or not name:
        add("name", "the tensor has no name")
    elif name in earlier:
        add("name", "%r is the name of another tensor" % name)
    if datatype not in DATATYPES:
        hint = "the datatypes are " + ", ".join(DATATYPES)
        missing = "the tensor has no datatype"
        add("datatype", missing if datatype is None else "%r is not a datatype" % (datatype,), hint)
    if not _is_shape(item.get("shape", [-1])):
        hint = "as in `shape: [-1, 224, 224, 3]`; -1 is any size"
        add("shape", "%r is not a shape" % (item["shape"],), hint)
    field = item.get("field", "image")
    if not isinstance(field, str) or not _is_field(field, key):
        hint = "as in `scores`, `result.scores` or `[].score`; `.` is the whole reply"
        if key == "inputs":
            hint = "as in `image` or `options.threshold`"
        add("field", "%r is not a path in the body" % (field,), hint)
    return problems


def _is_shape(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= MAX_RANK
        and all(isinstance(size, int) and size is not True and size >= -1 for size in value)
    )


def _is_field(text: str, key: str) -> bool:
    if key == "inputs":
        return bool(_FIELD.match(text)) and "[" not in text
    return text == "." or bool(_FIELD.match(text))


def _parse_field(text: str) -> FieldPath:
    steps = [] if text == "." else _STEP.findall(text)
    return tuple(
        step if step[0] != "[" else int(step[1:-1]) if step != "[]" else _EACH for step in steps
    )


def get_field(body: Any, path: FieldPath) -> Any:
    """Return the value at a path of a reply's body. Raises LookupError or TypeError without it."""
    for index, step in enumerate(path):
        if step == _EACH:
            if not isinstance(body, (list, tuple)):
                raise TypeError("it is not a list")
            return [get_field(item, path[index + 1 :]) for item in body]
        body = body[step]
    return body


def set_field(body: Dict[str, Any], path: FieldPath, value: Any) -> None:
    """Set the value at a path of keys in an event's body."""
    for step in path[:-1]:
        body = body.setdefault(str(step), {})
    body[str(path[-1])] = value
