"""Render diagnostics as text, JSON or SARIF 2.1.0."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal
from urllib.parse import quote

from fnbuild import __version__
from fnbuild.errors import Diagnostic, Report, Severity, Span

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


@dataclass(frozen=True, slots=True)
class SarifResult:
    """A result of a SARIF log, at a span or in a file; `path` is its place in a JSON value."""

    rule: str
    severity: Severity
    text: str
    span: Span | None = None
    excerpt: str | None = None
    file: str = ""
    path: str = ""


def _sarif(diagnostics: list[Diagnostic]) -> dict[str, Any]:
    return sarif_document(
        SarifResult(
            diagnostic.rule,
            diagnostic.severity,
            f"{diagnostic.message}. {diagnostic.hint}" if diagnostic.hint else diagnostic.message,
            diagnostic.span,
            diagnostic.excerpt,
        )
        for diagnostic in diagnostics
    )


def sarif_document(
    results: Iterable[SarifResult], titles: Mapping[str, str] = MappingProxyType({})
) -> dict[str, Any]:
    """Return a SARIF log. `titles` are the descriptions of rules."""
    results = list(results)
    rules = sorted({result.rule for result in results})
    driver = {
        "name": "fnbuild",
        "version": __version__,
        "rules": [_sarif_rule(rule, titles.get(rule)) for rule in rules],
    }
    run = {
        "tool": {"driver": driver},
        # Columns count characters, as editors show them, and not the bytes of an encoding.
        "columnKind": "unicodeCodePoints",
        "results": [_sarif_object(result, rules.index(result.rule)) for result in results],
    }
    return {"$schema": _SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}


def _sarif_rule(rule: str, title: str | None) -> dict[str, Any]:
    description = {"shortDescription": {"text": title}} if title else {}
    return {"id": rule, "name": _pascal_case(rule), **description}


def _pascal_case(rule: str) -> str:
    return "".join(part.capitalize() for part in rule.split("-"))


def _sarif_object(result: SarifResult, index: int) -> dict[str, Any]:
    value: dict[str, Any] = {
        "ruleId": result.rule,
        "ruleIndex": index,
        "level": result.severity,
        "message": {"text": result.text},
    }
    location: dict[str, Any] = {}
    if result.span:
        location["physicalLocation"] = _sarif_location(result.span, result.excerpt)
    elif result.file:
        location["physicalLocation"] = {"artifactLocation": {"uri": quote(result.file)}}
    if result.path and not result.span:
        location["logicalLocations"] = [{"fullyQualifiedName": result.path}]
    if location:
        value["locations"] = [location]
    return value


def _sarif_location(span: Span, excerpt: str | None) -> dict[str, Any]:
    region: dict[str, Any] = {
        "startLine": span.line,
        "startColumn": span.column,
        "endLine": span.end_line,
        "endColumn": span.end_column,
    }
    if excerpt is not None:
        region["snippet"] = {"text": excerpt}
    return {"artifactLocation": {"uri": quote(span.file)}, "region": region}
