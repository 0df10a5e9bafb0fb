"""The program: the table of its commands, and the conversion of errors to messages.

This module must not import what commands need: `fnbuild --help` and shell completion load only
this module, `base_command`, `console` and `session`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from fnbuild.cli.base_command import INTERRUPTED, InterruptError, LazyGroup, command_entries
from fnbuild.cli.console import colour_override, note
from fnbuild.cli.session import Session

COMMANDS = {
    **command_entries(
        {
            "init": ("init:init", "Create a function from a template."),
            "validate": ("validate:validate", "Check function.yaml files."),
            "spec": ("spec:spec", "Convert label specs; list label sets."),
            "run": ("run:run", "Run a function in the foreground."),
            "check": ("check:check", "Check a function's replies by CVAT's rules."),
        },
        section="Develop",
    ),
    **command_entries(
        {
            "deploy": ("deploy:deploy", "Build and deploy a function."),
            "build": ("build:build", "Build the image of a function.", "bu"),
            "package": ("package:package", "Write functions in the formats of other servers."),
            "diff": ("deploy:diff", "Show what a deploy would change."),
            "update": ("revisions:update", "Change settings of a deployed function.", "upd"),
            "redeploy": ("revisions:redeploy", "Deploy functions again from their stored code."),
            "rollback": ("revisions:rollback", "Deploy an earlier revision of a function."),
            "history": ("revisions:history", "List the revisions of a function."),
            "prune": ("prune:prune", "Remove images and files that no revision needs."),
        },
        section="Deploy",
    ),
    **command_entries(
        {
            "invoke": ("invoke:invoke", "Call a function and print its reply."),
            "get": ("get:get", "Show functions, projects or the audit log."),
            "logs": ("logs:logs", "Show the log of a function."),
            "sleep": ("sleep:sleep", "Release the memory of a function until its next request."),
            "wake": ("sleep:wake", "Load a sleeping function again."),
            "replay": ("replay:replay", "Compare replies to recorded requests."),
            "record": ("record:record", "List or export the recorded requests of a function."),
            "token": ("token:token", "Manage the tokens by which clients call a function."),
            "port-forward": ("port_forward:port_forward", "Forward a local port to a function."),
            "model": ("model:model", "Upload, list and download models."),
            "torchserve": ("torchserve:torchserve", "Manage models of TorchServe servers."),
            "delete": ("delete:delete", "Delete functions or projects.", "del"),
        },
        section="Use and monitor",
    ),
    **command_entries(
        {
            "create": ("create:create", "Create projects, secrets and volumes.", "cre"),
            "export": ("export:export", "Print functions or projects as YAML or JSON."),
            "import": ("import_:import_", "Import functions or projects from an export."),
            "beta": ("revisions:beta", "Commands that nuctl has under `beta`."),
        },
        section="Projects, export and import",
    ),
    **command_entries(
        {
            "dashboard": ("dashboard:dashboard", "Start the dashboard: Nuclio's API and a page."),
            "doctor": ("doctor:doctor", "Diagnose this machine and its platforms."),
            "up": ("supervisor:up", "Start all functions of the process platform."),
            "down": ("supervisor:down", "Stop all functions of the process platform."),
            "version": ("help:version", "Show the version.", "ver"),
            "completion": ("help:completion", "Print shell completion code."),
            "help": ("help:help_", "Show help for a command."),
        },
        section="This machine and fnbuild",
    ),
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
            color=colour_override(),
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
