"""How functions and projects look in listings: rows for people, nuctl's objects for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from fnbuild.check import cvat_model
from fnbuild.cli import output
from fnbuild.cli.session import note
from fnbuild.membership import DEFAULT_PROJECT, PROJECT_LABEL, project_of
from fnbuild.platforms import Deployment, Project, objects
from fnbuild.spec.secrets import looks_secret
from fnbuild.spec.types import Raw

_MASK = "********"
_SECRET_KEYS = ("password", "secret", "accesskey", "token")


def show_functions(
    found: Sequence[Deployment], kind: str, *, mask: bool = False, explain: bool = True
) -> None:
    """Print functions as `table`, `wide`, `json` or `yaml`.

    Below a table stands on stderr, for functions that are not well, the reason in one line.
    """
    if kind in ("json", "yaml"):
        output.show_values([function_object(one, mask=mask) for one in found], kind)
        return
    wide = kind == "wide"
    ports = any(one.http_port for one in found)
    header = ["namespace", "name", "project", "state", "replicas"]
    header += ["node port"] if ports else []
    header += ["labels", "internal invocation url", "external invocation urls"] if wide else []
    click.echo(output.table(header, [_row(one, ports=ports, wide=wide) for one in found]))
    if explain:
        _explain(found)


def _explain(found: Sequence[Deployment]) -> None:
    by_reason: dict[str, list[str]] = {}
    for one in found:
        if one.message and (one.changing or one.state != "building"):
            by_reason.setdefault(reason(one.message), []).append(one.name)
    for one in found:
        if words := _set_aside(one) or _absence(one):
            by_reason.setdefault(f"not in CVAT's list: {words}", []).append(one.name)
    for text, names in by_reason.items():
        note(f"{', '.join(names)}: {text}")


def _set_aside(one: Deployment) -> str:
    """Why CVAT does not show a function that is meant for it."""
    annotations = one.function.metadata.annotations
    return cvat_model.of_annotations(annotations).words if "type" in annotations else ""


def _absence(one: Deployment) -> str:
    """Why CVAT does not show a function that nothing is wrong with."""
    function = one.function
    return cvat_model.absence(function.metadata.annotations, project_of(function))


def function_object(one: Deployment, *, mask: bool = False) -> Raw:
    """Nuclio's shape, with the values of secrets hidden when they are to be masked."""
    raw = objects.function_object(one)
    if words := _set_aside(one):
        raw["status"]["setAside"] = words
    if words := _absence(one):
        raw["status"]["notes"] = [f"not in CVAT's list: {words}"]
    if mask:
        raw["spec"] = _masked(raw.get("spec", {}))
    return raw


def show_projects(found: Sequence[Project], kind: str) -> None:
    """Print projects in the same four ways."""
    if kind in ("json", "yaml"):
        output.show_values([project_object(one) for one in found], kind)
        return
    header = ["namespace", "name"] + (["description", "owner"] if kind == "wide" else [])
    rows = [
        [one.namespace, one.name] + ([one.description, one.owner] if kind == "wide" else [])
        for one in found
    ]
    click.echo(output.table(header, rows))


def project_object(one: Project) -> Raw:
    """nuctl prints a project's metadata under `meta` (the HTTP API under `metadata`)."""
    raw = objects.project_object(one)
    return {"meta": raw["metadata"], "spec": raw["spec"]}


def reason(message: str) -> str:
    """The one line of a message that says most: the first, but of a mere traceback the last."""
    lines = [line.strip() for line in message.strip().splitlines() if line.strip()]
    if not lines:
        return ""
    return lines[-1] if lines[0].startswith(("Traceback", 'File "')) else lines[0]


def _row(one: Deployment, *, ports: bool, wide: bool) -> list[object]:
    metadata = one.function.metadata
    row: list[object] = [
        metadata.namespace,
        metadata.name,
        metadata.labels.get(PROJECT_LABEL, DEFAULT_PROJECT),
        one.state,
        f"{one.replicas[0]}/{one.replicas[1]}",
    ]
    if ports:
        row.append(one.http_port or "")
    if wide:
        labels = ",".join(f"{key}={value}" for key, value in sorted(metadata.labels.items()))
        row += [labels, ", ".join(one.internal_urls), ", ".join(one.external_urls)]
    return row


def _masked(value: Any) -> Any:
    if isinstance(value, dict):
        if isinstance(value.get("value"), str) and looks_secret(str(value.get("name"))):
            value = {**value, "value": _MASK}
        return {
            key: _MASK
            if item and isinstance(item, str) and key.lower() in _SECRET_KEYS
            else _masked(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_masked(item) for item in value]
    return value
