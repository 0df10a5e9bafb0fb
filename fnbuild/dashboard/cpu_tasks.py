"""CPU-bound tasks for clients without a token: pure functions, and the process that runs them.

`cpu_pool` starts the processes. A process reads tasks from stdin, one at a time. Frames in both
directions begin with two numbers. In a request they are the lengths of the `CpuTask` as JSON and of
the body, which follow. In a response they are the HTTP status and the length of the body.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import struct
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from fnbuild.cvat import replies
from fnbuild.cvat.check.exchanges import check_exchange
from fnbuild.cvat.check.findings import FindingCollector
from fnbuild.cvat.check.probe import Subject, TargetReply
from fnbuild.cvat.reply_report import ReplyDiagnostic
from fnbuild.cvat.request import CvatRequest, EncodedImage
from fnbuild.dashboard import http
from fnbuild.dashboard.http import decode_object, diagnostic_object
from fnbuild.errors import InputError, UsageError
from fnbuild.function import labels, reader
from fnbuild.function.files import CONFIG_NAMES, displayed_as
from fnbuild.function.source_text import MAX_BYTES
from fnbuild.function.types import Function, Raw, to_dict

# The text between the braces is stripped by code, because a pattern for that would backtrack.
_PLACEHOLDER = re.compile(r"\{\{([^{}\n]*)\}\}")
_VALUE_NAME = re.compile(r"\.([A-Za-z_][A-Za-z0-9_]*)\Z")


def fill_placeholders(template: str, values: dict[str, Any]) -> str:
    """Fill placeholders such as `{{ .name }}` in the text of a template.

    Raises `InputError` if the result is larger than a function.yaml may be.
    """
    size = 0

    def counted(text: str) -> str:
        nonlocal size
        size += len(text)
        if size > MAX_BYTES:
            raise InputError(
                f"the template makes a function.yaml of more than {MAX_BYTES >> 20} MiB",
                hint="keep large texts in files beside function.yaml",
            )
        return text

    counted(template)
    return _PLACEHOLDER.sub(
        lambda place: counted(_placeholder_value(place[1].strip("- \t"), values)), template
    )


def _placeholder_value(expression: str, values: dict[str, Any]) -> str:
    match = _VALUE_NAME.match(expression)
    if match is None:
        raise InputError(
            f"{{{{ {expression[:80]} }}}} is more than the name of a value",
            hint="{{ .name }} is filled in; nothing else of Go's templates is",
        )
    name = match[1]
    if name not in values:
        raise InputError(f"there is no value of the name {name!r}", hint="values holds them")
    value = values[name]
    return value if isinstance(value, str) else json.dumps(value)


class CpuTask(msgspec.Struct, frozen=True):
    """A task for a request body. `code_folder` has the function's code, if any."""

    kind: str
    code_folder: str = ""


def diagnose_configuration(body: bytes, task: CpuTask) -> Raw:
    """Return the diagnostics of the text of a function.yaml, and the function's name."""
    code = Path(task.code_folder) if task.code_folder else None
    with displayed_as(code, "", "") if code else nullcontext():
        function, report = reader.check_text(body, CONFIG_NAMES[0], code=code)
    name = function.metadata.name if function is not None else ""
    diagnostics = [diagnostic_object(diagnostic, CONFIG_NAMES[0]) for diagnostic in report]
    return {"diagnostics": diagnostics, "function": name or None}


def fill_template(body: bytes, _: CpuTask) -> Raw:
    """Return the function that a template makes with its values."""
    raw = decode_object(body)
    text, values = raw.get("template"), raw.get("values") or {}
    if not isinstance(text, str) or not isinstance(values, dict):
        raise UsageError(
            "a template is a text, and its values are an object",
            hint='{"template": "metadata: {name: {{ .name }}}", "values": {"name": "mine"}}',
        )
    function, report = reader.function_from_text(fill_placeholders(text, values), CONFIG_NAMES[0])
    if report.errors:
        raise reader.config_error(report, "the template")
    values = to_dict(function)
    return {"metadata": values.get("metadata", {}), "spec": values.get("spec", {})}


