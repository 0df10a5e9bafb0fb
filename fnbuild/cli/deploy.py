"""`fnbuild deploy` and `fnbuild diff`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from fnbuild.cli.base_command import Command, is_switched_off
from fnbuild.cli.console import is_interactive, note, warn
from fnbuild.cli.deploy_output import (
    change_object,
    hinting_at_running_revision,
    prepare_and_warn,
    print_deployment,
    print_manifests,
    refuse_url_of_plan,
    report_deployment,
)
from fnbuild.cli.deploy_request import open_request
from fnbuild.cli.options import (
    build_options,
    complete_function_name,
    complete_project_name,
    configuration_options,
    force_conflicts_option,
    keep_failed_option,
    source_options,
)
from fnbuild.cli.output import output_option
from fnbuild.cli.session import Session, pass_session

if TYPE_CHECKING:
    from fnbuild.deploy.pipeline import DeployRequest


@click.command(cls=Command)
@click.argument("name", required=False, shell_complete=complete_function_name)
@source_options
@click.option(
    "--project-name",
    metavar="NAME",
    shell_complete=complete_project_name,
    help="Project of the function, created if necessary.",
)
@output_option("name", "url")
@click.option(
    "--recursive",
    is_flag=True,
    help="Deploy all functions below PATH. --file is then a file name: 'function-gpu.yaml'.",
)
@click.option("--dry-run", is_flag=True, help="Print the plan without applying it.")
@click.option("--strict", is_flag=True, help="Treat unknown keys as errors.")
@click.option("--force", is_flag=True, help="Deploy even if nothing has changed.")
@click.option("--overlap", is_flag=True, help="Do not stop the old workers first, even with a GPU.")
@click.option(
    "--monitoring",
    is_flag=True,
    help="With --dry-run -o yaml and a cluster, also print a PodMonitor.",
)
@keep_failed_option
@force_conflicts_option
@click.option(
    "--listen",
    metavar="HOSTS",
    help="Addresses to listen on: loopback, docker, IPv4 addresses. "
    "[default: loopback; containers: both]",
)
@click.option(
    "--open",
    "open_",
    is_flag=True,
    help="State that all clients may call it: no credentials, no checks of Host and Origin.",
)
@click.option(
    "--canary-replay",
    metavar="LIMIT",
    is_flag=False,
    flag_value="0",
    help="Send the recorded requests to the new revision first, and refuse it if more replies "
    "than LIMIT (such as 3 or 5%) differ from the recorded ones.",
)
@build_options
@configuration_options
@click.option("--input-image-file", metavar="FILE", help="Load and deploy an image archive.")
@pass_session
@click.pass_context
def deploy(ctx: click.Context, session: Session, /, **flags: Any) -> None:
    """Build and deploy a function, and wait until it is ready.

    Flags take precedence over the file, and the file over the `@nuclio.configure` block in the
    source. The current revision runs until the new one is ready.
    """
    flags["enabled"] = is_switched_off(ctx, "disable")
    if flags["monitoring"] and not (flags["dry_run"] and flags["output"] in ("json", "yaml")):
        raise click.UsageError("--monitoring prints a PodMonitor: it needs --dry-run and -o yaml")
    if flags["canary_replay"] and (flags["recursive"] or flags["dry_run"]):
        raise click.UsageError("--canary-replay needs a deploy of one function")
    if flags["recursive"]:
        from fnbuild.cli.deploy_recursive import deploy_recursively

        deploy_recursively(ctx, session, flags)
        return
    with open_request(session, flags) as request:
        if flags["dry_run"]:
            _print_plan(request, flags["output"])
        else:
            _deploy(session, _with_canary(session, request, flags), flags["output"])


def _deploy(session: Session, request: DeployRequest, output: str) -> None:
    from fnbuild.cli.progress import ProgressDisplay
    from fnbuild.deploy import pipeline

    prepared = prepare_and_warn(request)
    platform, name = session.connect(), prepared.function.metadata.name
    with (
        ProgressDisplay(whole=session.verbose) as progress,
        hinting_at_running_revision(platform, session.namespace, name),
    ):
        deployment = pipeline.deploy(request, progress, prepared)
    report_deployment(deployment, progress.seconds)
    print_deployment(deployment, output)


def _with_canary(session: Session, request: DeployRequest, flags: dict[str, Any]) -> DeployRequest:
    if not flags["canary_replay"]:
        return request
    from fnbuild.cli.canary import canary_check

    return replace(request, check=canary_check(flags["canary_replay"], session.connect()))


def _print_plan(request: DeployRequest, output: str) -> None:
    from fnbuild.cli.output import format_table, print_value
    from fnbuild.deploy import pipeline

    refuse_url_of_plan(output)
    plan = pipeline.plan(request, prepare_and_warn(request))
    for text in plan.warnings:
        warn(text)
    for text in plan.explanations:
        note(text)
    if output in ("json", "yaml") and plan.manifests:
        print_manifests(plan.manifests, output)
        for text in plan.prerequisites:
            note(text)
    elif output in ("json", "yaml"):
        print_value([change_object(change) for change in plan.changes], output)
    elif output == "name":
        click.echo(plan.function.metadata.name)
    else:
        rows = [[change.verb, change.target] for change in plan.changes]
        click.echo(format_table(["change", "what"], rows))
    if is_interactive() and output == "table" and plan.effective_changes:
        note("nothing was changed; `fnbuild diff` shows the differences")


_DIFF_COLOURS = {"+": "green", "-": "red", "@": "cyan"}


@click.command(cls=Command)
@click.argument("name", required=False, shell_complete=complete_function_name)
@source_options
@click.option("--project-name", metavar="NAME", help="Project of the function.")
@click.option(
    "--exit-code",
    is_flag=True,
    help="Exit with status 1 if there are differences, and 2 if they cannot be determined.",
)
@build_options
@configuration_options
@pass_session
@click.pass_context
def diff(ctx: click.Context, session: Session, /, **flags: Any) -> None:
    """Compare the running function with what a deploy with the same flags would run."""
    from fnbuild.cli.console import print_error
    from fnbuild.deploy import pipeline
    from fnbuild.errors import FnbuildError

    try:
        with open_request(session, flags) as request:
            difference = pipeline.diff(request)
    except FnbuildError as error:
        if not flags["exit_code"]:
            raise
        # As in git, status 1 means differences only.
        print_error(error)
        ctx.exit(2)
    plan, text = difference.plan, difference.text
    for warning in plan.warnings:
        warn(warning)
    for line in text.split("\n")[:-1]:
        click.echo(click.style(line, fg=_DIFF_COLOURS.get(line[:1])))
    if not text:
        note(f"no differences: {plan.function.metadata.name} runs what is here")
    elif flags["exit_code"]:
        ctx.exit(1)
