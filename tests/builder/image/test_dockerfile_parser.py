"""The first and the last line of a Dockerfile's instructions."""

from __future__ import annotations

import pytest

from fnbuild.builder.image.dockerfile_parser import parse_dockerfile, referenced_images

WHOLE = """\
# syntax=docker/dockerfile:1
# a comment
ARG BASE=debian

FROM ${BASE} AS first
RUN echo one && \\
    # a comment between
\\
    echo two
   copy a b
ENV A="x \\
y"
FROM scratch
RUN true
"""


def test_every_instruction_has_its_text_lines_and_stage():
    instructions = [
        (instruction.kind, instruction.text, instruction.line, instruction.stage)
        for instruction in parse_dockerfile(WHOLE)
    ]
    assert instructions == [
        ("ARG", "ARG BASE=debian", 3, -1),
        ("FROM", "FROM ${BASE} AS first", 5, 0),
        ("RUN", "RUN echo one && echo two", 6, 0),
        ("COPY", "copy a b", 10, 0),
        ("ENV", 'ENV A="x y"', 11, 0),
        ("FROM", "FROM scratch", 13, 1),
        ("RUN", "RUN true", 14, 1),
    ]
    assert parse_dockerfile(WHOLE)[2].last_line == 9


def test_a_heredoc_belongs_to_its_instruction():
    text = (
        "FROM a\nRUN <<EOF sh\nRUN not this\nFROM nor this\nEOF\n"
        "COPY <<-ONE <<TWO /\n\tONE\nx\nTWO\nRUN b\n"
    )
    assert [instruction.line for instruction in parse_dockerfile(text)] == [1, 2, 6, 10]


@pytest.mark.parametrize("line", ["RUN echo $((1<<2))", "RUN cat <<EOF", "ENV A=<<EOF"])
def test_text_that_resembles_a_heredoc_is_not_one(line):
    assert [instruction.text for instruction in parse_dockerfile(f"FROM a\n{line}\nRUN b\n")][
        -1
    ] == "RUN b"


def test_another_escape_character():
    text = "# escape=`\nFROM a\nRUN one `\n  two\nRUN c:\\\nRUN d\n"
    assert [instruction.text for instruction in parse_dockerfile(text)] == [
        "FROM a",
        "RUN one two",
        "RUN c:\\",
        "RUN d",
    ]


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", "RUN a \\\n"])
def test_malformed_dockerfiles_are_parsed(text):
    assert len(parse_dockerfile(text)) <= 1


def test_referenced_images_are_listed():
    text = (
        "ARG BASE=one:1\nARG OTHER\nFROM --platform=linux/amd64 $BASE AS First\nFROM ${OTHER}\n"
        "COPY --from=first /a /b\nCOPY --from=0 /a /b\nCOPY --chown=1 --from=three:3 /a /b\n"
        "FROM scratch\nFROM first\nFROM one:1\n"
    )
    assert referenced_images(text, {"OTHER": "two:2"}) == ["one:1", "two:2", "three:3"]
