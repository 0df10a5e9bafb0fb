"""The messages of the Open Inference Protocol, built from its .proto file.

Code that protoc generates fits a few releases of protobuf; descriptors that are built at the start
fit those of every Python.
"""

import os
import re
from typing import Any, List

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "inference"
SERVICE = PACKAGE + ".GRPCInferenceService"

_FILE = "open_inference.proto"
_RPC = re.compile(r"rpc (\w+)\((\w+)\) returns \((\w+)\)")
_BLOCK = re.compile(r"(service|message|oneof) (\w+) {")
_FIELD = re.compile(r"(repeated )?(?:map<string, (\w+)>|(\w+)) (\w+) = (\d+);")

_Field = descriptor_pb2.FieldDescriptorProto


class _Parser:
    """A parser of the lines of the file, which it adds to `file`."""

    def __init__(self) -> None:
        self.file = descriptor_pb2.FileDescriptorProto(name=_FILE, package=PACKAGE, syntax="proto3")
        self._blocks: List[Any] = []
        self._messages: List[Any] = []

    def add_line(self, line: str) -> None:
        """Add one line."""
        block, rpc, field = _BLOCK.match(line), _RPC.match(line), _FIELD.match(line)
        if block:
            self._open_block(block.group(1), block.group(2))
        elif rpc:
            names = [".%s.%s" % (PACKAGE, name) for name in rpc.group(2, 3)]
            methods = self.file.service[-1].method
            methods.add(name=rpc.group(1), input_type=names[0], output_type=names[1])
        elif field:
            self._add_field(*field.groups())
        elif line == "}":
            self._close_block()

    def _open_block(self, kind: str, name: str) -> None:
        self._blocks.append(kind)
        if kind == "service":
            self.file.service.add(name=name)
        elif kind == "oneof":
            self._messages[-1].oneof_decl.add(name=name)
        else:
            parent = self._messages[-1].nested_type if self._messages else self.file.message_type
            self._messages.append(parent.add(name=name))

    def _close_block(self) -> None:
        if self._blocks.pop() == "message":
            self._messages.pop()

    def _add_field(self, repeated: str, mapped: str, kind: str, name: str, number: str) -> None:
        message = self._messages[-1]
        field = message.field.add(name=name, number=int(number), label=_Field.LABEL_OPTIONAL)
        if self._blocks[-1] == "oneof":
            field.oneof_index = len(message.oneof_decl) - 1
        if repeated or mapped:
            field.label = _Field.LABEL_REPEATED
        if mapped:
            # As protoc does: a map is a list of entries.
            entry = message.nested_type.add(name=name.title().replace("_", "") + "Entry")
            entry.options.map_entry = True
            key = entry.field.add(name="key", number=1, label=_Field.LABEL_OPTIONAL)
            value = entry.field.add(name="value", number=2, label=_Field.LABEL_OPTIONAL)
            self._set_type(key, "string")
            self._set_type(value, mapped)
            kind = entry.name
        self._set_type(field, kind)

    def _set_type(self, field: Any, kind: str) -> None:
        scalar = getattr(_Field, "TYPE_" + kind.upper(), None)
        if scalar is not None:
            field.type = scalar
            return
        field.type = _Field.TYPE_MESSAGE
        scope = [PACKAGE]
        if any(nested.name == kind for nested in self._messages[-1].nested_type):
            scope += [message.name for message in self._messages]
        field.type_name = "." + ".".join([*scope, kind])


def _parse_file() -> Any:
    parser = _Parser()
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), _FILE)
    with open(path, encoding="utf-8") as file:
        for line in file:
            parser.add_line(line.strip())
    return parser.file


POOL = descriptor_pool.DescriptorPool()
"""The descriptors of the messages and of the service."""

POOL.AddSerializedFile(_parse_file().SerializeToString())
_factory = message_factory.MessageFactory(POOL)


def message_class(name: str) -> Any:
    """Return the class of a message."""
    descriptor = POOL.FindMessageTypeByName("%s.%s" % (PACKAGE, name))
    if hasattr(message_factory, "GetMessageClass"):
        return message_factory.GetMessageClass(descriptor)
    return _factory.GetPrototype(descriptor)


def service_methods() -> Any:
    """Return the descriptors of the methods of the service."""
    return POOL.FindServiceByName(SERVICE).methods
