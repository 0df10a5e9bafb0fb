"""Findings as people, programs and code hosts read them: text, JSON and SARIF 2.1.0."""

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
    """All findings in one text. JSON is a list of findings; text is empty when there is none."""
    findings = [finding for report in reports for finding in report]
    if format == "json":
        return json.dumps(
            [diagnostic_json(finding) for finding in findings], indent=2, ensure_ascii=False
        )
    if format == "sarif":
        return json.dumps(_sarif(findings), indent=2, ensure_ascii=False)
    return "\n".join(finding.render() for finding in findings)


def diagnostic_json(finding: Diagnostic) -> dict[str, Any]:
    """A finding as plain JSON values; a finding about no file has no place."""
    result: dict[str, Any] = {
        "severity": finding.severity,
        "rule": finding.rule,
        "message": finding.message,
    }
    if finding.span:
        span = finding.span
        result["file"] = span.file
        result["start"] = {"line": span.line, "column": span.column}
        result["end"] = {"line": span.end_line, "column": span.end_column}
    if finding.excerpt is not None:
        result["excerpt"] = finding.excerpt
    if finding.hint:
        result["hint"] = finding.hint
    return result


def _sarif(findings: list[Diagnostic]) -> dict[str, Any]:
    rules = sorted({finding.rule for finding in findings})
    driver = {
        "name": "fnbuild",
        "version": __version__,
        "rules": [{"id": rule, "name": _pascal_case(rule)} for rule in rules],
    }
    run = {
        "tool": {"driver": driver},
        # Columns count characters, as editors show them, and not the bytes of an encoding.
        "columnKind": "unicodeCodePoints",
        "results": [_sarif_result(finding, rules.index(finding.rule)) for finding in findings],
    }
    return {"$schema": _SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}


def _pascal_case(rule: str) -> str:
    return "".join(part.capitalize() for part in rule.split("-"))


def _sarif_result(finding: Diagnostic, index: int) -> dict[str, Any]:
    text = f"{finding.message}. {finding.hint}" if finding.hint else finding.message
    result: dict[str, Any] = {
        "ruleId": finding.rule,
        "ruleIndex": index,
        "level": finding.severity,
        "message": {"text": text},
    }
    if finding.span:
        result["locations"] = [{"physicalLocation": _sarif_location(finding)}]
    return result


def _sarif_location(finding: Diagnostic) -> dict[str, Any]:
    span = finding.span
    assert span is not None
    region: dict[str, Any] = {
        "startLine": span.line,
        "startColumn": span.column,
        "endLine": span.end_line,
        "endColumn": span.end_column,
    }
    if finding.excerpt is not None:
        region["snippet"] = {"text": finding.excerpt}
    return {"artifactLocation": {"uri": quote(span.file)}, "region": region}
