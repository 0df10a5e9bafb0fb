"""`fnbuild update function`: change the stored configuration and run the stored code with it."""

from __future__ import annotations

from typing import Any

import click

from fnbuild.cli.asked import options_of
from fnbuild.cli.deploy import print_deployed, say_deployed, still_serving
from fnbuild.cli.flags import (
    build_flags,
    configuration_flags,
    force_conflicts_flag,
    keep_failed_flag,
)
from fnbuild.cli.lazy import Command, Entry, LazyGroup, switched_off
from fnbuild.cli.names import function_name
from fnbuild.cli.output import output_option
from fnbuild.cli.session import Session, pass_session

_ENTRIES = {
    "function": Entry(
        "fnbuild.cli.update:function", "Update a function.", ("functions", "fu", "fn")
    )
}


@click.group(cls=LazyGroup, entries=_ENTRIES)
def update() -> None:
    """Update a deployed function without its folder."""


@click.command(cls=Command)
@click.argument("name", shell_complete=function_name)
@output_option("name", "url")
@keep_failed_flag
@force_conflicts_flag
@build_flags
@configuration_flags
@pass_session
@click.pass_context
def function(ctx: click.Context, session: Session, /, name: str, output: str, **flags: Any) -> None:
    """Redeploy a function from its recorded code, with the flags joined to its configuration.

    A function that is disabled runs again with `--disable=false`.
    """
    from fnbuild import deploy as pipeline
    from fnbuild.cli.overrides import overrides
    from fnbuild.cli.progress import Progress

    request = pipeline.DeployRequest(
        name=name,
        namespace=session.namespace,
        overrides=overrides(flags),
        enabled=switched_off(ctx, "disable"),
        options=options_of(flags),
    )
    platform = session.connect()
    with Progress() as progress, still_serving(platform, session.namespace, name):
        made = pipeline.update(platform, request, progress)
    say_deployed(made, progress.seconds)
    print_deployed(made, output)
