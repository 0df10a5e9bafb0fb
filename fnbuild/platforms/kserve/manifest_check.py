"""Check a file with manifests of KServe or KFServing, and report each problem with its line.

Without a cluster, its other objects and its default mode are unknown: a rule of one mode is a
warning, and a model is compared with the runtimes of the same file only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from fnbuild.errors import FnbuildError, InputError, PreconditionError, Report, Severity
from fnbuild.function.files import display_path
from fnbuild.function.source_text import SourceText, read_source
from fnbuild.function.types import Raw
from fnbuild.function.yaml_nodes import YamlNode
from fnbuild.function.yaml_parser import parse_yaml
from fnbuild.platforms.kserve import v1alpha2
from fnbuild.platforms.kserve.admission import (
    FRAMEWORKS,
    AdmissionProblem,
    manifest_warnings,
    misspelt_annotations,
    runtime_problems,
    service_problems,
)
from fnbuild.platforms.kserve.identity import MODE_ANNOTATION
from fnbuild.platforms.kserve.manifest_reader import function_config, is_manifest
from fnbuild.platforms.kserve.manifest_structure import api_versions, structure_problems
from fnbuild.platforms.kserve.pod_fields import MODE_WORDS, Mode
from fnbuild.platforms.kserve.selection import ModelRequest, runtime_conflicts, select_runtime

_API_VERSION = re.compile(
    r"""^(?:---[ ])?apiVersion:[ ]*["']?serving\.(?:kserve\.io|kubeflow\.org)/""", re.MULTILINE
)
_DOCUMENT_START = re.compile(r"---(?:\s|$)")
# The place at the beginning of an error's message.
_PLACE = re.compile(r"(?:spec|metadata|model)(?:\.\w+|\[\d+\])*")
_MODES: tuple[Mode, ...] = ("Standard", "Knative")
_STEP = re.compile(r"[^.\[\]]+|\[[^\]]*\]")


def is_manifest_file(path: Path) -> bool:
    """Return True for a YAML file with an object of KServe or KFServing."""
    if path.suffix not in (".yaml", ".yml") or not path.is_file():
        return False
    return bool(_API_VERSION.search(path.read_text(errors="replace")))


def check_manifest_file(path: Path) -> Report:
    """Return the report about all objects of the file that are KServe's or KFServing's."""
    report = Report()
    source = read_source(path, display_path(path), report)
    if source is not None:
        documents = [_ManifestDocument(*tree) for tree in _trees(source)]
        checked = [item for item in documents if is_manifest(item.value) and item.check()]
        _check_together(checked)
    report.sort()
    return report


def _trees(source: SourceText) -> Iterator[tuple[YamlNode, SourceText]]:
    """Yield the documents of a file that can be read; the others are reported."""
    number = 0

    def document_number(line: str) -> int:
        nonlocal number
        number += bool(_DOCUMENT_START.match(line))
        return number

    offset = 0
    for _, group in groupby(source.lines, document_number):
        lines = list(group)
        text = "\n".join(lines)
        # A document may have comments only, as before the first `---`.
        if any(line.strip() not in ("", "---") and line[:1] != "#" for line in lines):
            part = SourceText(text, source.file, source.report, offset)
            if (tree := parse_yaml(part)) is not None:
                yield tree
        offset += len(lines)


