import json

from fnbuild.errors import Diagnostic, Report, Span
from fnbuild.function.report_formats import render_reports
from tests.function.function_folder import GOOD, Folder


def test_text(folder: Folder) -> None:
    _, report = folder.check(GOOD + "  evenTimeout: 3s\n")
    lines = render_reports([report], "text").split("\n")
    assert lines[0].endswith(
        ":6:3: warning[unknown-key]: unknown key 'evenTimeout' in spec; Nuclio ignores it"
    )
    assert lines[1:] == [
        "    6 |   evenTimeout: 3s",
        "      |   ^^^^^^^^^^^",
        "        did you mean eventTimeout?",
    ]
    assert render_reports([Report()], "text") == ""


def test_a_long_line_is_truncated_around_the_position() -> None:
    line = "x" * 500 + "HERE" + "y" * 500
    shown = Diagnostic("error", "r", "m", Span("f", 1, 501, 1, 505), line).render().split("\n")
    start = shown[2].index("^")
    assert shown[1][start : start + 4] == "HERE"
    assert shown[2].count("^") == 4
    assert max(map(len, shown)) < 140


def test_excerpts_are_escaped(folder: Folder) -> None:
    _, report = folder.check((GOOD + "  handlr: '\u202egnp.exe'\n").encode())
    assert "\u202e" not in report.render()
    _, report = folder.check(GOOD.encode() + b"a: \x1b[31mred\n")
    assert "\x1b" not in report.render()


def test_json(folder: Folder) -> None:
    _, report = folder.check(GOOD + "  replicas: two\n")
    (finding,) = json.loads(render_reports([report], "json"))
    assert finding["severity"] == "error"
    assert finding["rule"] == "wrong-type"
    assert finding["start"] == {"line": 6, "column": 13}
    assert finding["end"] == {"line": 6, "column": 16}
    assert finding["excerpt"] == "  replicas: two"
    assert finding["file"].endswith("function.yaml")
    assert json.loads(render_reports([], "json")) == []


def test_sarif(folder: Folder) -> None:
    _, report = folder.check(GOOD + "  replicas: two\n  odd: 1\n")
    report.add(Diagnostic("error", "no-place", "nowhere"))
    log = json.loads(render_reports([report], "sarif"))
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert [rules[result["ruleIndex"]] for result in run["results"]] == [
        result["ruleId"] for result in run["results"]
    ]
    assert [result["level"] for result in run["results"]] == ["error", "warning", "error"]
    region = run["results"][0]["locations"][0]["physicalLocation"]["region"]
    assert (region["startLine"], region["startColumn"]) == (6, 13)
    assert "locations" not in run["results"][2]
