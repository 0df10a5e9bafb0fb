"""The configure block of a source file."""

from pathlib import Path

import pytest

from fnbuild.errors import ConfigError
from fnbuild.function.reader import check_function, load_function
from fnbuild.function.types import Function, Metadata, Spec
from tests.function.function_folder import at

CODE = '''"""A function."""
import json

# @nuclio.configure
#
# function.yaml:
#   metadata:
#     name: inline   # its name
#   spec:
#     runtime: python:3.9
#     env:
#       - {name: A, value: 1}

def handler(context, event):
    return "ok"
'''


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "serve.py"


def test_a_block(source: Path) -> None:
    source.write_text(CODE)
    loaded = load_function(source)
    assert loaded.function.metadata.name == "inline"
    assert loaded.function.spec.env[0].value == "1"
    assert loaded.function.spec.handler == "serve:handler"
    assert (loaded.source_file, loaded.config_path, loaded.folder) == (source, None, source.parent)
    assert loaded.report.diagnostics == []


def test_a_sibling_file_is_not_read(source: Path) -> None:
    source.write_text(CODE)
    (source.parent / "function.yaml").write_text("metadata: {name: sibling}")
    assert load_function(source).function.metadata.name == "inline"


def test_flags_then_file_then_block(source: Path) -> None:
    source.write_text(CODE)
    config = source.parent / "other.yaml"
    config.write_text("metadata: {name: filed, namespace: ns}\nspec: {env: [{name: B}]}")
    flags = Function(metadata=Metadata(name="flagged"), spec=Spec(runtime="python:3.11"))
    function = load_function(source, config_file=config, overrides=flags).function
    assert (function.metadata.name, function.metadata.namespace) == ("flagged", "ns")
    assert function.spec.runtime == "python:3.11"
    assert [variable.name for variable in function.spec.env] == ["B", "A"]


def test_a_block_at_the_end_of_the_file(source: Path) -> None:
    source.write_text(
        "def handler(context, event):\n    pass\n" + CODE.partition("\n\ndef")[0][31:]
    )
    assert load_function(source).function.metadata.name == "inline"


def test_positions_are_those_of_the_source_file(source: Path) -> None:
    source.write_text(CODE.replace("python:3.9", "golang").replace("value: 1", "value: [1]"))
    _, report = check_function(source)
    assert [(finding.rule, at(finding)) for finding in report] == [
        ("runtime", (10, 16)), ("wrong-type", (12, 28))
    ]  # fmt: skip
    assert report.diagnostics[0].excerpt == "#     runtime: golang"


def test_bad_yaml_in_the_block(source: Path) -> None:
    source.write_text(CODE.replace("name: inline", "name: a: b"))
    with pytest.raises(ConfigError, match="':' is not allowed here") as raised:
        load_function(source)
    assert at(raised.value.report.errors[0]) == (8, 14)


def test_a_block_without_the_key(source: Path) -> None:
    source.write_text("# @nuclio.configure\n# metadata:\n#   name: x\n")
    flags = Function(metadata=Metadata(name="x"))
    loaded = load_function(source, overrides=flags)
    (warning,) = loaded.report
    assert (warning.rule, at(warning)) == ("inline", (2, 3))


def test_other_blocks_and_no_block(source: Path) -> None:
    flags = Function(metadata=Metadata(name="x"))
    source.write_text("# @nuclio.other\n# function.yaml:\n#   metadata: {name: y}\n")
    assert load_function(source, overrides=flags).function.metadata.name == "x"
    source.write_text("")
    loaded = load_function(source, overrides=flags)
    assert loaded.function.spec.runtime == "python:3.9"
    assert loaded.function.spec.handler == "serve:handler"
