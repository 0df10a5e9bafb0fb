"""The project of a function: the one that it names, or the one that it already belongs to."""

from __future__ import annotations

import msgspec

from fnbuild.function.types import Function
from fnbuild.platforms import Change, Deployment, Platform, Progress, Project

PROJECT_LABEL = "nuclio.io/project-name"
DEFAULT_PROJECT = "default"


def project_of(function: Function) -> str:
    """Return the name of the function's project."""
    return function.metadata.labels.get(PROJECT_LABEL, DEFAULT_PROJECT)


def with_project_label(function: Function, current: Deployment | None) -> Function:
    """Return the function with a project label. `current` is the deployed function, if any."""
    project = project_of(current.function) if current else DEFAULT_PROJECT
    labels = {PROJECT_LABEL: project, **function.metadata.labels}
    metadata = msgspec.structs.replace(function.metadata, labels=labels)
    return msgspec.structs.replace(function, metadata=metadata)


def project_steps(platform: Platform, function: Function) -> tuple[Change, ...]:
    """Return the steps of `ensure_project`."""
    name = project_of(function)
    existing = platform.projects(function.metadata.namespace)
    return (
        ()
        if name in [project.name for project in existing]
        else (Change("create", f"project {name}"),)
    )


def ensure_project(
    platform: Platform, function: Function, current: Deployment | None, progress: Progress
) -> None:
    """Create the function's project if it does not exist (nuctl refuses instead).

    Reports the creation, and a move of the function from another project.
    """
    name = project_of(function)
    if current is not None and project_of(current.function) != name:
        previous = project_of(current.function)
        progress(f"moving {current.name} from project {previous} to project {name}")
    if platform.create_project(Project(name, function.metadata.namespace)):
        progress(f"created project {name}")
