"""Examinations for clients without a token: pure functions from a request body to an answer.

Some inputs take much CPU time, so `cpu_workers` runs them in separate processes.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import msgspec

from fnbuild.check import reply
from fnbuild.check.problems import Problem
from fnbuild.check.request import Picture
from fnbuild.check.request import Request as Sent
from fnbuild.dashboard import placeholders
from fnbuild.dashboard.answers import diagnostic_object, object_in
from fnbuild.errors import UsageError
from fnbuild.spec import labels, reader
from fnbuild.spec.locate import NAMES, made_of
from fnbuild.spec.types import Raw, to_dict


class Examination(msgspec.Struct, frozen=True):
    """The examination to run on a body. `code` is the folder with the function's code, if any."""

    kind: str
    code: str = ""


def configuration(body: bytes, examination: Examination) -> Raw:
    """Return the diagnostics of the text of a function.yaml, and the function's name."""
    code = Path(examination.code) if examination.code else None
    with made_of(code, "", "") if code else nullcontext():
        function, report = reader.check_text(body, NAMES[0], code=code)
    name = function.metadata.name if function is not None else ""
    diagnostics = [diagnostic_object(diagnostic, NAMES[0]) for diagnostic in report]
    return {"diagnostics": diagnostics, "function": name or None}


def template(body: bytes, _: Examination) -> Raw:
    """Return the function that a template makes with its values."""
    raw = object_in(body)
    text, values = raw.get("template"), raw.get("values") or {}
    if not isinstance(text, str) or not isinstance(values, dict):
        raise UsageError(
            "a template is a text, and its values are an object",
            hint='{"template": "metadata: {name: {{ .name }}}", "values": {"name": "mine"}}',
        )
    function, report = reader.parse(placeholders.filled(text, values), NAMES[0])
    if report.errors:
        raise reader.failure(report, "the template")
    values = to_dict(function)
    return {"metadata": values.get("metadata", {}), "spec": values.get("spec", {})}


def function_reply(body: bytes, _: Examination) -> Raw:
    """Return CVAT's objections to a function's reply, as `fnbuild invoke --image` prints them."""
    raw = object_in(body)
    kind, text = raw.get("kind"), raw.get("reply")
    if kind not in labels.KINDS:
        raise UsageError(
            f"there are no replies of kind {kind!r}", hint=f"one of {', '.join(labels.KINDS)}"
        )
    if not isinstance(text, str):
        raise UsageError("the reply is missing", hint="`reply` is the reply's text")
    size = _count(raw, "width"), _count(raw, "height")
    spec = raw.get("spec", "")
    counts, follows = _counts(raw.get("counts", [])), bool(raw.get("follows"))
    sent = Sent(kind, b"", Picture(b"", "", size), counts=counts, follows=follows)
    own_labels = labels.parse(spec) if isinstance(spec, str) else []
    problems = reply.read(kind, text, own_labels, size, sent).problems
    return {"findings": [_object(problem) for problem in problems]}


def _count(raw: Raw, key: str) -> int:
    value = raw.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UsageError(f"`{key}` is the picture's {key} in pixels, not {value!r}")
    return value


def _counts(values: Any) -> tuple[int, ...]:
    whole = isinstance(values, list) and all(type(each) is int and each >= 0 for each in values)
    if not whole:
        raise UsageError(
            "`counts` says how many shapes or boxes were sent: a list of whole numbers"
        )
    return tuple(values)


def _object(problem: Problem) -> Raw:
    return {
        "severity": problem.severity,
        "path": problem.path,
        "message": problem.message,
        "hint": problem.hint or "",
    }


EXAMINATIONS: dict[str, Callable[[bytes, Examination], Raw]] = {
    "configuration": configuration,
    "template": template,
    "function_reply": function_reply,
}


def examined(examination: Examination, body: bytes) -> bytes:
    """Run an examination and return its answer as JSON."""
    return msgspec.json.encode(EXAMINATIONS[examination.kind](body, examination))