def diagnose_reply(body: bytes, _: CpuTask) -> Raw:
    """Return CVAT's objections to a function's reply, as `fnbuild invoke --image` prints them."""
    raw = decode_object(body)
    kind, text = raw.get("kind"), raw.get("reply")
    if kind not in labels.FUNCTION_KINDS:
        raise UsageError(
            f"there are no replies of kind {kind!r}",
            hint=f"one of {', '.join(labels.FUNCTION_KINDS)}",
        )
    if not isinstance(text, str):
        raise UsageError("the reply is missing", hint="`reply` is the reply's text")
    size = _positive_integer(raw, "width"), _positive_integer(raw, "height")
    spec = raw.get("spec", "")
    counts = _parse_counts(raw.get("counts", []))
    image, continues_track = EncodedImage(b"", "", size), bool(raw.get("follows"))
    sent = CvatRequest(kind, b"", image, counts=counts, continues_track=continues_track)
    own_labels = labels.parse_labels(spec) if isinstance(spec, str) else []
    diagnostics = replies.read_reply(kind, text, own_labels, size, sent).diagnostics
    return {"findings": [_finding_object(diagnostic) for diagnostic in diagnostics]}


def _positive_integer(raw: Raw, key: str) -> int:
    value = raw.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UsageError(f"`{key}` is the picture's {key} in pixels, not {value!r}")
    return value


def _parse_counts(values: Any) -> tuple[int, ...]:
    is_valid = isinstance(values, list) and all(
        type(value) is int and value >= 0 for value in values
    )
    if not is_valid:
        raise UsageError(
            "`counts` is not a list of whole numbers", hint="the shapes or boxes of each request"
        )
    return tuple(values)


def _finding_object(diagnostic: ReplyDiagnostic) -> Raw:
    return {
        "severity": diagnostic.severity,
        "rule": diagnostic.rule,
        "path": diagnostic.path,
        "message": diagnostic.message,
        "hint": diagnostic.hint or "",
    }


_EXCHANGE_HEAD = struct.Struct("!III")


def pack_exchange(function: Function, request: bytes, reply: TargetReply) -> bytes:
    """Return the body of the task `exchange`: status, lengths, annotations, request and reply."""
    settings = json.dumps(function.metadata.annotations).encode()
    head = _EXCHANGE_HEAD.pack(reply.status, len(settings), len(request))
    return head + settings + request + reply.body


def check_packed_exchange(body: bytes, _: CpuTask) -> Raw:
    """Check a function's reply to a request of CVAT; other requests are not checked."""
    status, settings_size, request_size = _EXCHANGE_HEAD.unpack_from(body)
    request_start = _EXCHANGE_HEAD.size + settings_size
    reply_start = request_start + request_size
    settings = json.loads(body[_EXCHANGE_HEAD.size : request_start])
    function = Function().with_metadata(annotations=settings)
    kind = labels.function_kind(function) or ""
    request, reply = body[request_start:reply_start], TargetReply(status, body[reply_start:])
    collector = FindingCollector()
    is_checked = check_exchange(Subject(function, kind), request, reply, collector, "")
    names = ("rule", "severity", "path", "message", "effect", "remedy")
    findings = [{name: getattr(finding, name) for name in names} for finding in collector.findings]
    return {"checked": is_checked, "findings": findings}


TASKS: dict[str, Callable[[bytes, CpuTask], Raw]] = {
    "configuration": diagnose_configuration,
    "template": fill_template,
    "function_reply": diagnose_reply,
    "exchange": check_packed_exchange,
}


def run_task(task: CpuTask, body: bytes) -> bytes:
    """Run a task and return its result as JSON."""
    return msgspec.json.encode(TASKS[task.kind](body, task))


FRAME_HEAD = struct.Struct("!II")
_MEMORY_BYTES = 4 << 30
_NICENESS = 5


def main() -> None:
    """Run tasks until stdin ends, which it does with the dashboard."""
    # Invocations that the dashboard relays have priority.
    os.nice(_NICENESS)
    with contextlib.suppress(ValueError, OSError):  # a lower limit is set already
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    requests, responses = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # output of libraries must not mix with responses
    while head := requests.read(FRAME_HEAD.size):
        task_length, body_length = FRAME_HEAD.unpack(head)
        task = msgspec.json.decode(requests.read(task_length), type=CpuTask)
        _write_response(responses, *_task_response(task, requests.read(body_length)))


def _task_response(task: CpuTask, body: bytes) -> tuple[int, bytes]:
    try:
        return 200, run_task(task, body)
    except Exception as error:  # noqa: BLE001 - the edge of a process
        response = http.error_response(error)
        return response.status_code, bytes(response.body)


def _write_response(responses: BinaryIO, status: int, body: bytes) -> None:
    responses.write(FRAME_HEAD.pack(status, len(body)) + body)
    responses.flush()


if __name__ == "__main__":
    main()
