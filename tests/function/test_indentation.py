"""Wrong indentation: the error is where the line's text begins, and names the columns that fit."""

from __future__ import annotations

import pytest

from fnbuild.function.reader import check_function
from tests.function.function_folder import GOOD, Folder, at

DEEP = "this line is indented further than the lines beside it"
UNFITTING = "the indentation of this line matches no key or item above it"
ENV = "  env:\n    - name: a\n"
BOTH = "keys above it start in column 7 (line 7) or column 3 (line 6)"


@pytest.mark.parametrize(
    ("lines", "place", "message", "fits"),
    [
        ("   description: a", (6, 4), DEEP, "keys above it start in column 3 (line 5)"),
        (" description: a", (6, 2), UNFITTING, "in column 3 (line 5) or column 1 (line 3)"),
        (ENV + "        value: b", (8, 9), DEEP, "keys above it start in column 7 (line 7)"),
        (ENV + "     value: b", (8, 6), UNFITTING, BOTH),
        (ENV + "   - name: b", (8, 4), UNFITTING, "items above it start in column 5 (line 7)"),
        (ENV + "      - name: b", (8, 7), UNFITTING, "items above it start in column 5 (line 7)"),
        ("  env:\n    - a\n     - b: c", (8, 6), DEEP, "items above it start in column 5 (line 7)"),
        ("  - a: b", (6, 3), "a list item is not allowed beside keys", "has a key above it"),
    ],
)
def test_an_indentation_error_has_its_position_and_the_columns_that_fit(
    folder: Folder, lines: str, place: tuple[int, int], message: str, fits: str
) -> None:
    finding = folder.only(f"{GOOD}{lines}\n")
    assert message in finding.message
    assert fits in (finding.hint or "")
    assert at(finding) == place


def test_text_that_resembles_keys_is_ignored(folder: Folder) -> None:
    text = "      value: |\n        x: 1\n         - y: 2\n"
    finding = folder.only(f"{GOOD}{ENV}{text}     other: c\n")
    assert at(finding) == (11, 6)
    assert "column 7 (line 8) or column 3 (line 6)" in (finding.hint or "")


def test_positions_in_a_source_file(folder: Folder) -> None:
    config = "".join(f"#   {line}\n" for line in (*GOOD.splitlines(), "   replicas: 1"))
    source = folder.path / "serve.py"
    source.write_text(f"# @nuclio.configure\n#\n# function.yaml:\n{config}\n")
    (finding,) = check_function(source)[1].errors
    assert finding.message == DEEP
    assert at(finding) == (9, 8)
    assert "column 7 (line 8)" in (finding.hint or "")


def test_a_long_file(folder: Folder) -> None:
    lines = "".join(f"    - name: a{number}\n      value: b\n" for number in range(3_000))
    finding = folder.only(f"{GOOD}  env:\n{lines}     other: c\n")
    assert "column 7 (line 6006) or column 3 (line 6)" in (finding.hint or "")
