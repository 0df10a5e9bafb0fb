"""Configuration as readable text."""

from __future__ import annotations

import yaml

from fnbuild.function.yaml_writer import as_yaml


def test_text_of_several_lines_stays_readable_in_yaml() -> None:
    value = {"spec": '[\n  {"name": "face"}\n]\n', "same": [{"a": 1}] * 2}
    text = as_yaml(value)
    assert "spec: |\n" in text
    assert "&" not in text
    assert yaml.safe_load(text) == value
