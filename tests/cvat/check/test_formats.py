"""The result of a check in the formats of other programs."""

import json
import xml.etree.ElementTree as ET

import pytest

from fnbuild.cvat.check import formats
from fnbuild.cvat.check.examination import CheckResult
from fnbuild.cvat.check.findings import FindingCollector
from fnbuild.cvat.check.probe import ExaminedCase
from fnbuild.errors import Diagnostic, Span


@pytest.fixture
def result() -> CheckResult:
    collector = FindingCollector()
    span = Span("street/function.yaml", 4, 11, 4, 20)
    collector.add_diagnostic(
        Diagnostic(
            "warning", "cvat-flag", "is read as true", span, "  startswith_box: no", "remove it"
        )
    )
    collector.add("photo", "mask-size", "[0].mask", "has 3 pixels")
    collector.add("grey", "mask-size", "[4].mask", "has 7 pixels")
    collector.add("grey", "confidence-range", "[1].confidence", "97 is above 1\x1b")
    cases = [ExaminedCase("photo", 0.25), ExaminedCase("grey", 0.5)]
    return CheckResult("street", "detector", cases, collector.findings)


def test_text(result: CheckResult) -> None:
    text = formats.render_text(result)
    assert "warning[cvat-flag] street/function.yaml:4:11: is read as true" in text
    assert "error[mask-size] [0].mask: has 3 pixels\n    in CVAT:  A mask of other" in text
    assert "requests: photo, grey\n" in text


def test_json(result: CheckResult) -> None:
    value = json.loads(json.dumps(formats.result_object(result)))
    assert (value["errors"], value["warnings"]) == (1, 2)
    flag, mask, _ = value["findings"]
    assert (flag["file"], flag["line"]) == ("street/function.yaml", 4)
    assert (mask["path"], mask["count"], mask["requests"]) == ("[0].mask", 2, ["photo", "grey"])
    assert mask["remedy"]
    assert mask["effect"]


def test_sarif(result: CheckResult) -> None:
    (run,) = formats.render_sarif(result, "street/function.yaml")["runs"]
    described = {
        rule["id"]: rule.get("shortDescription") for rule in run["tool"]["driver"]["rules"]
    }
    assert described["mask-size"] == {"text": "The pixels fill the mask's box"}
    flag, mask, _ = run["results"]
    assert flag["locations"][0]["physicalLocation"]["region"]["startLine"] == 4
    (location,) = mask["locations"]
    assert location["physicalLocation"]["artifactLocation"]["uri"] == "street/function.yaml"
    assert location["logicalLocations"] == [{"fullyQualifiedName": "[0].mask"}]
    assert mask["level"] == "error"


def test_junit(result: CheckResult) -> None:
    suite = ET.fromstring(formats.render_junit(result))
    assert (suite.get("tests"), suite.get("failures")) == ("3", "2")
    config, photo, grey = suite
    assert (config.get("name"), config.find("failure")) == ("function.yaml", None)
    assert "cvat-flag" in (config.findtext("system-out") or "")
    failure = photo.find("failure")
    assert failure is not None
    assert failure.get("type") == "mask-size"
    assert "97 is above 1\N{REPLACEMENT CHARACTER}" in (grey.findtext("system-out") or "")


def test_junit_fails_for_warnings_of_a_strict_check(result: CheckResult) -> None:
    suite = ET.fromstring(formats.render_junit(result, strict=True))
    assert (suite.get("tests"), suite.get("failures")) == ("3", "3")


def test_table(result: CheckResult) -> None:
    header, rows = formats.table_rows(result, wide=False)
    assert [len(row) for row in rows] == [len(header)] * 3
    header, rows = formats.table_rows(result, wide=True)
    assert dict(zip(header, rows[1], strict=True))["remedy"].startswith("the box is inclusive")
