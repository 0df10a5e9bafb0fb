"""Commands that work from recorded revisions: history, rollback, redeploy and update.

`redeploy` is `beta redeploy` in nuctl.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from fnbuild.cli.base_command import Command, LazyGroup, command_entries, is_switched_off
from fnbuild.cli.console import note
from fnbuild.cli.deploy_output import (
    hinting_at_running_revision,
    print_deployment,
    report_deployment,
)
from fnbuild.cli.deploy_request import plan_options
from fnbuild.cli.options import (
    build_options,
    complete_function_name,
    configuration_options,
    force_conflicts_option,
    keep_failed_option,
    report_options,
)
from fnbuild.cli.output import output_option
from fnbuild.cli.session import Session, WholeNumber, pass_session

if TYPE_CHECKING:
    from fnbuild.platforms import Deployment, Platform


@click.command(cls=Command)
@click.argument("name", shell_complete=complete_function_name)
@output_option()
@pass_session
def history(session: Session, name: str, output: str) -> None:
    """List the recorded revisions of a function, newest first."""
    from fnbuild.cli.listing import summary_line
    from fnbuild.cli.output import format_table, print_value
    from fnbuild.function.types import to_dict

    platform = session.connect()
    platform.deployment(session.namespace, name)
    revisions = platform.revisions(session.namespace, name)
    if output in ("json", "yaml"):
        values = [
            {
                "revision": revision.number,
                "created": revision.created,
                "state": revision.state,
                "digest": revision.digest,
                "message": revision.message,
                "function": to_dict(revision.function),
            }
            for revision in revisions
        ]
        print_value(values, output)
        return
    wide = output == "wide"
    rows = [
        [
            revision.number,
            revision.state,
            revision.created,
            revision.digest if wide else revision.digest[:12],
            revision.message if wide else summary_line(revision.message),
        ]
        for revision in revisions
    ]
    click.echo(format_table(["revision", "state", "created", "digest", "message"], rows))


@click.command(cls=Command)
@click.argument("name", shell_complete=complete_function_name)
@click.argument("revision", type=WholeNumber(min=1), required=False)
@force_conflicts_option
@output_option("name", "url")
@pass_session
def rollback(
    session: Session, name: str, revision: int | None, output: str, *, force_conflicts: bool
) -> None:
    """Deploy an earlier revision of a function.

    The default is the newest earlier revision that differs from the current code and was ready.
    """
    from fnbuild.cli.progress import ProgressDisplay

    platform = session.connect()
    with ProgressDisplay() as progress:
        deployment = platform.rollback(
            session.namespace, name, revision, progress, force_conflicts=force_conflicts
        )
    report_deployment(deployment, progress.seconds)
    print_deployment(deployment, output)


_BETA_COMMANDS = command_entries({"redeploy": ("revisions:redeploy", "Deploy functions again.")})


@click.group(cls=LazyGroup, entries=_BETA_COMMANDS)
def beta() -> None:
    """Commands that nuctl has under `beta`."""


@click.command(cls=Command)
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=complete_function_name)
@click.option("--imported-only", is_flag=True, help="Only imported functions.")
@click.option("--exclude-projects", multiple=True, metavar="NAME", help="Exclude a project.")
@click.option("--exclude-functions", multiple=True, metavar="NAME", help="Exclude a function.")
@click.option("--exclude-functions-with-gpu", is_flag=True, help="Exclude functions with a GPU.")
@report_options("nuctl-redeploy-report.json")
@force_conflicts_option
@click.option("--api-url", metavar="URL", hidden=True)
@click.option("-w", "--wait", is_flag=True, hidden=True, expose_value=False)
@click.option("--wait-timeout", metavar="DURATION", hidden=True, expose_value=False)
@pass_session
@click.pass_context
def redeploy(ctx: click.Context, session: Session, /, names: tuple[str, ...], **flags: Any) -> None:
    """Deploy functions again from their stored code: NAME…, or all in the namespace."""
    from fnbuild.cli.batch import finish_batch, run_batch
    from fnbuild.cli.deploy_output import ENABLE_HINT

    if flags["api_url"]:
        note("--api-url is not used: the platform is asked directly")
    platform = session.connect()
    chosen = _choose_functions(platform, session.namespace, names, flags)
    if not chosen:
        note("no functions to redeploy")

    def redeploy_function(name: str) -> None:
        deployment = platform.redeploy(
            session.namespace, name, lambda _: None, force_conflicts=flags["force_conflicts"]
        )
        for text in deployment.warnings:
            note(f"warning: {name}: {text}")
        note(f"{name} is {deployment.state}")
        if deployment.state == "standby":
            note(f"it is disabled; {ENABLE_HINT.format(name)}")

    results = run_batch(chosen, redeploy_function, session.concurrency)
    failures = {name: result.failure for name, result in zip(chosen, results, strict=True)}
    finish_batch(ctx, failures, flags)


def _choose_functions(
    platform: Platform, namespace: str, names: tuple[str, ...], flags: dict[str, Any]
) -> list[str]:
    if names:
        return [platform.deployment(namespace, name).name for name in names]
    deployments = platform.deployments(namespace)
    return [deployment.name for deployment in deployments if _is_selected(deployment, flags)]


def _is_selected(deployment: Deployment, flags: dict[str, Any]) -> bool:
    from fnbuild.names import PROJECT_LABEL

    spec = deployment.function.spec
    return not (
        (flags["imported_only"] and deployment.state != "imported")
        or deployment.name in flags["exclude_functions"]
        or deployment.function.metadata.labels.get(PROJECT_LABEL) in flags["exclude_projects"]
        or (flags["exclude_functions_with_gpu"] and "nvidia.com/gpu" in spec.resources.limits)
        or (spec.disable and not flags["imported_only"])
    )


_UPDATE_COMMANDS = command_entries(
    {"function": ("revisions:update_function", "Update a function.", "functions", "fu", "fn")}
)


@click.group(cls=LazyGroup, entries=_UPDATE_COMMANDS)
def update() -> None:
    """Change settings of a deployed function without its folder."""


@click.command(cls=Command)
@click.argument("name", shell_complete=complete_function_name)
@output_option("name", "url")
@keep_failed_option
@force_conflicts_option
@build_options
@configuration_options
@pass_session
@click.pass_context
def update_function(
    ctx: click.Context, session: Session, /, name: str, output: str, **flags: Any
) -> None:
    """Deploy a function again from its stored code, with the flags merged into its configuration.

    `--disable=false` starts a disabled function.
    """
    from fnbuild.cli.overrides import function_overrides
    from fnbuild.cli.progress import ProgressDisplay
    from fnbuild.deploy import pipeline

    request = pipeline.DeployRequest(
        name=name,
        namespace=session.namespace,
        overrides=function_overrides(flags, session.platform),
        enabled=is_switched_off(ctx, "disable"),
        options=plan_options(flags),
    )
    platform = session.connect()
    with (
        ProgressDisplay() as progress,
        hinting_at_running_revision(platform, session.namespace, name),
    ):
        deployment = pipeline.update(platform, request, progress)
    report_deployment(deployment, progress.seconds)
    print_deployment(deployment, output)
