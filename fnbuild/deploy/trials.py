"""Run a revision or a folder beside the function that serves, to compare their replies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from fnbuild.deploy import access, artifacts
from fnbuild.errors import NotFoundError, PreconditionError, UsageError
from fnbuild.function import reader
from fnbuild.function.record_settings import RECORD, RECORD_AGE
from fnbuild.function.types import Function
from fnbuild.platforms import Artifact, Deployment, Platform, Progress
from fnbuild.platforms.access import access_headers, token_headers

Address = tuple[str, dict[str, str]]
"""A URL, and the headers that its requests need."""


def trial_function(function: Function) -> Function:
    """Return the function as it runs in a trial: it answers requests, and records nothing."""
    annotations = {
        key: value
        for key, value in function.metadata.annotations.items()
        if key not in (RECORD, RECORD_AGE)
    }
    http = {name: item for name, item in function.spec.triggers.items() if item.kind == "http"}
    return function.with_metadata(annotations=annotations).with_spec(triggers=http, disable=False)


@contextmanager
def run_revision(
    platform: Platform, deployment: Deployment, number: int, progress: Progress
) -> Iterator[Address]:
    """Provide the address of a recorded revision during the block. Raises `NotFoundError`."""
    namespace, name = deployment.function.metadata.namespace, deployment.name
    revisions = platform.revisions(namespace, name)
    revision = next((revision for revision in revisions if revision.number == number), None)
    if revision is None:
        numbers = ", ".join(str(other.number) for other in revisions)
        raise NotFoundError(f"{name} has no revision {number}", hint=f"it has {numbers}")
    artifact = platform.revision_artifact(namespace, name, number)
    if artifact is None and platform.runs_trials:
        raise PreconditionError(
            f"the code of revision {number} of {name} is no longer there",
            hint="`fnbuild history` lists the revisions",
        )
    function, artifact = trial_function(revision.function), artifact or Artifact("image", "", "")
    progress(f"starting revision {number} beside the one that serves")
    with platform.reserve(function, progress), platform.trial(function, artifact, progress) as url:
        yield url, access_headers(platform, replace(deployment, function=function))


@contextmanager
def run_folder(
    platform: Platform, deployment: Deployment, folder: Path, progress: Progress
) -> Iterator[Address]:
    """Provide the address of the function in a folder during the block."""
    if platform.artifact_kind != "folder":
        raise UsageError(
            f"the {platform.name} platform runs images, and {folder} is a folder",
            hint="deploy it under another name, and compare with that function",
        )
    loaded = reader.load_function(folder)
    metadata = deployment.function.metadata
    function = loaded.function.with_metadata(namespace=metadata.namespace, name=metadata.name)
    function = trial_function(access.with_credentials(platform, function, deployment))
    progress(f"starting {folder} beside the function that serves")
    staged = artifacts.staged_code(replace(loaded, function=function), None, progress)
    with staged as artifact, platform.trial(function, artifact, progress) as url:
        yield url, token_headers(function)
