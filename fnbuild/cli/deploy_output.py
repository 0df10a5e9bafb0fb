"""Output of the commands that deploy functions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import click

from fnbuild.cli.console import note, warn

if TYPE_CHECKING:
    from fnbuild.deploy.pipeline import DeployRequest, PreparedFunction
    from fnbuild.platforms import Change, Deployment, Manifest, Platform

ENABLE_HINT = "`fnbuild update function {} --disable=false` runs it again"


@contextmanager
def hinting_at_running_revision(platform: Platform, namespace: str, name: str) -> Iterator[None]:
    """Add the revision that still runs to the hint of a build error. Later errors include it."""
    from fnbuild.errors import BuildError, FnbuildError

    try:
        yield
    except BuildError as error:
        with suppress(FnbuildError):
            running = platform.deployment(namespace, name)
            if running.revision and running.replicas[0]:
                hint = f"revision {running.revision} goes on serving"
                error.hint = f"{error.hint}; {hint}" if error.hint else hint
        raise


def report_deployment(deployment: Deployment, seconds: float) -> None:
    """Print the warnings, the state and the address of a deployed function on stderr."""
    for text in deployment.warnings:
        warn(text)
    address = f" at {deployment.url}" if deployment.url else ""
    state = f"{deployment.name} is {deployment.state}{address}"
    note(f"{state} (revision {deployment.revision} in {seconds:.1f} s)")
    if deployment.state == "standby":
        note(f"it is disabled; {ENABLE_HINT.format(deployment.name)}")


def print_deployment(deployment: Deployment, output: str) -> None:
    """Print the deployed function on stdout."""
    from fnbuild.cli.listing import print_functions

    if output == "name":
        click.echo(deployment.name)
    elif output == "url":
        click.echo(deployment.url)
    else:
        print_functions([deployment], output, explain=False)


def prepare_and_warn(request: DeployRequest) -> PreparedFunction:
    """Prepare the function and print its warnings on stderr."""
    from fnbuild.deploy.pipeline import prepare

    prepared = prepare(request)
    if prepared.report.warnings:
        note(prepared.report.render())
    return prepared


def refuse_url_of_plan(output: str) -> None:
    """Raise `UsageError` if the URL of a plan is asked for."""
    from fnbuild.errors import UsageError

    if output == "url":
        raise UsageError(
            "a plan has no URL: nothing is deployed yet",
            hint="leave out `--dry-run`, or ask for something else: `-o yaml`",
        )


def print_manifests(manifests: tuple[Manifest, ...], output: str) -> None:
    """Print resources in kubectl's formats: YAML documents, or a List as JSON."""
    from fnbuild.cli.output import print_documents, print_value

    if output == "yaml":
        print_documents(manifests)
    else:
        print_value({"apiVersion": "v1", "kind": "List", "items": list(manifests)}, output)


def change_object(change: Change) -> dict[str, Any]:
    """Return a change of a plan for `-o json`, without values of secret variables."""
    from fnbuild.deploy.diff import masked_change

    change = masked_change(change)
    value: dict[str, Any] = {"verb": change.verb, "target": change.target}
    if change.before is not None and change.before != change.after:
        value["before"] = change.before
    if change.after is not None:
        value["after"] = change.after
    return value
