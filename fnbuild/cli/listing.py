"""Listings of functions and projects: tables, or nuctl's objects as JSON and YAML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import click

from fnbuild.cli import output
from fnbuild.cli.console import note
from fnbuild.cvat import list_rules
from fnbuild.function.secret_detection import is_secret_name
from fnbuild.function.secrets import mask_variables
from fnbuild.function.types import Raw
from fnbuild.names import DEFAULT_PROJECT, PROJECT_LABEL
from fnbuild.platforms import Deployment, Project, Restarts, ServiceStatus, api_objects
from fnbuild.platforms.leases import format_age

_MASK = "********"
_SERVICE_HEADER = ["url", "ready", "latest", "previous", "age"]
"""The columns of inference services, which are those of KServe's own list."""
_SECRET_KEYS = ("password", "secret", "accesskey", "token")


def print_functions(  # noqa: PLR0913 - one parameter for each option
    deployments: Sequence[Deployment],
    output_format: str,
    *,
    mask: bool = False,
    explain: bool = True,
    with_secrets: bool = False,
    restarts: Mapping[str, Restarts] | None = None,
) -> None:
    """Print functions as `table`, `wide`, `json` or `yaml`; all but `table` include `restarts`.

    Values of secret variables are left out unless `with_secrets` is set. After a table, a line on
    stderr gives the reason for each unhealthy function.
    """
    if output_format in ("json", "yaml"):
        values = [
            function_object(deployment, mask=mask, with_secrets=with_secrets)
            for deployment in deployments
        ]
        for deployment, value in zip(deployments, values, strict=True):
            if own_restarts := (restarts or {}).get(deployment.name):
                value["status"]["restarts"] = asdict(own_restarts)
        output.print_values(values, output_format)
        return
    wide = output_format == "wide"
    ports = any(deployment.http_port for deployment in deployments)
    header = ["namespace", "name", "project", "state", "replicas"]
    header += ["node port"] if ports else []
    rows = [_row(deployment, ports=ports) for deployment in deployments]
    if wide and any(deployment.service for deployment in deployments):
        header += _SERVICE_HEADER
        rows = [
            [*row, *_service_cells(deployment.service)]
            for row, deployment in zip(rows, deployments, strict=True)
        ]
    if wide and any(map(_group_text, deployments)):
        header.append("gpu group")
        rows = [
            [*row, _group_text(deployment)]
            for row, deployment in zip(rows, deployments, strict=True)
        ]
    if wide:
        header += ["restarts", "labels", "internal invocation url", "external invocation urls"]
        rows = [
            [*row, _restarts_text((restarts or {}).get(deployment.name)), *_wide_cells(deployment)]
            for row, deployment in zip(rows, deployments, strict=True)
        ]
    click.echo(output.format_table(header, rows))
    if explain:
        _print_explanations(deployments)


def _print_explanations(deployments: Sequence[Deployment]) -> None:
    by_reason: dict[str, list[str]] = {}
    for deployment in deployments:
        if deployment.message and (deployment.ongoing_change or deployment.state != "building"):
            by_reason.setdefault(summary_line(deployment.message), []).append(deployment.name)
    for deployment in deployments:
        annotations = deployment.function.metadata.annotations
        if reason := list_rules.exclusion_reason(annotations) or _cvat_absence(deployment):
            by_reason.setdefault(f"not in CVAT's list: {reason}", []).append(deployment.name)
    for text, names in by_reason.items():
        note(f"{', '.join(names)}: {text}")
    groups = [deployment.sleep.group for deployment in deployments if deployment.sleep]
    for group in {group.name: group for group in groups if group}.values():
        note(group.description)


def _cvat_absence(deployment: Deployment) -> str:
    """Return the reason why CVAT does not list a valid function; "" if it does."""
    function = deployment.function
    return list_rules.absence_reason(function.metadata.annotations, function.project)


