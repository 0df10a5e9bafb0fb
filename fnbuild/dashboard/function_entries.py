"""Entries of the list of functions: a function as its platform has it, and its newest operation."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from fnbuild.cvat import list_rules
from fnbuild.dashboard.operations.model import Operation, function_status
from fnbuild.platforms import Deployment, FunctionState


@dataclass(frozen=True, slots=True)
class FunctionEntry:
    """A function in the list.

    `state` and `message` are those for clients, which wait for the end of an operation.
    `cvat_exclusion` says why CVAT's lists leave the function out, "" if they do not; `cvat_absence`
    why CVAT does not request it, or ignores it, although nothing is wrong with it. `shadowed` is
    True if a function of the same name on another platform takes precedence. `operation` is the
    newest one that was requested here. `activated` is when the active revision became active, in
    seconds since the epoch; 0 if it was active before this dashboard started to observe it.
    """

    deployment: Deployment
    state: FunctionState
    message: str
    cvat_exclusion: str = ""
    operation: Operation | None = None
    shadowed: bool = False
    cvat_absence: str = ""
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
        """True if CVAT can show the function."""
        annotations = self.deployment.function.metadata.annotations
        return not self.cvat_exclusion and "type" in annotations


def merge_entries(
    deployments: Iterable[Deployment], operations: Mapping[str, Operation], default_platform: str
) -> list[FunctionEntry]:
    """Return the functions of all platforms by name; those of the default platform come first.

    An operation that creates a function has an entry before a platform has the function.
    """
    entries: dict[str, FunctionEntry] = {}
    for deployment in deployments:
        if (first := entries.get(deployment.name)) is None:
            operation = operations.get(deployment.name)
            entries[deployment.name] = function_entry(deployment, operation)
        else:
            name = f"{deployment.name}@{deployment.platform}"
            entries[name] = shadowed_entry(deployment, first.platform)
    for name, operation in operations.items():
        if name not in entries and (entry := pending_entry(operation, default_platform)):
            entries[name] = entry
    return [entries[name] for name in sorted(entries)]


def function_entry(deployment: Deployment, operation: Operation | None = None) -> FunctionEntry:
    """Return the entry of a function that no other function shadows."""
    if operation is not None and operation.platform not in ("", deployment.platform):
        operation = None
    state, message = function_status(deployment, operation, time.time())
    annotations = deployment.function.metadata.annotations
    exclusion = list_rules.exclusion_reason(annotations)
    absence = list_rules.absence_reason(annotations, deployment.function.project)
    return FunctionEntry(deployment, state, message, exclusion, operation, cvat_absence=absence)


def shadowed_entry(deployment: Deployment, first: str) -> FunctionEntry:
    """Return the entry of a function whose name a function on the platform `first` has."""
    reason = f"the function of that name on the platform {first} comes first"
    return FunctionEntry(deployment, deployment.state, deployment.message, reason, shadowed=True)


def pending_entry(operation: Operation, default_platform: str) -> FunctionEntry | None:
    """Return the entry of a function that an operation creates, None if it creates none."""
    function = operation.pending_function
    if function is None or operation.state == "done" or operation.revision:
        return None
    platform = operation.platform or default_platform
    state: FunctionState = "building" if operation.in_progress else "error"
    return function_entry(Deployment(function, platform, state, operation.message), operation)


def is_in_project(entry: FunctionEntry, project: str | None) -> bool:
    """Return True if the function is in the project; None and "" stand for all projects."""
    return project in (None, "", entry.deployment.function.project)


_DeploymentKey = tuple[str, str, str]


class ActivationTimes:
    """Times at which functions' active revisions changed, as observed by this dashboard."""

    def __init__(self) -> None:
        self._observed: dict[_DeploymentKey, tuple[int, float]] = {}

    def add_to(self, entry: FunctionEntry) -> FunctionEntry:
        """Return the entry with the time at which its active revision was first observed."""
        deployment = entry.deployment
        revision = deployment.revision
        if not revision:
            return entry
        key = (deployment.platform, deployment.function.metadata.namespace, deployment.name)
        observed = self._observed.get(key)
        if observed is None or observed[0] != revision:
            observed = self._observed[key] = (revision, time.time() if observed else 0.0)
        return replace(entry, activated=observed[1])
