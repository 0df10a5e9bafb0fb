"""The structure of manifests is that of KServe's CustomResourceDefinitions.

`FNBUILD_WRITE_GOLDEN=1 pytest tests/platforms/kserve/test_manifest_structure.py` writes the file
again after the definitions have changed.
"""

from __future__ import annotations

import json
import os
from itertools import count
from pathlib import Path
from typing import Any

from fnbuild.platforms import kserve
from tests.platforms.crds import KSERVE_KINDS, load_crd

FILE = Path(kserve.__file__).parent / "manifest_structure.json"


class Definitions:
    """The shapes of a schema; those that are large have a name of their own."""

    def __init__(self) -> None:
        self.by_name: dict[str, Any] = {}
        self.names: dict[str, str] = {}

    def shape(self, schema: dict[str, Any], name: str) -> Any:
        if schema.get("x-kubernetes-int-or-string"):
            return "int-or-string"
        kind = schema.get("type", "any")
        if kind == "array":
            return [self.shape(schema["items"], name)]
        if kind == "object":
            return self.object_shape(schema, name)
        return {"=": schema["enum"]} if "enum" in schema else kind

    def object_shape(self, schema: dict[str, Any], name: str) -> Any:
        values = schema.get("additionalProperties")
        if isinstance(values, dict):
            return {"*": self.shape(values, name)}
        is_open = schema.get("x-kubernetes-preserve-unknown-fields")
        if not schema.get("properties") or is_open:
            return "any"
        shape = {key: self.shape(value, key) for key, value in schema["properties"].items()}
        if schema.get("required"):
            shape["!"] = schema["required"]
        return self.shared(shape, name)

    def shared(self, shape: dict[str, Any], name: str) -> Any:
        text = json.dumps(shape, sort_keys=True)
        if len(text) < 60:
            return shape
        if text not in self.names:
            numbers = (f"{name}{number}" for number in count(2))
            unique = name if name not in self.by_name else None
            self.names[text] = unique or next(n for n in numbers if n not in self.by_name)
            self.by_name[self.names[text]] = shape
        return f"#{self.names[text]}"


def structure() -> str:
    definitions = Definitions()
    specs = {}
    for kind in KSERVE_KINDS:
        for version in load_crd(kind.name)["spec"]["versions"]:
            schema = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
            specs[f"{kind.name}/{version['name']}"] = definitions.shape(schema, kind.name)
    lines = [f"{json.dumps(name)}: {json.dumps(shape)}"
             for name, shape in definitions.by_name.items()]  # fmt: skip
    text = ",\n".join(lines)
    return f'{{"specs": {json.dumps(specs)},\n"definitions": {{\n{text}\n}}}}\n'


def test_the_structure_is_that_of_the_definitions() -> None:
    if os.environ.get("FNBUILD_WRITE_GOLDEN"):
        FILE.write_text(structure())
    assert FILE.read_text() == structure()