def function_object(
    deployment: Deployment, *, mask: bool = False, with_secrets: bool = False
) -> Raw:
    """Return the function in Nuclio's format, without secret values unless `with_secrets` is set.

    With `mask` other values that look like secrets are hidden as well.
    """
    raw = api_objects.function_object(deployment)
    if not with_secrets:
        raw = mask_variables(raw, secrets_only=True)
    if exclusion := list_rules.exclusion_reason(deployment.function.metadata.annotations):
        raw["status"]["setAside"] = exclusion
    if absence := _cvat_absence(deployment):
        raw["status"]["notes"] = [f"not in CVAT's list: {absence}"]
    if mask:
        raw["spec"] = _mask_values(raw.get("spec", {}))
    return raw


def print_projects(projects: Sequence[Project], output_format: str) -> None:
    """Print projects as `table`, `wide`, `json` or `yaml`."""
    if output_format in ("json", "yaml"):
        output.print_values([project_object(project) for project in projects], output_format)
        return
    columns = 4 if output_format == "wide" else 2
    header = ["namespace", "name", "description", "owner"]
    rows = [[each.namespace, each.name, each.description, each.owner] for each in projects]
    click.echo(output.format_table(header[:columns], [row[:columns] for row in rows]))


def project_object(project: Project) -> Raw:
    """Return a project in nuctl's format, with `meta` where the HTTP API has `metadata`."""
    raw = api_objects.project_object(project)
    return {"meta": raw["metadata"], "spec": raw["spec"]}


def summary_line(message: str) -> str:
    """Return the most informative line of a message: the first, or the last of a traceback."""
    lines = [line.strip() for line in message.strip().splitlines() if line.strip()]
    if not lines:
        return ""
    return lines[-1] if lines[0].startswith(("Traceback", 'File "')) else lines[0]


def _row(deployment: Deployment, *, ports: bool) -> list[object]:
    metadata = deployment.function.metadata
    row: list[object] = [
        metadata.namespace,
        metadata.name,
        metadata.labels.get(PROJECT_LABEL, DEFAULT_PROJECT),
        deployment.state,
        f"{deployment.replicas[0]}/{deployment.replicas[1]}",
    ]
    if ports:
        row.append(deployment.http_port or "")
    return row


def _service_cells(service: ServiceStatus | None) -> list[object]:
    if service is None:
        return [""] * len(_SERVICE_HEADER)
    age = ""
    if service.created:
        seconds = (datetime.now(UTC) - datetime.fromisoformat(service.created)).total_seconds()
        age = format_age(seconds)
    latest = f"{service.latest_traffic} % {service.latest_revision}".rstrip()
    previous = f"{service.previous_traffic} % {service.previous_revision}".rstrip()
    return [service.url, service.ready, latest, previous if service.previous_traffic else "", age]


def _wide_cells(deployment: Deployment) -> list[object]:
    labels = deployment.function.metadata.labels
    text = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
    return [text, ", ".join(deployment.internal_urls), ", ".join(deployment.external_urls)]


def _group_text(deployment: Deployment) -> str:
    """Return the GPU group of the function with the use of its limits, "" without a group."""
    sleep = deployment.sleep
    if sleep is None or sleep.group is None:
        return ""
    return f"{sleep.group.name}: {sleep.state}; {sleep.group.usage}"


def _restarts_text(restarts: Restarts | None) -> str:
    """Return the number of restarts, with the last reason and its time in brackets."""
    if restarts is None:
        return "0"
    reason = ", ".join(part for part in (restarts.reason, restarts.time) if part)
    return f"{restarts.count} ({reason})" if reason else str(restarts.count)


def _mask_values(value: Any) -> Any:
    if isinstance(value, dict):
        if isinstance(value.get("value"), str) and is_secret_name(str(value.get("name"))):
            value = {**value, "value": _MASK}
        return {
            key: _MASK
            if item and isinstance(item, str) and key.lower() in _SECRET_KEYS
            else _mask_values(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_mask_values(item) for item in value]
    return value
