from pathlib import Path
from typing import Any

import msgspec

from fnbuild.function import schema, types

FILE = Path(__file__).resolve().parents[2] / "function-specs" / "function.schema.json"


def test_the_file_is_not_stale() -> None:
    assert FILE.read_text(encoding="utf-8") == schema.schema_text(), (
        "run: python -m fnbuild.function.schema function-specs/function.schema.json"
    )


def nodes(value: Any) -> Any:
    if isinstance(value, dict):
        yield value
        for item in value.values():
            yield from nodes(item)
    elif isinstance(value, list):
        for item in value:
            yield from nodes(item)


def test_every_reference_has_a_target() -> None:
    plain = schema.build_schema()
    for node in nodes(plain):
        if "$ref" in node:
            assert node["$ref"].removeprefix("#/$defs/") in plain["$defs"]


def test_every_key_exists_with_a_description() -> None:
    plain = schema.build_schema()
    for cls in (types.Metadata, types.Spec, types.Build, types.Trigger, types.EnvVar):
        properties = plain["$defs"][cls.__name__]["properties"]
        for field in msgspec.structs.fields(cls):
            if field.name != "extra":
                assert properties[field.encode_name]["description"].endswith(".")


def test_the_schema_is_printed_or_written(tmp_path: Path, capsys: Any) -> None:
    schema.main([])
    assert capsys.readouterr().out == schema.schema_text()
    schema.main([str(tmp_path / "s.json")])
    assert (tmp_path / "s.json").read_text() == schema.schema_text()
