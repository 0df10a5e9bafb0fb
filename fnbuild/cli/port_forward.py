"""`fnbuild port-forward`: a port of this machine that leads to a function in a cluster."""

from __future__ import annotations

import threading

import click

from fnbuild.cli.base_command import INTERRUPTED, Command
from fnbuild.cli.console import note
from fnbuild.cli.options import complete_function_name
from fnbuild.cli.session import Session, pass_session

_MAX_PORT = 65535


@click.command(cls=Command)
@click.argument("name", shell_complete=complete_function_name)
@click.argument("ports", required=False, metavar="[LOCAL:REMOTE]", default="8080:8080")
@pass_session
@click.pass_context
def port_forward(ctx: click.Context, session: Session, /, name: str, ports: str) -> None:
    """Forward a port of this machine to a function until Ctrl-C.

    The default is 8080:8080. One number stands for both ports, and a local port of 0 is any free
    one. Only this machine can use the port.
    """
    local_port, port = _parse_ports(ports)
    platform = session.connect()
    deployment = platform.deployment(session.namespace, name)
    with platform.forward_port(deployment, local_port, port) as url:
        click.echo(url)
        note(f"{url} leads to port {port} of {name}; Ctrl-C ends it")
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)


def _parse_ports(text: str) -> tuple[int, int]:
    """Return the local and the remote port. Raises `UsageError`."""
    local, colon, remote = text.partition(":")
    numbers = [int(part) for part in (local, remote if colon else local) if part.isdecimal()]
    if len(numbers) != 2 or max(numbers) > _MAX_PORT or numbers[1] == 0:
        raise click.UsageError(
            f"{text!r} is no pair of ports: LOCAL:REMOTE, as in 8081:8080, or one number for both"
        )
    return numbers[0], numbers[1]
