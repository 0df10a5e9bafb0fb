"""The rows of TorchServe's handlers: a request's body by its content type."""

import json
import re
from typing import Any, Dict, Iterator, Tuple
from urllib.parse import unquote, unquote_to_bytes

Part = Tuple[str, str, Any]

_FORM = "application/x-www-form-urlencoded"
_LINE_END = re.compile(rb"[\r\n]")
_INVALID_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")


class FormError(ValueError):
    """A form that cannot be read; the message is for the client."""


def read_row(
    body: bytearray, content_type: str, decodes: bool
) -> Tuple[Dict[str, Any], Dict[str, Any]]:
    """Return the row of a request, and the headers with the content type of each part.

    JSON and text are values if `decodes` is True. Raises FormError.
    """
    kind = content_type.partition(";")[0].strip()
    if kind.lower() == _FORM:
        parts = _form_fields(body)
    elif kind.lower() == "multipart/form-data" and "boundary=" in content_type:
        parts = _form_parts(body, content_type)
    else:
        parts = iter([("body", kind, body)])
    row, headers = {}, {}
    for name, part_type, data in parts:
        row[name] = _decoded(data, part_type) if decodes else data
        headers[name] = {"content-type": part_type}
    return row, headers


def _decoded(data: bytearray, content_type: str) -> Any:
    try:
        if content_type == "application/json":
            return json.loads(data.decode("utf-8"))
        if content_type.startswith("text"):
            return data.decode("utf-8")
    except (ValueError, RecursionError):
        # The handler gets it as it is.
        pass
    return data


def _form_fields(body: bytearray) -> Iterator[Part]:
    fields = _LINE_END.split(body)[0].split(b"&")
    for index, field in enumerate(fields):
        name, equals, value = field.replace(b"+", b" ").partition(b"=")
        if not equals and index == len(fields) - 1:
            return
        if not name or _INVALID_ESCAPE.search(field):
            raise FormError("the form has the field %r" % field.decode("utf-8", "replace"))
        yield unquote(name.decode("utf-8")), "", bytearray(unquote_to_bytes(bytes(value)))


def _form_parts(body: bytearray, content_type: str) -> Iterator[Part]:
    # It is slow to import, and few requests need it.
    from email.parser import HeaderParser

    parse = HeaderParser().parsestr
    boundary = parse("Content-Type: " + content_type).get_boundary("")
    delimiter = ("\r\n--" + boundary).encode("latin-1")
    for part in (bytearray(b"\r\n") + body).split(delimiter)[1:]:
        if part.startswith(b"--"):
            return
        head, _, data = part.partition(b"\r\n\r\n")
        fields = parse(head.decode("utf-8", "replace").lstrip())
        name = fields.get_param("name", header="content-disposition")
        if not name:
            raise FormError("a part of the body has no name")
        # Only files have a type.
        is_file = fields.get_filename() is not None
        kind = str(fields.get("content-type", "application/octet-stream")) if is_file else ""
        yield str(name), kind.partition(";")[0].strip(), data
