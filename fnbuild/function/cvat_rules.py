"""Rules on the annotations that CVAT reads.

An error hides the function, or all functions, in CVAT's list. A warning is a value that CVAT
interprets differently than intended. CVAT ignores a function without the annotation `type`: only
`check_type` and `check_label_spec` apply to it.
"""

from __future__ import annotations

import json

from fnbuild.function.label_rules import check_cvat_labels
from fnbuild.function.labels import (
    FLAG_ANNOTATIONS,
    FUNCTION_KINDS,
    INTEGER_ANNOTATIONS,
    LABEL_TYPES,
)
from fnbuild.function.quantities import parse_duration
from fnbuild.function.rule_context import RuleContext
from fnbuild.function.source_text import SourceText, quoted
from fnbuild.function.suggestions import closest, did_you_mean
from fnbuild.function.yaml_nodes import EmbeddedText, YamlNode
from fnbuild.names import PROJECT_LABEL

CVAT_TIMEOUT = 120.0
"""The timeout of CVAT's calls, in seconds."""

NUCLIO_MAX_REQUEST_SIZE = 4 << 20
"""Nuclio's default limit of a request, in bytes."""

# The limits in the templates: a tracker's requests include its states, and re-identification sends
# two pictures in one request.
_REQUEST_SIZES = {
    "detector": 32 << 20, "interactor": 32 << 20, "reid": 64 << 20, "tracker": 256 << 20,
}  # fmt: skip
_PATH = ("metadata", "annotations")
_ANNOTATIONS = (
    "name", "type", "spec", "framework", "help_message", "animated_gif", "supported_shape_types",
    "supports_text_prompt", *INTEGER_ANNOTATIONS, *FLAG_ANNOTATIONS,
)  # fmt: skip


def check_type(context: RuleContext) -> None:
    """Check that the annotation `type` is one of CVAT's four."""
    metadata = context.function.metadata
    kind = metadata.annotations.get("type")
    if kind is None:
        labels = _is_label_list(metadata.annotations.get("spec", ""))
        if labels or metadata.labels.get(PROJECT_LABEL) == "cvat":
            message = "CVAT does not show a function without the annotation `type`"
            others = ", ".join(FUNCTION_KINDS[1:])
            hint = f"add `type: detector` (or {others}) under metadata.annotations"
            context.warning("cvat-type", message, _PATH, hint, "key")
        return
    if kind not in FUNCTION_KINDS:
        message = (
            f"CVAT hides a function of type {quoted(kind)}; it knows {', '.join(FUNCTION_KINDS)}"
        )
        context.error("cvat-type", message, (*_PATH, "type"), did_you_mean(kind, FUNCTION_KINDS))


def _is_label_list(text: str) -> bool:
    """Return True if a text is a label spec, which only CVAT reads."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return False
    if not isinstance(value, list):
        return False
    return any(isinstance(label, dict) and "name" in label for label in value)


def check_annotation_keys(context: RuleContext) -> None:
    """Warn about keys that are likely misspelt annotations of CVAT."""
    annotations = context.function.metadata.annotations
    for key in annotations:
        if key in _ANNOTATIONS or "/" in key:
            continue
        word = closest(key, _ANNOTATIONS)
        if word and word not in annotations and len(key) > 3:
            message = f"CVAT does not read the annotation {quoted(key)}"
            path = (*_PATH, key)
            context.warning("cvat-annotation", message, path, f"did you mean {word}?", "key")


def check_annotation_numbers(context: RuleContext) -> None:
    """Check that numbers are whole, as an invalid one breaks CVAT's whole list.

    Also warn about a version of an interactor that makes CVAT warn its users.
    """
    annotations = context.function.metadata.annotations
    for key in INTEGER_ANNOTATIONS:
        text = annotations.get(key)
        if text is None:
            continue
        try:
            number = int(text)
        except ValueError:
            message = f"{key} is a whole number, not {quoted(text)}; CVAT lists no function at all"
            context.error("cvat-number", message, (*_PATH, key))
            continue
        if key == "version" and number < 2 and annotations["type"] == "interactor":
            message = "CVAT warns its users about interactors of a version below 2"
            hint = "write `version: 2` when the reply is {'mask': …}"
            context.warning("cvat-version", message, (*_PATH, key), hint)


def check_annotation_flags(context: RuleContext) -> None:
    """Warn about annotations such as `"false"`: CVAT reads every non-empty text as true."""
    annotations = context.function.metadata.annotations
    for key in FLAG_ANNOTATIONS:
        text = annotations.get(key)
        if text and text.strip().lower() in ("false", "no", "off", "0", "none", "null", "n", "f"):
            message = f"CVAT reads {key} {quoted(text)} as true, as every text that is not empty"
            context.warning("cvat-flag", message, (*_PATH, key), f"remove {key} to mean false")


def check_tracked_shapes(context: RuleContext) -> None:
    """Check that the shapes of a tracker are not empty, and that CVAT tracks them."""
    annotations = context.function.metadata.annotations
    text = annotations.get("supported_shape_types")
    if text is None or annotations.get("type") != "tracker":
        return
    path = (*_PATH, "supported_shape_types")
    names = [name.strip() for name in text.split(",")]
    if not any(names):
        message = "supported_shape_types is empty; CVAT hides the tracker"
        context.error("cvat-shapes", message, path, "remove it, or write `rectangle`")
        return
    for name in names:
        if name not in LABEL_TYPES:
            message = f"{quoted(name)} is not a shape that CVAT tracks"
            context.warning("cvat-shapes", message, path, did_you_mean(name, LABEL_TYPES))


def check_cvat_timeout(context: RuleContext) -> None:
    """Warn if the time limit of an event exceeds CVAT's timeout."""
    text = context.function.spec.event_timeout
    if not text:
        return
    try:
        seconds = parse_duration(text)
    except ValueError:
        return
    if seconds > CVAT_TIMEOUT:
        message = f"eventTimeout is {text}, but CVAT gives up after {CVAT_TIMEOUT:.0f} seconds"
        hint = (
            f"set CVAT_NUCLIO_DEFAULT_TIMEOUT to more than {seconds:.0f} in the environment of"
            f" CVAT's server and workers, or write `eventTimeout: {CVAT_TIMEOUT:.0f}s`"
        )
        context.warning("cvat-timeout", message, ("spec", "eventTimeout"), hint)


