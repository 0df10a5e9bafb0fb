"""Projects: rules shared by the platforms that store them."""

from __future__ import annotations

import json
from collections.abc import Iterable

from fnbuild.errors import PreconditionError
from fnbuild.names import DEFAULT_PROJECT
from fnbuild.platforms.base import Project


def members_to_delete(name: str, functions: Iterable[str], *, cascade: bool) -> list[str]:
    """Return the functions to delete with the project, if it may be deleted.

    Raises `PreconditionError` otherwise.
    """
    if name == DEFAULT_PROJECT:
        raise PreconditionError("the project default cannot be deleted")
    members = list(functions)
    if members and not cascade:
        raise PreconditionError(
            f"project {name} has functions: {', '.join(members)}",
            hint="delete them first, or delete the project with `--strategy cascading`",
        )
    return members


def with_default_project(namespace: str, projects: Iterable[Project]) -> list[Project]:
    """Return the projects by name, with `default` even if it is not recorded."""
    by_name = {DEFAULT_PROJECT: Project(DEFAULT_PROJECT, namespace)}
    by_name |= {project.name: project for project in projects}
    return [by_name[name] for name in sorted(by_name)]


def decode_string_map(text: str | None) -> dict[str, str]:
    """Decode labels or annotations from untrusted JSON; invalid values are dropped."""
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    if not isinstance(value, dict):
        return {}
    return {key: item for key, item in value.items() if isinstance(item, str)}
