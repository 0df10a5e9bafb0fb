"""Errors of whole files and of their syntax: one clear error each, with its position."""

import pytest

from fnbuild.function.source_text import MAX_BYTES
from tests.function.function_folder import GOOD, Folder, at


@pytest.mark.parametrize(
    ("content", "rule", "place"),
    [
        ("", "empty", (1, 1)),
        ("  \n\n", "empty", (1, 1)),
        ("# only a comment\n", "empty", (1, 1)),
        ("---\n", "empty", (1, 1)),
        (b"a: \0\n", "binary", (1, 4)),
        (b"\x89PNG\r\n\x1a\n\0\0\0", "binary", (1, 1)),
        (b"a: b\nc: \xe9t\xe9\n", "not-utf8", (2, 4)),
        (GOOD.encode("utf-16"), "not-utf8", (1, 1)),
        ("a: \x1b[31m\n", "binary", (1, 4)),
        ("- a\n- b\n", "wrong-type", (1, 1)),
        ("hello\n", "wrong-type", (1, 1)),
        ("metadata: {name: a}\n---\nspec: {}\n", "many-documents", (2, 1)),
        ("a: " + "[" * 5000, "too-deep", (1, 103)),
        (b"#" * (MAX_BYTES + 1), "too-large", (1, 1)),
    ],
)
def test_one_error(folder: Folder, content: str | bytes, rule: str, place: tuple[int, int]) -> None:
    finding = folder.only(content)
    assert (finding.severity, finding.rule, at(finding)) == ("error", rule, place)


def test_a_large_file_is_not_read(folder: Folder) -> None:
    with folder.config.open("wb") as file:
        file.truncate(1 << 40)
    (finding,) = folder.findings_now()
    assert finding.rule == "too-large"


def test_a_conflict_is_one_error_that_names_its_lines(folder: Folder) -> None:
    conflict = "<<<<<<< HEAD\n  replicas: 1\n=======\n  replicas: 2\n>>>>>>> theirs\n"
    findings = folder.findings(GOOD + conflict + conflict)
    assert [(finding.rule, at(finding)[0]) for finding in findings] == [
        ("conflict-marker", 6), ("conflict-marker", 11)
    ]  # fmt: skip
    assert "lines 8 and 10" in findings[0].message
    assert "lines 13 and 15" in findings[1].message
    assert "keep one of the two sides" in (findings[0].hint or "")


def test_conflict_markers_are_one_error(folder: Folder) -> None:
    finding = folder.only(GOOD + "=======\n  replicas: 2\n>>>>>>> theirs\n")
    assert at(finding)[0] == 6
    assert "line 8" in finding.message


def test_a_line_of_equal_signs_is_no_conflict(folder: Folder) -> None:
    assert folder.findings(GOOD + "  description: |\n    Title\n    =======\n") == []


def test_duplicate_keys_are_reported_with_both_positions(folder: Folder) -> None:
    finding = folder.only(GOOD + "  handler: main:handler\n")
    assert (finding.rule, at(finding)) == ("duplicate-key", (6, 3))
    assert "line 5" in finding.message


@pytest.mark.parametrize("content", ["\ufeff" + GOOD, GOOD.replace("\n", "\r\n")])
def test_byte_order_mark_and_line_ends(folder: Folder, content: str) -> None:
    assert folder.findings(content) == []


def test_lines_count_with_carriage_returns(folder: Folder) -> None:
    finding = folder.only((GOOD + "  replicas: x\n").replace("\n", "\r\n"))
    assert at(finding) == (6, 13)
    assert finding.excerpt == "  replicas: x"


def test_every_tab_is_reported_and_errors_after_it_too(folder: Folder) -> None:
    text = "metadata:\n\tname: fn\nspec:\n\truntime: python:3.9\n\thandler: 'no handler'\n"
    findings = folder.findings(text)
    assert [(f.rule, at(f)[0]) for f in findings] == [
        ("tab", 2), ("tab", 4), ("handler", 5), ("tab", 5)
    ] or [(f.rule, at(f)[0]) for f in findings] == [
        ("tab", 2), ("tab", 4), ("tab", 5), ("handler", 5)
    ]  # fmt: skip


def test_tabs_inside_text_are_text(folder: Folder) -> None:
    text = GOOD + "  description: |\n    a\n    \tb\n  build: {commands: [\n\t'x']}\n"
    loaded = folder.good(text)
    assert loaded.function.spec.description == "a\n\tb\n"
    assert loaded.report.diagnostics == []


@pytest.mark.parametrize(
    ("line", "place", "message", "hint"),
    [
        ("  description: a: b", (6, 17), "':' is not allowed here", "needs quotes"),
        ("  description: @a", (6, 16), "cannot start with '@'", "needs quotes"),
        ("  description: 'a", (6, 16), "never closed", ""),
        ('  description: "C:\\dir"', (6, 19), "unknown escape '\\d'", "single quotes"),
        ('  description: "a" b', (6, 20), "follows the closing quote", "whole value"),
        ("  description: [a] b", (6, 20), "follows the closing bracket", "whole value"),
        ("  description: {a", (6, 16), "never closed", "needs quotes"),
        ("  description: {{ a }}", (6, 17), "a key is a word", "needs quotes"),
        ("  description: *a", (6, 16), "has no anchor", "needs quotes"),
        ("   description: a", (6, 4), "indented further", "column 3 (line 5)"),
        (" description: a", (6, 2), "matches no key or item above", "column 1"),
        ("  description:a\n  replicas: 1", (6, 3), "a key without its ':'", "space is missing"),
    ],
)
def test_syntax(folder: Folder, line: str, place: tuple[int, int], message: str, hint: str) -> None:
    finding = folder.only(f"{GOOD}{line}\n")
    assert finding.severity == "error"
    assert message in finding.message
    assert hint in (finding.hint or "")
    assert at(finding) == place


def test_the_number_of_errors_is_limited(folder: Folder) -> None:
    text = GOOD + "  env:\n" + "    - x\n" * 5000
    _, report = folder.check(text)
    assert len(report.errors) == 100
    assert report.diagnostics[-1].rule == "too-many-findings"


def test_an_error_after_many_warnings_is_reported(folder: Folder) -> None:
    text = GOOD + "".join(f"  odd{n}: 1\n" for n in range(500)) + "  replicas: x\n"
    loaded, report = folder.check(text)
    assert loaded is None
    assert [finding.rule for finding in report.errors] == ["wrong-type"]
