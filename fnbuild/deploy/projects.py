"""The project of a function: the one that it names, or the one that it already belongs to."""

from __future__ import annotations

from fnbuild.function.types import Function
from fnbuild.names import DEFAULT_PROJECT, PROJECT_LABEL
from fnbuild.platforms import Change, Deployment, Platform, Progress, Project


def with_project_label(function: Function, current: Deployment | None) -> Function:
    """Return the function with a project label. `current` is the deployed function, if any."""
    project = current.function.project if current else DEFAULT_PROJECT
    return function.with_metadata(labels={PROJECT_LABEL: project, **function.metadata.labels})


def project_changes(platform: Platform, function: Function) -> tuple[Change, ...]:
    """Return the change that creates the function's project, none if it exists."""
    name = function.project
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
    name = function.project
    if current is not None and current.function.project != name:
        previous = current.function.project
        progress(f"moving {current.name} from project {previous} to project {name}")
    if platform.create_project(Project(name, function.metadata.namespace)):
        progress(f"created project {name}")
