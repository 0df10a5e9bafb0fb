"""`fnbuild dashboard`: serve Nuclio's dashboard API and a web page for all platforms."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from fnbuild.cli.base_command import Command, LazyGroup, command_entries
from fnbuild.cli.session import Session, pass_session
from fnbuild.names import DEFAULT_PLATFORM

_DASHBOARD_COMMANDS = command_entries(
    {"token": ("dashboard:token", "Create the dashboard's tokens.")}
)


Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def _address_option(*names: str, text: str, **more: Any) -> Callable[[Decorated], Decorated]:
    return click.option(*names, metavar="HOST:PORT", help=text, **more)


@click.group(cls=LazyGroup, entries=_DASHBOARD_COMMANDS, invoke_without_command=True)
@_address_option(
    "--listen",
    "--listen-addr",
    multiple=True,
    envvar="FNBUILD_DASHBOARD_LISTEN",
    text="Address to listen on. Repeatable. [default: 127.0.0.1:8070]",
)
@_address_option(
    "--open",
    "open_",
    multiple=True,
    envvar="FNBUILD_DASHBOARD_OPEN",
    text="Also listen here, and require no token for reading and invoking. Repeatable.",
)
@_address_option(
    "--health",
    envvar="FNBUILD_DASHBOARD_HEALTH",
    text="Address of /live and /ready, or `none`. [default: 127.0.0.1:8082]",
)
@click.option("--read-token", is_flag=True, help="Require a token for reading on all addresses.")
@click.option(
    "--allowed-host",
    "allowed_hosts",
    multiple=True,
    envvar="FNBUILD_DASHBOARD_ALLOWED_HOST",
    metavar="NAME",
    help="Host name that browsers may use. Repeatable.",
)
@click.option(
    "--library",
    envvar="FNBUILD_DASHBOARD_LIBRARY",
    metavar="DIR",
    help="Folder of the function library. [default: fnbuild's own]",
)
@click.option(
    "--config",
    envvar="FNBUILD_DASHBOARD_CONFIG",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Settings, and defaults of functions. Flags take precedence.",
)
@click.option(
    "-r",
    "--registry",
    envvar="NUCLIO_DASHBOARD_REGISTRY_URL",
    metavar="URL",
    help="Registry to push images to.",
)
@click.option(
    "--run-registry",
    envvar="NUCLIO_DASHBOARD_RUN_REGISTRY_URL",
    metavar="URL",
    help="Registry from which nodes pull images.",
)
@click.option(
    "--no-pull",
    is_flag=True,
    envvar="NUCLIO_DASHBOARD_NO_PULL_BASE_IMAGES",
    help="Do not pull base images.",
)
@click.option(
    "--offline", is_flag=True, envvar="NUCLIO_DASHBOARD_OFFLINE", help="Build without the network."
)
@click.option(
    "--external-ip-addresses",
    envvar="NUCLIO_DASHBOARD_EXTERNAL_IP_ADDRESSES",
    metavar="A,B",
    help="Addresses of this machine in the URLs of functions.",
)
@click.option(
    "--show",
    "platforms",
    multiple=True,
    metavar="PLATFORM",
    help="Show the functions of this platform. Repeatable. [default: all available]",
)
@click.option(
    "--sign-in-link/--no-sign-in-link",
    default=None,
    help="Print a single-use link that signs a browser in. [default: on a terminal]",
)
@click.pass_context
def dashboard(ctx: click.Context, /, **flags: Any) -> None:
    """Start the dashboard: Nuclio's API and a web page.

    Reading and invoking need no token on the loopback address. Changes need the token that is
    printed at the first start.
    """
    if ctx.invoked_subcommand is None:
        _serve(ctx.find_object(Session) or Session(), flags)


def _serve(session: Session, flags: dict[str, Any]) -> None:
    from fnbuild.dashboard import server, settings

    config, link = flags.pop("config"), flags.pop("sign_in_link")
    file = settings.read_options(config) if config else settings.DashboardOptions()
    values: dict[str, Any] = {
        "open": list(flags.pop("open_")),
        "external_ip_addresses": _split_list(flags.pop("external_ip_addresses")),
        "platform": _platform(session, file.platform),
        "namespace": _namespace(session, file.namespace),
    }
    for name, value in flags.items():
        if value is not None:
            values[name] = list(value) if isinstance(value, tuple) else value
    server.serve(
        settings.make_settings(settings.DashboardOptions(**values), file, session.connect_options),
        sign_in_link=link,
    )


def _split_list(text: str | None) -> list[str]:
    return [item.strip() for item in (text or "").split(",") if item.strip()]


def _platform(session: Session, configured: str) -> str:
    if session.platform == DEFAULT_PLATFORM and configured:
        session.platform = configured
    if session.platform == "auto":
        session.connect()
    return session.platform


def _namespace(session: Session, configured: str) -> str:
    namespace = session.given_namespace or os.environ.get("NUCLIO_DASHBOARD_NAMESPACE", "")
    return namespace or configured or session.namespace


@click.command(cls=Command)
@click.option("--new", is_flag=True, help="Replace the token, and end its sessions.")
@click.option("--read", "is_read", is_flag=True, help="The token for reading only.")
@pass_session
def token(_: Session, new: bool, is_read: bool) -> None:
    """Create a token of the dashboard and print it.

    Only its digest is stored, so an existing token cannot be printed again.
    """
    from fnbuild.dashboard.auth.tokens import TokenKind, Tokens
    from fnbuild.store import Store

    kind: TokenKind = "read" if is_read else "write"
    with Store.open() as store:
        tokens = Tokens(store)
        click.echo(tokens.renew(kind) if new else tokens.create(kind))
