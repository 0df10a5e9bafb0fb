"""Suggest the key or value that was likely meant in place of one that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from functools import cache

import msgspec

from fnbuild.function import types
from fnbuild.function.source_text import quoted
from fnbuild.function.types import FieldPath
from fnbuild.function.yaml_nodes import YamlNode

_TIMEOUT = "the time limit of an event is `spec.eventTimeout`, as in `eventTimeout: 120s`"
_REQUIREMENTS = "install packages with `build.commands`, as in `- pip install numpy`"
_GPU = "request a GPU with `spec.resources.limits`, as in `nvidia.com/gpu: 1`"

_REMEDIES: dict[tuple[str, str], str] = {
    ("", "meta"): "the key is `metadata`",
    ("", "triggers"): "triggers belong under `spec`",
    ("spec", "timeoutseconds"): _TIMEOUT,
    ("spec", "timeout"): _TIMEOUT,
    ("spec", "maxexecutiontimeout"): _TIMEOUT,
    ("spec", "handlertimeout"): _TIMEOUT,
    ("spec", "gpus"): _GPU,
    ("spec", "gpu"): _GPU,
    ("spec", "limits"): "limits belong under `spec.resources`",
    ("spec", "requests"): "requests belong under `spec.resources`",
    ("spec", "environment"): "environment variables are `spec.env`: a list of `name` and `value`",
    ("spec", "requirements"): _REQUIREMENTS,
    ("spec", "name"): "the function's name is `metadata.name`",
    ("spec", "annotations"): "annotations belong under `metadata`",
    ("spec", "labels"): "labels belong under `metadata`",
    ("metadata", "spec"): "CVAT's labels are `metadata.annotations.spec`",
    ("metadata", "type"): "CVAT's kind is `metadata.annotations.type`",
    ("metadata", "project"): "the project is the label `nuclio.io/project-name`",
    ("build", "volumes"): "volumes do not exist during the build; use `spec.volumes`",
    ("build", "requirements"): _REQUIREMENTS,
    ("build", "dockerfile"): "Dockerfile instructions belong under `build.directives`",
    ("triggers.*", "timeoutseconds"): _TIMEOUT,
    ("triggers.*", "workers"): "the number of workers is `numWorkers`",
    ("triggers.*", "replicas"): "replicas are `spec.minReplicas` and `spec.maxReplicas`",
    ("triggers.*", "port"): "the port belongs under `attributes`",
    ("triggers.*", "maxrequestbodysize"): "maxRequestBodySize belongs under `attributes`",
    ("attributes", "timeoutseconds"): _TIMEOUT,
}


def closest(word: str, candidates: Iterable[str], cutoff: float = 0.72) -> str | None:
    """Return the most similar known word, or None; a cut-off of 1 is the strictest."""
    by_lower_case = {name.lower(): name for name in candidates}
    matches = difflib.get_close_matches(word.lower()[:80], by_lower_case, n=1, cutoff=cutoff)
    return by_lower_case[matches[0]] if matches else None


def corrected_key(path: FieldPath, key: str, candidates: Iterable[str]) -> str | None:
    """Return the key that was certainly meant: the only similar one without another remedy."""
    if (_parent_key(path), key.lower()) == ("", "meta"):
        return "metadata"
    if (_parent_key(path), key.lower()) in _REMEDIES:
        return None
    by_lower_case = {name.lower(): name for name in candidates}
    matches = difflib.get_close_matches(key.lower()[:80], by_lower_case, n=2, cutoff=0.8)
    return by_lower_case[matches[0]] if len(matches) == 1 else None


def did_you_mean(word: str, candidates: Iterable[str]) -> str | None:
    """Return a hint with the most similar word of a short, closed list, or None."""
    match = closest(word, candidates, 0.6)
    return f"did you mean {match}?" if match else None


def unknown_key_message(
    path: FieldPath, key: str, candidates: Iterable[str]
) -> tuple[str, str | None]:
    """Return message and hint for a key that Nuclio ignores."""
    place = ".".join(map(str, path))
    message = f"unknown key {quoted(key)}{f' in {place}' if place else ''}; Nuclio ignores it"
    remedy = _REMEDIES.get((_parent_key(path), key.lower()))
    if remedy:
        return message, remedy
    word = closest(key, candidates)
    if word:
        return message, f"did you mean {word}?"
    parent = _parents_by_key().get(key.lower())
    if parent and parent != place:
        return message, f"{key} belongs in {parent}"
    return message, None


def _parent_key(path: FieldPath) -> str:
    if len(path) == 3 and path[:2] == ("spec", "triggers"):
        return "triggers.*"
    return str(path[-1]) if path else ""


@cache
def _parents_by_key() -> dict[str, str]:
    """Return the parents of keys by the key in lower case."""
    result: dict[str, str] = {}
    for place, cls in (
        ("spec.triggers.NAME", types.Trigger),
        ("spec.build", types.Build),
        ("metadata", types.Metadata),
        ("spec", types.Spec),
    ):
        for field in msgspec.structs.fields(cls):
            if field.name != "extra":
                result[field.encode_name.lower()] = place
    result["precopy"] = result["postcopy"] = "spec.build.directives"
    for name in ("maxrequestbodysize", "readbuffersize", "ingresses", "cors"):
        result[name] = "spec.triggers.NAME.attributes"
    for name in ("restartpolicy", "mountmode"):
        result[name] = "spec.platform.attributes"
    return result


def hint_if_not_text(path: FieldPath, node: YamlNode) -> str | None:
    """Return a hint for a list or a mapping in place of text."""
    if path[-1:] == ("spec",) and path[-2:-1] == ("annotations",):
        return "CVAT reads this annotation as JSON text: write `spec: |` and JSON below it"
    if node.kind == "list" and path[-1:] == ("value",):
        return 'put the whole list in single quotes, as in \'["conda", "run"]\''
    if node.kind == "map" and any(key.kind != "scalar" for key, _ in node.pairs):
        return "text that starts with { needs quotes"
    if node.kind == "map" and len(node.pairs) == 1 and isinstance(path[-1], int):
        return "text with ': ' in it needs quotes"
    return None


def hint_if_not_mapping(path: FieldPath, node: YamlNode) -> str | None:
    """Return a hint for a list or a scalar in place of a mapping."""
    if path[-1:] == ("triggers",) and node.kind == "list":
        return "triggers are named: `triggers:` then `myHttpTrigger:` then `kind: http`"
    if "directives" in path:
        return "a directive has two keys: `- kind: RUN` and `value: …`"
    if path[-1:] == ("env",) or path[-2:-1] == ("env",):
        return "a variable has two keys: `- name: NAME` and `value: …`"
    return None


def hint_if_not_list(path: FieldPath, node: YamlNode) -> str | None:
    """Return a hint for a mapping or a scalar in place of a list."""
    if path[-1:] == ("env",) and node.kind == "map":
        return "each variable is an item: `- name: NAME` and `value: …`"
    if node.kind == "scalar":
        return f"start the item with a dash: `- {node.text[:40]}`" if node.text else None
    return "start each item with a dash"
