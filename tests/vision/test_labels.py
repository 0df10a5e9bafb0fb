"""The label spec of a function's own function.yaml, with PyYAML and without it."""

import json
import sys
from pathlib import Path

import pytest
import yaml

from fnbuild.vision.labels import read_label_spec

ROOT = Path(__file__).parents[2]
SPEC = [{"id": 1, "name": 'it\'s a "cat": 50 % #1', "type": "rectangle"}, {"name": "dog"}]


@pytest.fixture(params=["PyYAML", "without it"])
def parser(request, monkeypatch):
    if request.param != "PyYAML":
        monkeypatch.setitem(sys.modules, "yaml", None)


def write(folder, annotations):
    text = f"spec:\n  description: x\nmetadata:\n  name: f\n  annotations:\n{annotations}"
    (folder / "function.yaml").write_text(text + "\n  labels:\n    spec: no\n", encoding="utf-8")
    return [str(folder)]


def indented(text, spaces):
    return "\n".join(" " * spaces + line for line in text.splitlines())


@pytest.mark.parametrize("style", ["|", "|-", ">", ">- # comment"])
def test_a_block(parser, tmp_path, style):
    block = indented(json.dumps(SPEC, indent=2), 6)
    folders = write(tmp_path, f"    type: detector\n    spec: {style}\n{block}\n    version: '2'")
    assert read_label_spec(folders) == SPEC


def test_a_file_with_a_byte_order_mark(parser, tmp_path):
    text = '\ufeffmetadata:\n  annotations:\n    spec: \'[{"name": "dog"}]\'\n'
    (tmp_path / "function.yaml").write_text(text, encoding="utf-8")
    assert read_label_spec([str(tmp_path)]) == [{"name": "dog"}]


def test_quoted_text(parser, tmp_path):
    text = json.dumps(SPEC)
    single = "    spec: '{}'\n    type: detector".format(text.replace("'", "''"))
    assert read_label_spec(write(tmp_path, single)) == SPEC
    assert read_label_spec(write(tmp_path, f"    'spec': {json.dumps(text)}")) == SPEC


@pytest.mark.parametrize("value", ["", " null", ' ""', ' "[]"'])
def test_no_labels(parser, tmp_path, value):
    assert read_label_spec(write(tmp_path, f"    type: detector\n    spec:{value}")) == []


def test_no_file_and_no_annotations(parser, tmp_path):
    assert read_label_spec([str(tmp_path)]) == []
    (tmp_path / "function.yaml").write_text("metadata:\n  name: f\nspec:\n  handler: a:b\n")
    assert read_label_spec([str(tmp_path)]) == []


def test_an_invalid_spec_names_the_file(parser, tmp_path):
    with pytest.raises(ValueError, match=r"function\.yaml: metadata\.annotations\.spec must be"):
        read_label_spec(write(tmp_path, "    spec: '[{\"name\": 1}]'"))


def test_every_function_of_the_library(monkeypatch):
    paths = sorted(ROOT.glob("functions/**/function*.yaml"))
    assert paths
    for path in paths:
        text = yaml.safe_load(path.read_text())["metadata"]["annotations"].get("spec") or "[]"
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "yaml", None)
            if path.name == "function.yaml":
                assert read_label_spec([str(path.parent)]) == json.loads(text), path
