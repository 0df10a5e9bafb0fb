"""A function in the list: what its platform says, and what the dashboard knows of it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fnbuild.check import cvat_model
from fnbuild.dashboard.operation import Operation, status_of
from fnbuild.deploy.projects import project_of
from fnbuild.platforms import Deployment, FunctionState


@dataclass(frozen=True, slots=True)
class Listed:
    """One function. `state` and `message` are those for clients, who wait for the end of a change.

    `set_aside` says why CVAT's lists are without it, "" when they are not; `absence` why CVAT does
    not ask for it, or passes it over, although nothing is wrong with it. `shadowed` when the
    function of that name on another platform comes first. `operation` is the newest change that
    was asked for here. `activated` is when the active revision became active, in seconds since the
    epoch; 0 when it did before this dashboard looked.
    """

    deployment: Deployment
    state: FunctionState
    message: str
    set_aside: str = ""
    operation: Operation | None = None
    shadowed: bool = False
    absence: str = ""
    activated: float = 0.0

    @property
    def name(self) -> str:
        name = self.deployment.name
        return f"{name}@{self.platform}" if self.shadowed else name

    @property
    def platform(self) -> str:
        return self.deployment.platform

    @property
    def for_cvat(self) -> bool:
        """Whether CVAT can show it."""
        return not self.set_aside and "type" in self.deployment.function.metadata.annotations


def together(
    found: Iterable[Deployment], operations: Mapping[str, Operation], default: str
) -> list[Listed]:
    """The functions of all platforms by name; `found` has the default platform's first.

    A change of a function that no platform has yet makes it one of the list.
    """
    listed: dict[str, Listed] = {}
    for one in found:
        if (first := listed.get(one.name)) is None:
            listed[one.name] = of(one, operations.get(one.name))
        else:
            listed[f"{one.name}@{one.platform}"] = shadowed(one, first.platform)
    for name, operation in operations.items():
        if name not in listed and (coming := announced(operation, default)) is not None:
            listed[name] = coming
    return [listed[name] for name in sorted(listed)]


def of(deployment: Deployment, operation: Operation | None = None) -> Listed:
    """A function whose name is its own, with what CVAT would make of it."""
    if operation is not None and operation.platform not in ("", deployment.platform):
        operation = None
    state, message = status_of(deployment, operation, time.time())
    annotations = deployment.function.metadata.annotations
    words = cvat_model.of_annotations(annotations).words if "type" in annotations else ""
    absence = cvat_model.absence(annotations, project_of(deployment.function))
    return Listed(deployment, state, message, words, operation, absence=absence)


def shadowed(deployment: Deployment, first: str) -> Listed:
    """A function whose name another one has, which is on the platform `first`."""
    reason = f"the function of that name on the platform {first} comes first"
    return Listed(deployment, deployment.state, deployment.message, reason, shadowed=True)


def announced(operation: Operation, default: str) -> Listed | None:
    """The function that a change makes, while no platform has it; None when there will be none."""
    function = operation.function
    if function is None or operation.state == "done" or operation.revision:
        return None
    platform = operation.platform or default
    state: FunctionState = "building" if operation.under_way else "error"
    return of(Deployment(function, platform, state, operation.message), operation)
