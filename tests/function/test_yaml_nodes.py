"""Positions, aliases, merge keys and limits."""

import pytest
import yaml

from fnbuild.function.source_text import SourceText
from fnbuild.function.yaml_nodes import MAX_DEPTH, YamlNode, compose, node_from_value


def tree(text: str) -> YamlNode:
    source = SourceText(text, "f.yaml")
    root = compose(source)
    assert root is not None, source.report.render()
    assert not source.report.errors, source.report.render()
    return root


def fault(text: str) -> str:
    source = SourceText(text, "f.yaml")
    compose(source)
    assert len(source.report) == 1, source.report.render()
    finding = source.report.diagnostics[0]
    assert finding.span is not None
    return f"{finding.span.line}:{finding.span.column} {finding.rule}"


def test_positions_count_characters_not_bytes() -> None:
    root = tree("이름: 값 # 설명\nb: {c: 日本}\n")
    key, value = root.pairs[0]
    assert (key.line, key.column, value.line, value.column, value.end_column) == (0, 0, 0, 4, 5)
    inner = root.pairs[1][1].pairs[0][1]
    assert (inner.line, inner.column, inner.end_column, inner.value) == (1, 7, 9, "日本")


def test_aliases_and_merge_keys() -> None:
    root = tree("base: &b {x: 1, y: 2}\nmore: &m {z: 3}\nuse: {<<: [*b, *m], y: 5}\nagain: *b\n")
    assert root.to_value()["use"] == {"y": 5, "x": 1, "z": 3}
    assert root.to_value()["again"] == {"x": 1, "y": 2}


def test_quoted_merge_key_is_a_key() -> None:
    assert tree("a: {'<<': 1}").to_value() == {"a": {"<<": 1}}


def test_tags() -> None:
    assert tree("[!!str 1, !!int 2, !own 3, '4', !!float 1.5]").to_value() == [
        "1",
        2,
        "3",
        "4",
        1.5,
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "3:1 duplicate-key"),
        ("a: &x [*x]\n", "1:8 self-alias"),
        ("a: *x\n", "1:4 unknown-alias"),
        ("a: {{ b }}\n", "1:5 bad-key"),
        ("a: 1\n---\nb: 1\n", "2:1 many-documents"),
        ("[" * (MAX_DEPTH + 5), f"1:{MAX_DEPTH + 1} too-deep"),
    ],
)
def test_faults(text: str, message: str) -> None:
    assert fault(text) == message


def test_a_duplicate_key_is_reported_with_both_positions() -> None:
    source = SourceText("a: 1\nb: 2\na: 3\n", "f.yaml")
    compose(source)
    assert "line 1" in source.report.diagnostics[0].message


def test_aliases_cannot_grow_without_bound() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert fault("\n".join(lines)).endswith("too-many-values")


def test_aliases_cannot_nest_without_bound() -> None:
    lines = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, MAX_DEPTH + 5)]
    assert fault("\n".join(lines)).endswith("too-deep")


def test_empty_documents_are_skipped() -> None:
    assert tree("---\n---\na: 1\n").to_value() == {"a": 1}


def test_syntax_errors_are_raised() -> None:
    with pytest.raises(yaml.YAMLError):
        compose(SourceText("a: [", "f"))


def test_from_value() -> None:
    value = {"a": [1, None, {"b": True}], "c": "1"}
    assert node_from_value(value).to_value() == value
    deep: list = []
    for _ in range(MAX_DEPTH + 2):
        deep = [deep]
    with pytest.raises(ValueError, match="nested"):
        node_from_value(deep)
