"""CustomResourceDefinitions: validation of manifests against them, and their installation."""

from __future__ import annotations

import functools
import json
import lzma
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import celpy
import jsonschema
from celpy.adapter import json_to_cel

from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubeclient.errors import RequestSubject
from fnbuild.platforms.kubeclient.kinds import Kind
from fnbuild.platforms.kubeclient.transport import APPLY, ApiRequest
from tests import locks
from tests.engine import until

_FOLDER = Path(__file__).parents[1] / "data"
_DEFINITION = Kind(
    "apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", False
)
KSERVE_KINDS = (kinds.INFERENCE_SERVICE, kinds.SERVING_RUNTIME, kinds.CLUSTER_SERVING_RUNTIME)
KEDA_KINDS = (kinds.INTERCEPTOR_ROUTE, kinds.HTTP_SCALED_OBJECT, kinds.SCALED_OBJECT)
_FOLDERS = {kind.name: "kserve" for kind in KSERVE_KINDS} | {
    kind.name: "keda" for kind in KEDA_KINDS
}
_PLURALS = {kind.name: kind.plural for kind in (*KSERVE_KINDS, *KEDA_KINDS)}


@functools.cache
def load_crd(kind: str) -> dict[str, Any]:
    """Return the definition of a kind."""
    path = _FOLDER / _FOLDERS[kind] / f"{_PLURALS[kind]}.json.xz"
    return json.loads(lzma.decompress(path.read_bytes()))


def schema_errors(manifest: dict[str, Any]) -> list[str]:
    """Return the violations of the schema, unknown fields included, and of its CEL rules."""
    kind, version = manifest["kind"], manifest["apiVersion"].partition("/")[2]
    validator = _validator(kind, version)
    errors = sorted(validator.iter_errors(manifest), key=lambda error: list(map(str, error.path)))
    broken = _broken_rules(_schema(kind, version), manifest, "$")
    return [*(f"{error.json_path}: {error.message}" for error in errors), *broken]


def _schema(kind: str, version: str) -> dict[str, Any]:
    versions = {item["name"]: item for item in load_crd(kind)["spec"]["versions"]}
    return versions[version]["schema"]["openAPIV3Schema"]


@functools.cache
def _validator(kind: str, version: str) -> jsonschema.Draft7Validator:
    schema = _strict(_schema(kind, version))
    schema["properties"]["metadata"] = {"type": "object"}
    return jsonschema.Draft7Validator(schema)


def _strict(schema: Any) -> Any:
    """Return a JSON Schema that refuses unknown fields, as strict validation does."""
    if isinstance(schema, list):
        return [_strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: _strict(value) for key, value in schema.items() if key != "format"}
    if schema.get("x-kubernetes-int-or-string"):
        result.pop("type", None)
        result["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    properties = schema.get("properties")
    is_open = schema.get("x-kubernetes-preserve-unknown-fields")
    if isinstance(properties, dict) and "type" in schema and not is_open:
        result.setdefault("additionalProperties", False)
    return result


def _broken_rules(schema: dict[str, Any], value: Any, place: str) -> Iterator[str]:
    """Yield the messages of CEL rules that a value violates; old API servers ignore these rules."""
    for validation in schema.get("x-kubernetes-validations", ()):
        environment = celpy.Environment()
        program = environment.program(environment.compile(validation["rule"]))
        if not program.evaluate({"self": json_to_cel(value)}):
            yield f"{place}: {validation['message']}"
    if isinstance(value, dict):
        for key, part in schema.get("properties", {}).items():
            if key in value:
                yield from _broken_rules(part, value[key], f"{place}.{key}")
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _broken_rules(schema.get("items", {}), item, f"{place}[{index}]")


def install_definitions(cluster: Cluster, wanted: Iterable[Kind]) -> None:
    """Apply the definitions, which stay for other tests, and wait until they are served."""
    # A client-side apply would keep them in an annotation, which they are too large for.
    query = {"fieldManager": "fnbuild-tests", "force": "true"}
    wanted = tuple(wanted)
    with locks.exclusive("definitions"):
        for kind in wanted:
            definition = _for_old_api_servers(load_crd(kind.name))
            name = definition["metadata"]["name"]
            path = _DEFINITION.path(None, name)
            request = ApiRequest("PATCH", path, query, definition, APPLY)
            subject = RequestSubject("patch", _DEFINITION, None, name)
            cluster.transport.request_json(request, subject)

        def are_served() -> bool:
            cluster._served_kinds.clear()
            return all(map(cluster.serves, wanted))

        until("the defined resources", are_served)


def _for_old_api_servers(schema: Any) -> Any:
    """Return a definition that Kubernetes 1.20 accepts.

    It takes an empty default for null, and knows no CEL rules.
    """
    if isinstance(schema, list):
        return [_for_old_api_servers(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _for_old_api_servers(value)
        for key, value in schema.items()
        if (key, value) != ("default", "") and key != "x-kubernetes-validations"
    }