def check_description(context: RuleContext) -> None:
    """Warn if there is no description: Nuclio omits the empty key, and CVAT fails without it."""
    if not context.function.spec.description:
        message = (
            "the function has no description; if Nuclio serves it, CVAT lists no function at all"
        )
        hint = "add a line: `description: What it finds`"
        context.warning("cvat-description", message, ("spec", "description"), hint, "key")


def check_http_trigger(context: RuleContext) -> None:
    """Check that there is an http trigger, which CVAT calls."""
    triggers = context.function.spec.triggers.values()
    if not any(trigger.kind == "http" for trigger in triggers):
        path = ("spec", "disableDefaultHTTPTrigger")
        context.warning("cvat-http", "without an http trigger CVAT cannot call this function", path)


def check_request_size(context: RuleContext) -> None:
    """Warn if the request limit is low: base64 makes CVAT's pictures a third larger."""
    kind, http = context.function.metadata.annotations.get("type"), context.function.http_trigger()
    if kind not in _REQUEST_SIZES or http is None:
        return
    name, trigger = http
    written = {key.lower(): (key, value) for key, value in trigger.attributes.items()}
    key, value = written.get("maxrequestbodysize", ("", 0))
    if not isinstance(value, int) or value > NUCLIO_MAX_REQUEST_SIZE:
        return
    limit = (
        f"is {value}" if value else f"is Nuclio's default of {NUCLIO_MAX_REQUEST_SIZE >> 20} MiB"
    )
    largest = (value or NUCLIO_MAX_REQUEST_SIZE) * 3 / 4 / 1e6
    message = (
        f"maxRequestBodySize {limit}: a picture of more than about {largest:.1f} MB is refused,"
        " for CVAT sends it as base64"
    )
    size = _REQUEST_SIZES[kind]
    hint = (
        f"write `attributes: {{maxRequestBodySize: {size}}}` ({size >> 20} MiB) in the http trigger"
    )
    path = ("spec", "triggers", name)
    if not context.is_set_in_file(*path):
        context.warning("cvat-request-size", message, (*_PATH, "type"), hint)
    elif key:
        context.warning("cvat-request-size", message, (*path, "attributes", key), hint)
    else:
        context.warning("cvat-request-size", message, path, hint, "key")


def check_label_spec(context: RuleContext) -> None:
    """Check that the annotation `spec` is a JSON list of labels."""
    annotations = context.function.metadata.annotations
    text = annotations.get("spec", "")
    if "type" not in annotations or not text.strip():
        _report_no_labels(context)
        return
    path = (*_PATH, "spec")
    location = context.locate(path)
    source, written = SourceText("", ""), YamlNode("scalar")
    if location:
        source, _, written = location
    node = written
    if written.text != text:
        # The text came from flags, or from a plain word such as 3.10 that was resolved.
        node = YamlNode("scalar", written.line, written.column)
        node.end_line, node.end_column = written.end_line, written.end_column
        node.text = text
    embedded = EmbeddedText(source, node)
    try:
        value = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        _report_bad_json(context, embedded, error)
        return
    check_cvat_labels(context, embedded, value)


def _report_no_labels(context: RuleContext) -> None:
    annotations = context.function.metadata.annotations
    if annotations.get("type") != "detector" or "supports_text_prompt" in annotations:
        return
    message = "a detector without labels finds nothing that CVAT can show"
    path = (*_PATH, "spec")
    hint = 'list them: `spec: |` and below it [{"name": "car", "type": "rectangle"}]'
    context.warning("cvat-no-labels", message, path, hint, "key")


def _report_bad_json(context: RuleContext, embedded: EmbeddedText, error: Exception) -> None:
    if not isinstance(error, json.JSONDecodeError):
        message = "the label spec is nested too deeply"
        context.add(
            embedded.source.diagnostic("error", "cvat-json", message, embedded.whole_span())
        )
        return
    text, position = embedded.node.text, error.pos
    cause, hint = error.msg[:1].lower() + error.msg[1:], None
    rest = text[position:].lstrip()
    before = text[:position].rstrip()
    if before.endswith(",") and rest[:1] in ("]", "}"):
        # Python before 3.13 reports the position after the comma, later versions the comma.
        position = len(before) - 1
        cause, hint = "a comma before the end", "remove it: fnbuild validate --fix"
    elif rest[:1] == "," and rest[1:].lstrip()[:1] in ("]", "}"):
        cause, hint = "a comma before the end", "remove it: fnbuild validate --fix"
    elif rest[:1] == "'":
        cause, hint = "a single quote", "JSON is written with double quotes"
    elif rest[:1] in ("#", "/"):
        cause, hint = "a comment", "JSON has no comments"
    elif rest[:1] in ("{", '"') and "delimiter" in error.msg and before[-1:] in ("}", '"', "]"):
        cause, hint = "a comma is missing before this", None
    message = f"the label spec is not JSON: {cause}; CVAT lists no function at all"
    span = embedded.span_at_index(position)
    diagnostic = embedded.source.diagnostic("error", "cvat-json", message, span, hint)
    context.add(diagnostic)
