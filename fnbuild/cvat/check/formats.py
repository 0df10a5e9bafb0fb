"""Render the result of a check as text, JSON, SARIF 2.1.0 or JUnit's XML."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

from fnbuild.cvat.check.examination import CheckResult
from fnbuild.cvat.check.findings import CheckFinding
from fnbuild.cvat.rules import RULES
from fnbuild.function.report_formats import SarifResult, sarif_document

_MAX_CASES = 3


def render_text(result: CheckResult) -> str:
    """Return a paragraph for each finding; "" if there are none."""
    return "\n".join(_paragraph(finding) for finding in result.findings)


def _paragraph(finding: CheckFinding) -> str:
    place = f"{finding.place}: " if finding.place else ""
    lines = [f"{finding.severity}[{finding.rule}] {place}{finding.message}"]
    details = {
        "value": finding.value,
        "in CVAT": finding.effect,
        "remedy": finding.remedy,
        "requests": "" if finding.span else cases_text(finding),
    }
    lines += [f"    {name + ':':<10}{text}" for name, text in details.items() if text]
    return "\n".join(lines)


def cases_text(finding: CheckFinding) -> str:
    """Return the names of the first requests with the finding, and the number of the others."""
    names = ", ".join(finding.cases[:_MAX_CASES])
    more = len(finding.cases) - _MAX_CASES
    places = f" ({finding.count} places)" if finding.count > len(finding.cases) else ""
    return names + (f" and {more} more" if more > 0 else "") + places


def table_rows(result: CheckResult, *, wide: bool) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of a table."""
    header = ["state", "rule", "place", "what", "requests"]
    if wide:
        header += ["value", "in CVAT", "remedy"]
    rows = []
    for finding in result.findings:
        more = [finding.value, finding.effect, finding.remedy] if wide else []
        rows.append(
            [
                finding.severity,
                finding.rule,
                finding.place or "-",
                finding.message,
                cases_text(finding),
                *more,
            ]
        )
    return header, rows


def result_object(result: CheckResult) -> dict[str, Any]:
    """Return the result for JSON and YAML."""
    return {
        "function": result.name,
        "kind": result.kind,
        "errors": result.count("error"),
        "warnings": result.count("warning"),
        "requests": [
            {"name": case.name, "seconds": round(case.seconds, 3)} for case in result.cases
        ],
        "findings": [finding_object(finding) for finding in result.findings],
    }


def finding_object(finding: CheckFinding) -> dict[str, Any]:
    value: dict[str, Any] = {
        "severity": finding.severity,
        "rule": finding.rule,
        "path": finding.path,
        "message": finding.message,
        "value": finding.value,
        "effect": finding.effect,
        "remedy": finding.remedy,
        "requests": finding.cases,
        "count": finding.count,
    }
    if finding.span:
        value |= {"file": finding.span.file, "line": finding.span.line}
    return value


def render_sarif(result: CheckResult, file: str) -> dict[str, Any]:
    """Return a SARIF log. Findings about replies are located in `file`, and by their JSON path."""
    results = [
        SarifResult(
            finding.rule,
            finding.severity,
            _message(finding),
            finding.span,
            finding.value if finding.span else None,
            file,
            finding.path,
        )
        for finding in result.findings
    ]
    return sarif_document(results, {rule.id: rule.title for rule in RULES.values()})


def _message(finding: CheckFinding) -> str:
    return ". ".join(text for text in (finding.message, finding.effect, finding.remedy) if text)


def render_junit(result: CheckResult, *, strict: bool = False) -> str:
    """Return JUnit's XML: a test case for function.yaml and each request, failed by errors.

    With `strict`, warnings fail them, too.
    """
    suite = ET.Element("testsuite", name=f"fnbuild check {result.name}")
    names = {"function.yaml": 0.0} | {case.name: case.seconds for case in result.cases}
    failures = 0
    for name, seconds in names.items():
        case = ET.SubElement(
            suite, "testcase", classname=result.name, name=name, time=f"{seconds:.3f}"
        )
        findings = [finding for finding in result.findings if name in finding.cases]
        errors = [finding for finding in findings if strict or finding.severity == "error"]
        warnings = [_paragraph(finding) for finding in findings if finding not in errors]
        if errors:
            failures += 1
            failure = ET.SubElement(
                case, "failure", type=errors[0].rule, message=_xml_text(errors[0].message)
            )
            failure.text = _xml_text("\n".join(map(_paragraph, errors)))
        if warnings:
            ET.SubElement(case, "system-out").text = _xml_text("\n".join(warnings))
    suite.set("tests", str(len(names)))
    suite.set("failures", str(failures))
    suite.set("time", f"{sum(names.values()):.3f}")
    ET.indent(suite)
    return ET.tostring(suite, encoding="unicode", xml_declaration=True)


def _xml_text(text: str) -> str:
    """Replace characters that XML cannot contain."""
    return "".join(
        char if char.isprintable() or char == "\n" else "\N{REPLACEMENT CHARACTER}" for char in text
    )
