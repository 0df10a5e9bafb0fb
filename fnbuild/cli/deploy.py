"""`fnbuild deploy`: read, build, run, and say where the function answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import click

from fnbuild.cli.asked import request_of
from fnbuild.cli.console import interactive, note, warn
from fnbuild.cli.flags import (
    build_flags,
    configuration_flags,
    force_conflicts_flag,
    keep_failed_flag,
    source_flags,
)
from fnbuild.cli.lazy import Command, switched_off
from fnbuild.cli.names import function_name, project_name
from fnbuild.cli.output import output_option
from fnbuild.cli.session import Session, pass_session

if TYPE_CHECKING:
    from fnbuild.deploy import DeployRequest, Prepared
    from fnbuild.platforms import Deployment, Manifest, Platform, Step

ENABLE = "`fnbuild update function {} --disable=false` runs it again"


@click.command(cls=Command)
@click.argument("name", required=False, shell_complete=function_name)
@source_flags
@click.option(
    "--project-name",
    metavar="NAME",
    shell_complete=project_name,
    help="Project of the function; made when missing.",
)
@output_option("name", "url", default="table")
@click.option(
    "--recursive",
    is_flag=True,
    help="Deploy every function below PATH; FILE is then a name: 'function-gpu.yaml'.",
)
@click.option("--dry-run", is_flag=True, help="Print the plan and change nothing.")
@click.option("--strict", is_flag=True, help="Unknown keys are errors.")
@click.option("--force", is_flag=True, help="Deploy although nothing changed.")
@click.option(
    "--overlap", is_flag=True, help="Start the new workers beside the old ones, GPU or not."
)
@click.option(
    "--monitoring",
    is_flag=True,
    help="With --dry-run -o yaml on a cluster: print a PodMonitor, too.",
)
@keep_failed_flag
@force_conflicts_flag
@click.option(
    "--listen",
    metavar="HOSTS",
    help="Where to listen: loopback, docker, IPv4 addresses. [default: loopback; containers: both]",
)
@build_flags
@configuration_flags
@click.option("--input-image-file", metavar="FILE", help="Image archive to load and deploy.")
@pass_session
@click.pass_context
def deploy(ctx: click.Context, session: Session, /, **flags: Any) -> None:
    """Build and deploy a function, and wait until it is ready.

    Flags win over the file, and the file over the `@nuclio.configure` block in the source. What
    runs already keeps running until the new revision is ready.
    """
    flags["enabled"] = switched_off(ctx, "disable")
    if flags["monitoring"] and not (flags["dry_run"] and flags["output"] in ("json", "yaml")):
        raise click.UsageError("--monitoring prints a PodMonitor: it needs --dry-run and -o yaml")
    if flags["recursive"]:
        from fnbuild.cli.recursive import deploy_below

        deploy_below(ctx, session, flags)
        return
    with request_of(session, flags) as request:
        if flags["dry_run"]:
            _show_plan(request, flags["output"])
        else:
            _deploy(session, request, flags["output"])


@contextmanager
def still_serving(platform: Platform, namespace: str, name: str) -> Iterator[None]:
    """Add to the failure of a build what runs in spite of it; later ones say so themselves."""
    from fnbuild.errors import BuildError, FnbuildError

    try:
        yield
    except BuildError as error:
        with suppress(FnbuildError):
            left = platform.deployment(namespace, name)
            if left.revision and left.replicas[0]:
                serves = f"revision {left.revision} goes on serving"
                error.hint = f"{error.hint}; {serves}" if error.hint else serves
        raise


def say_deployed(made: Deployment, seconds: float | None = None) -> None:
    """The end of a deploy, on stderr: warnings, state, address."""
    for text in made.warnings:
        warn(text)
    took = f" in {seconds:.1f} s" if seconds is not None else ""
    where = f" at {made.url}" if made.url else ""
    note(f"{made.name} is {made.state}{where} (revision {made.revision}{took})")
    if made.state == "standby":
        note(f"it is disabled; {ENABLE.format(made.name)}")


def print_deployed(made: Deployment, output: str) -> None:
    """The result on stdout."""
    from fnbuild.cli.listing import show_functions

    if output == "name":
        click.echo(made.name)
    elif output == "url":
        click.echo(made.url)
    else:
        show_functions([made], output, explain=False)


def say_findings(request: DeployRequest) -> Prepared:
    """Read the configuration once more for its warnings, on stderr; its errors are raised."""
    from fnbuild.deploy import prepare

    prepared = prepare(request)
    if prepared.report.warnings:
        note(prepared.report.render())
    return prepared


def _deploy(session: Session, request: DeployRequest, output: str) -> None:
    from fnbuild import deploy as pipeline
    from fnbuild.cli.progress import Progress

    prepared = say_findings(request)
    platform, name = session.connect(), prepared.function.metadata.name
    with (
        Progress(whole=session.verbose) as progress,
        still_serving(platform, session.namespace, name),
    ):
        made = pipeline.deploy(request, progress)
    say_deployed(made, progress.seconds)
    print_deployed(made, output)


def _show_plan(request: DeployRequest, output: str) -> None:
    from fnbuild import deploy as pipeline
    from fnbuild.cli.output import show_value, table
    from fnbuild.errors import UsageError

    if output == "url":
        raise UsageError(
            "a plan has no URL: nothing is deployed yet",
            hint="leave out `--dry-run`, or ask for something else: `-o yaml`",
        )
    say_findings(request)
    made = pipeline.plan(request)
    for text in made.warnings:
        warn(text)
    if output in ("json", "yaml") and made.manifests:
        show_manifests(made.manifests, output)
        for text in made.needs:
            note(text)
    elif output in ("json", "yaml"):
        show_value([step_object(step) for step in made.steps], output)
    elif output == "name":
        click.echo(made.function.metadata.name)
    else:
        rows = [[step.verb, step.target] for step in made.steps]
        click.echo(table(["change", "what"], rows))
    if interactive() and output == "table" and made.changes:
        note("nothing was changed; `fnbuild diff` shows the differences")


def show_manifests(manifests: tuple[Manifest, ...], output: str) -> None:
    """Resources as kubectl takes them: YAML documents, or a List as JSON."""
    from fnbuild.cli.output import show_documents, show_value

    if output == "yaml":
        show_documents(manifests)
    else:
        show_value({"apiVersion": "v1", "kind": "List", "items": list(manifests)}, output)


def step_object(step: Step) -> dict[str, Any]:
    """A step of a plan as `-o json` has it, without values of secret variables."""
    from fnbuild.difference import masked

    step = masked(step)
    shown: dict[str, Any] = {"verb": step.verb, "target": step.target}
    if step.before is not None and step.before != step.after:
        shown["before"] = step.before
    if step.after is not None:
        shown["after"] = step.after
    return shown
