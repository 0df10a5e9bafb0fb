"""The program: the table of its commands, and the conversion of errors to messages.

This module must not import what commands need: `fnbuild --help` and shell completion load only
this module, `base_command`, `console` and `session`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from fnbuild.cli.base_command import INTERRUPTED, CommandEntry, InterruptError, LazyGroup
from fnbuild.cli.console import color_override, note
from fnbuild.cli.session import Session

_WRITE = "Develop"
_SHIP = "Deploy"
_WATCH = "Use and monitor"
_KEEP = "Projects, export and import"
_SELF = "This machine and fnbuild"


def _entry(place: str, text: str, *aliases: str, section: str) -> CommandEntry:
    return CommandEntry(f"fnbuild.cli.{place}", text, aliases, section)


COMMANDS = {
    "init": _entry("init:init", "Create a function from a template.", section=_WRITE),
    "validate": _entry("validate:validate", "Check function.yaml files.", section=_WRITE),
    "run": _entry("run:run", "Run a function in the foreground.", section=_WRITE),
    "deploy": _entry("deploy:deploy", "Build and deploy a function.", section=_SHIP),
    "build": _entry("build:build", "Build the image of a function.", "bu", section=_SHIP),
    "diff": _entry("deploy:diff", "Show what a deploy would change.", section=_SHIP),
    "update": _entry(
        "redeploy:update", "Change settings of a deployed function.", "upd", section=_SHIP
    ),
    "redeploy": _entry(
        "redeploy:redeploy", "Deploy functions again from their stored code.", section=_SHIP
    ),
    "rollback": _entry(
        "revisions:rollback", "Deploy an earlier revision of a function.", section=_SHIP
    ),
    "history": _entry("revisions:history", "List the revisions of a function.", section=_SHIP),
    "prune": _entry(
        "prune:prune", "Remove images and files that no revision needs.", section=_SHIP
    ),
    "invoke": _entry("invoke:invoke", "Call a function and print its reply.", section=_WATCH),
    "get": _entry("get:get", "Show functions, projects or the audit log.", section=_WATCH),
    "logs": _entry("logs:logs", "Show the log of a function.", section=_WATCH),
    "delete": _entry("delete:delete", "Delete functions or projects.", "del", section=_WATCH),
    "create": _entry(
        "create:create", "Create a project or a registry secret.", "cre", section=_KEEP
    ),
    "export": _entry(
        "export:export", "Print functions or projects as YAML or JSON.", section=_KEEP
    ),
    "import": _entry(
        "import_:import_", "Import functions or projects from an export.", section=_KEEP
    ),
    "beta": _entry("redeploy:beta", "Commands that nuctl has under `beta`.", section=_KEEP),
    "dashboard": _entry(
        "dashboard:dashboard", "Start the dashboard: Nuclio's API and a web page.", section=_SELF
    ),
    "doctor": _entry("doctor:doctor", "Diagnose this machine and its platforms.", section=_SELF),
    "up": _entry("supervisor:up", "Start all functions of the process platform.", section=_SELF),
    "down": _entry("supervisor:down", "Stop all functions of the process platform.", section=_SELF),
    "version": _entry("help:version", "Show the version.", "ver", section=_SELF),
    "completion": _entry("help:completion", "Print shell completion code.", section=_SELF),
    "help": _entry("help:help_", "Show help for a command.", section=_SELF),
}

_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(
    cls=LazyGroup, entries=COMMANDS, context_settings=_SETTINGS, invoke_without_command=True
)
@click.option("--version", is_flag=True, help="Show the version and exit.")
@click.pass_context
def cli(ctx: click.Context, version: bool) -> None:
    """Deploy computer vision models as services. Compatible with nuctl.

    A function is a folder with function.yaml and main.py. `fnbuild deploy --path FOLDER` deploys
    it as a service; `fnbuild invoke NAME --image FILE --draw OUT` draws its results on an image.
    """
    ctx.ensure_object(Session)
    if version:
        from fnbuild import __version__

        click.echo(f"fnbuild {__version__}")
        ctx.exit(0)
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
        ctx.exit(0)


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit status.

    0: done, 1: failed, 2: wrong usage, 130: interrupted from the keyboard.
    """
    session = Session()
    try:
        status = cli.main(
            list(arguments),
            prog_name="fnbuild",
            standalone_mode=False,
            obj=session,
            color=color_override(),
        )
        sys.stdout.flush()
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except (InterruptError, click.Abort, KeyboardInterrupt):
        note("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of the output is gone. Avoid a second error when the interpreter exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:  # noqa: BLE001 - the outermost handler, which reports every error
        from fnbuild.cli.console import report_error

        # The context provides the options that suggested commands need.
        with click.Context(cli, obj=session).scope():
            return report_error(error, verbose=session.verbose)
    return status if isinstance(status, int) else 0
