"""Render diagnostics as text, JSON or SARIF 2.1.0."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Literal
from urllib.parse import quote

from fnbuild import __version__
from fnbuild.errors import Diagnostic, Report

ReportFormat = Literal["text", "json", "sarif"]

_SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def render_reports(reports: Iterable[Report], format: ReportFormat) -> str:  # noqa: A002 - the flag's own name
    """Return all diagnostics in one text. JSON is a list; text is empty if there are none."""
    diagnostics = [diagnostic for report in reports for diagnostic in report]
    if format == "json":
        return json.dumps(
            [diagnostic_json(diagnostic) for diagnostic in diagnostics],
            indent=2,
            ensure_ascii=False,
        )
    if format == "sarif":
        return json.dumps(_sarif(diagnostics), indent=2, ensure_ascii=False)
    return "\n".join(diagnostic.render() for diagnostic in diagnostics)


def diagnostic_json(diagnostic: Diagnostic) -> dict[str, Any]:
    """Return a diagnostic as a JSON object, which has a place only if it is about a file."""
    result: dict[str, Any] = {
        "severity": diagnostic.severity,
        "rule": diagnostic.rule,
        "message": diagnostic.message,
    }
    if diagnostic.span:
        span = diagnostic.span
        result["file"] = span.file
        result["start"] = {"line": span.line, "column": span.column}
        result["end"] = {"line": span.end_line, "column": span.end_column}
    if diagnostic.excerpt is not None:
        result["excerpt"] = diagnostic.excerpt
    if diagnostic.hint:
        result["hint"] = diagnostic.hint
    return result


def _sarif(diagnostics: list[Diagnostic]) -> dict[str, Any]:
    rules = sorted({diagnostic.rule for diagnostic in diagnostics})
    driver = {
        "name": "fnbuild",
        "version": __version__,
        "rules": [{"id": rule, "name": _pascal_case(rule)} for rule in rules],
    }
    run = {
        "tool": {"driver": driver},
        # Columns count characters, as editors show them, and not the bytes of an encoding.
        "columnKind": "unicodeCodePoints",
        "results": [
            _sarif_result(diagnostic, rules.index(diagnostic.rule)) for diagnostic in diagnostics
        ],
    }
    return {"$schema": _SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}


def _pascal_case(rule: str) -> str:
    return "".join(part.capitalize() for part in rule.split("-"))


def _sarif_result(diagnostic: Diagnostic, index: int) -> dict[str, Any]:
    text = f"{diagnostic.message}. {diagnostic.hint}" if diagnostic.hint else diagnostic.message
    result: dict[str, Any] = {
        "ruleId": diagnostic.rule,
        "ruleIndex": index,
        "level": diagnostic.severity,
        "message": {"text": text},
    }
    if diagnostic.span:
        result["locations"] = [{"physicalLocation": _sarif_location(diagnostic)}]
    return result


def _sarif_location(diagnostic: Diagnostic) -> dict[str, Any]:
    span = diagnostic.span
    assert span is not None
    region: dict[str, Any] = {
        "startLine": span.line,
        "startColumn": span.column,
        "endLine": span.end_line,
        "endColumn": span.end_column,
    }
    if diagnostic.excerpt is not None:
        region["snippet"] = {"text": diagnostic.excerpt}
    return {"artifactLocation": {"uri": quote(span.file)}, "region": region}
