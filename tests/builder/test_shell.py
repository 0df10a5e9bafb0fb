"""Splitting shell text into simple commands."""

import shlex
import subprocess
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fnbuild.builder.shell import join_lines, parse_commands

pytestmark = pytest.mark.system


def commands_of(text: str, **variables: str) -> list[tuple[str, ...]]:
    return [command.words for command in parse_commands(text, variables)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("a b  c", [("a", "b", "c")]),
        ("a 'b c' \"d e\" f\\ g", [("a", "b c", "d e", "f g")]),
        ("a ''", [("a", "")]),
        ("a 'it'\"'\"'s'", [("a", "it's")]),
        ("a && b || c; d | e & f", [("a",), ("b",), ("c",), ("d",), ("e",), ("f",)]),
        ("(a; b)", [("a",), ("b",)]),
        ("a # b\nc", [("a",), ("c",)]),
        ("a b#c", [("a", "b#c")]),
        ("a \\\n  b", [("a", "b")]),
        ("a \\   \n  b", [("a", "b")]),
        ("a \\\r\n  b", [("a", "b")]),
        ("a \\\n # comment\n b", [("a", "b")]),
        ("a > /dev/null 2>&1 b", [("a", "b")]),
        ("a &> log; b >>log 2>/dev/null", [("a",), ("b",)]),
        ("a < in b", [("a", "b")]),
        ("install numpy>=1.26 b<3 c[x]>=2", [("install", "numpy>=1.26", "b<3", "c[x]>=2")]),
        ("install numpy>=1.26,<2 x", [("install", "numpy>=1.26,<2", "x")]),
        ("a '$X' \\$X", [("a", "$X", "$X")]),
        ("a $", [("a", "$")]),
        ('a "b\nc"', [("a", "b\nc")]),
        ("a 'never closed", [("a", "never closed")]),
        ('a "never closed', [("a", "never closed")]),
        ("a \\", [("a",)]),
    ],
)
def test_text_is_split_into_commands(text, expected):
    assert commands_of(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a $X", ("a", "one", "two")),
        ('a "$X"', ("a", "one two")),
        ("a x${X}y", ("a", "xone", "twoy")),
        ("a v==${Y}", ("a", "v==2.1")),
        ("a ${Z:-other} ${Z-2}", ("a", "other", "2")),
        ("a $E b", ("a", "b")),
        ('a "$E" b', ("a", "", "b")),
    ],
)
def test_variables_with_known_values(text, expected):
    (command,) = parse_commands(text, {"X": "one two", "Y": "2.1", "E": ""})
    assert command.words == expected
    assert not command.unresolved


@pytest.mark.parametrize(
    "text", ["a $X", 'a "$X"', "a ${X}", "a $(b c; d)", "a `b; c`", "a ${X%.*}", 'a "$(b "c d")"']
)
def test_values_that_only_a_shell_knows(text):
    first, last = parse_commands(f"{text}; z", {})
    assert first.unresolved
    assert first.words[0] == "a"
    assert (last.words, last.unresolved) == (("z",), False)


def test_the_operator_before_a_command():
    assert [c.operator for c in parse_commands("a && b || c\nd | e", {})] == [
        "",
        "&&",
        "||",
        "\n",
        "|",
    ]


@pytest.mark.parametrize(
    ("text", "joined"),
    [
        ("a \\\n b", "a  b"),
        ("a \\  \n b", "a  b"),
        ("a \\\n# comment\n\n  # another\nb", "a b"),
        ("a\\\\\nb", "a\\\\\nb"),
        ("a \\\n# gone\n  b\n# stays\nc", "a   b\n# stays\nc"),
        ("a \\\r\nb", "a b"),
    ],
)
def test_lines_are_joined_as_docker_does(text, joined):
    assert join_lines(text) == joined


@given(st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=8)))
def test_quoted_words_are_unchanged(arguments):
    # A backslash before a line break joins the lines before quotes are parsed, as in Docker.
    arguments = [argument.replace("\\", "").replace("\r", "") for argument in arguments]
    text = " ".join(["run", *map(shlex.quote, arguments)])
    if "\n#" not in text:
        assert commands_of(text) == [("run", *arguments)]


@given(st.text(alphabet="ab '\"\\$`(){}<>&|;#\n=1-", max_size=40))
def test_any_text_is_parsed_completely(text):
    for command in parse_commands(text, {"a": "x y"}):
        assert command.words


@pytest.mark.parametrize(
    "text",
    [
        'printf \'%s|\' a"b c"\'d\' e\\ f "g\\"h" "i\\j" \'\' $X "$X" ${N:-d e} # f',
        'printf \'%s|\' a$X"$X"b $E "$E" x${E}y',
        "printf '%s|' 'a'\\''b' \"'\" '\"' a=b -- -x",
    ],
)
def test_results_agree_with_a_real_shell(text):
    done = subprocess.run(
        ["sh", "-c", text],
        env={"X": "one  two", "E": "", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    (command,) = parse_commands(text, {"X": "one  two", "E": ""})
    assert "".join(f"{word}|" for word in command.words[2:]) == done.stdout


@pytest.mark.parametrize(
    "piece", ["a", "$a", "a>=1,", "'a'", "a ", "$(", '"$', "\\", "\\\n", "#", "a&&"]
)
def test_a_large_text_is_parsed_quickly(piece):
    started = time.monotonic()
    parse_commands(piece * 200_000, {"a": "b"})
    assert time.monotonic() - started < 60
