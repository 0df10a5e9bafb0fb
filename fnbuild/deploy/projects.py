"""Which project a function is in: the one that it names, else the one it is in already."""

from __future__ import annotations

import msgspec

from fnbuild.function.types import Function
from fnbuild.platforms import Change, Deployment, Platform, Progress, Project

PROJECT_LABEL = "nuclio.io/project-name"
DEFAULT_PROJECT = "default"


def project_of(function: Function) -> str:
    return function.metadata.labels.get(PROJECT_LABEL, DEFAULT_PROJECT)


def with_project_label(function: Function, current: Deployment | None) -> Function:
    """The function with the label of its project; `current` is what the platform has of it."""
    stays = project_of(current.function) if current else DEFAULT_PROJECT
    labels = {PROJECT_LABEL: stays, **function.metadata.labels}
    metadata = msgspec.structs.replace(function.metadata, labels=labels)
    return msgspec.structs.replace(function, metadata=metadata)


def project_steps(platform: Platform, function: Function) -> tuple[Change, ...]:
    """What `enter` would do about the project."""
    name = project_of(function)
    known = platform.projects(function.metadata.namespace)
    return () if name in [one.name for one in known] else (Change("create", f"project {name}"),)


def ensure_project(
    platform: Platform, function: Function, current: Deployment | None, progress: Progress
) -> None:
    """Make the function's project when it is missing, and say so (nuctl refuses instead).

    A function that moves there from another project is told of as well.
    """
    name = project_of(function)
    if current is not None and project_of(current.function) != name:
        was = project_of(current.function)
        progress(f"moving {current.name} from project {was} to project {name}")
    if platform.create_project(Project(name, function.metadata.namespace)):
        progress(f"created project {name}")