class _ManifestDocument:
    """One object of a file."""

    def __init__(self, root: YamlNode, source: SourceText) -> None:
        self._root = root
        self._source = source
        self._is_converted = False
        self.value: Raw = root.to_value()

    @property
    def kind(self) -> str:
        return str(self.value["kind"])

    def check(self) -> bool:
        """Report the problems of this object alone; return True if its values have valid types."""
        if v1alpha2.is_kfserving(self.value):
            if not self._convert():
                return False
        elif not self._check_structure():
            return False
        metadata = self.value.get("metadata") or {}
        annotations = metadata.get("annotations") or {}
        if self.kind == "InferenceService":
            self._check_service(MODE_WORDS.get(annotations.get(MODE_ANNOTATION, "")))
        else:
            self._report_problems("error", runtime_problems(self.value))
        self._report_problems("warning", manifest_warnings(self.value))
        self._report_problems("warning", misspelt_annotations(annotations))
        if not self._source.report.errors:
            self._check_conversion()
        return True

    def _check_conversion(self) -> None:
        """Warn of what a deploy of this file as a function would refuse."""
        try:
            function_config(self.value)
        except InputError as error:
            self._report_error("warning", "not-a-function", error)

    def _convert(self) -> bool:
        """Replace an object of KFServing by that of KServe."""
        version = self.value["apiVersion"]
        message = f"no cluster serves {version} any more"
        hint = "fnbuild deploy turns it into serving.kserve.io/v1beta1"
        self._report("warning", "old-api", AdmissionProblem("apiVersion", message, hint))
        try:
            self.value = v1alpha2.to_v1beta1(self.value)
        except InputError as error:
            self._report_error("error", "kserve-rule", error)
            return False
        self._is_converted = version == f"{v1alpha2.API_GROUP}/v1alpha2"
        return True

    def _check_structure(self) -> bool:
        version, expected = self.value["apiVersion"], api_versions()[self.kind]
        if version != f"serving.kserve.io/{expected}":
            message = f"KServe has no {self.kind} in {version}"
            hint = f"write `apiVersion: serving.kserve.io/{expected}`"
            self._report("error", "api-version", AdmissionProblem("apiVersion", message, hint))
            return False
        valid = True
        for problem in structure_problems(self._root, self.kind):
            valid = valid and problem.rule != "wrong-type"
            span = problem.node.span(self._source)
            self._source.error(problem.rule, problem.message, span, problem.hint)
        return valid

    def _check_service(self, mode: Mode | None) -> None:
        if mode is not None:
            self._report_problems("error", service_problems(self.value, mode))
            return
        standard, knative = (list(service_problems(self.value, name)) for name in _MODES)
        self._report_problems("error", (item for item in standard if item in knative))
        for name, problems, others in zip(
            _MODES, (standard, knative), (knative, standard), strict=True
        ):
            for item in problems:
                if item not in others:
                    message = f"in {name} mode: {item.message}"
                    self._report("warning", "kserve-rule", replace(item, message=message))

    def model_request(self) -> ModelRequest | None:
        """Return the properties by which KServe chooses a runtime; None for other objects."""
        predictor = (self.value.get("spec") or {}).get("predictor") or {}
        model = predictor.get("model") if self.kind == "InferenceService" else None
        if not model or not (content := model.get("modelFormat")):
            return None
        protocol, runtime = model.get("protocolVersion") or "", model.get("runtime") or ""
        return ModelRequest(content["name"], content.get("version") or "", protocol, runtime)

    def report_selection(self, error: FnbuildError) -> None:
        """Report that no runtime of the file fits the model."""
        self._report_error("error", "no-runtime", error)

    def report_conflict(self, conflict: str) -> None:
        """Report that the webhook refuses this runtime beside another one of the file."""
        place = "spec.supportedModelFormats"
        self._report(
            "error", "kserve-rule", AdmissionProblem(place, conflict, "change one of them")
        )

    def _report_problems(self, severity: Severity, problems: Iterable[AdmissionProblem]) -> None:
        for problem in problems:
            self._report(severity, "kserve-rule", problem)

    def _report_error(self, severity: Severity, rule: str, error: FnbuildError) -> None:
        """Report an error whose message begins with its place."""
        place = _PLACE.match(error.message)
        name = place.group() if place else "spec"
        message = error.message.removeprefix(name).lstrip(": ")
        # Settings of a function have the model at the top.
        name = f"spec.predictor.{name}" if name.startswith("model") else name
        self._report(severity, rule, AdmissionProblem(name, message, error.hint or ""))

    def _report(self, severity: Severity, rule: str, problem: AdmissionProblem) -> None:
        message = f"{problem.place}: {problem.message}"
        span = self._node_at(problem.place).span(self._source)
        report = self._source.error if severity == "error" else self._source.warning
        report(rule, message, span, problem.remedy or None)

    def _node_at(self, place: str) -> YamlNode:
        """Return the node at a place of the current form, or the closest one around it."""
        if self._is_converted:
            place = place.replace("spec.", "spec.default.", 1)
            place = place.replace(".containers[0]", ".custom.container")
        node = marked = self._root
        for step in _STEP.findall(place):
            pair = _child(node, step)
            if pair is None:
                break
            key, node = pair
            marked = key if node.kind != "scalar" else node
        return marked


def _child(node: YamlNode, step: str) -> tuple[YamlNode, YamlNode] | None:
    """Return the key and the value at a step; an item of a list is both."""
    name = step.strip("[]")
    if node.kind == "list":
        index = int(name) if name.isdigit() else len(node.items)
        return (node.items[index], node.items[index]) if index < len(node.items) else None
    pairs = {key.text: (key, value) for key, value in node.pairs}
    names = [name, *(FRAMEWORKS if name == "model" else ())]
    return next((pairs[item] for item in names if item in pairs), None)


def _check_together(documents: list[_ManifestDocument]) -> None:
    """Report runtimes of the file that exclude each other, and models that none of them takes."""
    runtimes = [document for document in documents if document.kind != "InferenceService"]
    for index, runtime in enumerate(runtimes):
        earlier = [item.value for item in runtimes[:index] if item.kind == runtime.kind]
        for conflict in runtime_conflicts(runtime.value, earlier):
            runtime.report_conflict(conflict)
    namespaced = [item.value for item in runtimes if item.kind == "ServingRuntime"]
    cluster_wide = [item.value for item in runtimes if item.kind == "ClusterServingRuntime"]
    names = {item.value["metadata"].get("name") for item in runtimes}
    for service in documents:
        request = service.model_request()
        if request is not None and request.runtime in names:
            try:
                select_runtime(request, namespaced, cluster_wide)
            except PreconditionError as error:
                service.report_selection(error)
