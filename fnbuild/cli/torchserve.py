"""`fnbuild torchserve`: the models of TorchServe servers, through their management API.

With several replicas, a change is made in each, because TorchServe's replicas do not know of one
another. Changes last until the next deploy, or until the server starts again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from fnbuild.cli.base_command import Command, LazyGroup, command_entries
from fnbuild.cli.console import note
from fnbuild.cli.options import combine_options, complete_function_name
from fnbuild.cli.output import format_table, output_option, print_value
from fnbuild.cli.session import Session, WholeNumber, pass_session

if TYPE_CHECKING:
    from fnbuild.platforms.torchserve.management import ManagementClient, ModelVersion

_COMMANDS = command_entries(
    {
        "models": ("torchserve:models", "List models and their versions.", "ls"),
        "describe": ("torchserve:describe", "Show a model with its workers."),
        "publish": ("publish:publish", "Package a model and deploy it: a step of a pipeline."),
        "register": ("torchserve:register", "Register an archive of the model store."),
        "scale": ("torchserve:scale", "Set the number of workers of a model."),
        "set-default": ("torchserve:set_default", "Let a version serve requests without one."),
        "token": ("torchserve:token", "Print the token that clients of a function need."),
        "unregister": ("torchserve:unregister", "Unregister a version of a model."),
    }
)
_function_argument = click.argument("name", shell_complete=complete_function_name)
_model_option = click.option(
    "--model", metavar="MODEL", help="Model of the server. [default: the function's name]"
)
_version_argument = click.argument("version")
_model_options = combine_options(
    _model_option, click.option("--version", metavar="VERSION", help="Its version. [default: all]")
)


@click.group(cls=LazyGroup, entries=_COMMANDS)
def torchserve() -> None:
    """Manage the models of a function's TorchServe servers.

    Changes last until the next deploy of the function, or until its server starts again.
    """


@click.command(cls=Command)
@_function_argument
@output_option()
@pass_session
def models(session: Session, /, name: str, output: str) -> None:
    """List the models of the servers of a function, with their versions."""
    with _clients(session, name) as clients:
        _print_versions({client: client.models() for client in clients}, output)


@click.command(cls=Command)
@_function_argument
@_model_options
@output_option(default="yaml")
@pass_session
def describe(
    session: Session, /, name: str, model: str | None, version: str | None, output: str
) -> None:
    """Show a model of a function's servers: its settings, its workers and its queue."""
    with _clients(session, name) as clients:
        versions = {client: client.describe(model or name, version or "all") for client in clients}
        _print_versions(versions, output)


@click.command(cls=Command)
@_function_argument
@click.argument("archive")
@_model_option
@click.option("--workers", type=WholeNumber(min=1), default=1, show_default=True)
@pass_session
def register(session: Session, /, name: str, archive: str, model: str | None, workers: int) -> None:
    """Register ARCHIVE, a file in the model store, and wait for its workers.

    Its batches are those of the model-config.yaml in the archive.
    """
    from fnbuild.bridges.torchserve.export import snapshot_settings

    settings = snapshot_settings({"minWorkers": workers, "maxWorkers": workers}, archive)
    _change(session, name, "register", lambda client: client.register(model or name, settings))


@click.command(cls=Command)
@_function_argument
@click.option("--min-workers", type=WholeNumber(min=0), required=True, metavar="N")
@click.option(
    "--max-workers", type=WholeNumber(min=0), metavar="N", help="[default: the same number]"
)
@click.option("--timeout", type=WholeNumber(min=1), default=120, show_default=True, metavar="S")
@_model_options
@pass_session
def scale(session: Session, /, name: str, min_workers: int, **options: Any) -> None:
    """Set the number of workers of a model, and wait until they run."""
    maximum = min_workers if options["max_workers"] is None else options["max_workers"]
    model, version = options["model"] or name, options["version"] or ""

    def change(client: ManagementClient) -> None:
        client.scale(model, version, min_workers, maximum, options["timeout"])

    _change(session, name, "scale", change)


@click.command(cls=Command)
@_function_argument
@_version_argument
@_model_option
@pass_session
def set_default(session: Session, /, name: str, version: str, model: str | None) -> None:
    """Let VERSION serve the requests that name no version."""
    _change(session, name, "set-default", lambda it: it.set_default(model or name, version))


@click.command(cls=Command)
@_function_argument
@_version_argument
@_model_option
@pass_session
def unregister(session: Session, /, name: str, version: str, model: str | None) -> None:
    """Unregister VERSION of a model; its archive stays in the store."""
    _change(session, name, "unregister", lambda it: it.unregister(model or name, version))


@click.command(cls=Command)
@_function_argument
@pass_session
def token(session: Session, /, name: str) -> None:
    """Print the token of the inference API, for `Authorization: Bearer TOKEN`.

    In a cluster each replica has its own; it is that of the newest one.
    """
    from fnbuild.errors import NotFoundError
    from fnbuild.platforms.torchserve import create_platform

    platform = create_platform(session.connect_options)
    headers = platform.request_headers(platform.deployment(session.namespace, name))
    if not headers:
        raise NotFoundError(f"{name} has no token", hint="with `tokens: false` no client needs one")
    click.echo(headers["Authorization"].removeprefix("Bearer "))


@contextmanager
def _clients(session: Session, name: str, participle: str = "") -> Iterator[list[ManagementClient]]:
    """Provide the servers of a function; during a change, other changes of it are refused."""
    from fnbuild.errors import NotReadyError
    from fnbuild.platforms.torchserve import create_platform

    platform = create_platform(session.connect_options)
    session.platform = platform.name
    with platform.management(session.namespace, name, participle) as clients:
        if not clients:
            raise NotReadyError(
                f"no server of {name} runs", hint=f"`fnbuild logs {name}` says more"
            )
        yield clients


def _change(
    session: Session, name: str, action: str, change: Callable[[ManagementClient], None]
) -> None:
    """Make a change in every replica. The error of one names those that were changed before."""
    from fnbuild.errors import FnbuildError
    from fnbuild.platforms.audit import audited_change
    from fnbuild.platforms.base import FunctionKey

    key = FunctionKey(session.namespace, name)
    with (
        audited_change(f"torchserve {action}", "torchserve", key),
        _clients(session, name, "managed") as clients,
    ):
        changed: list[str] = []
        for client in clients:
            try:
                change(client)
            except FnbuildError as error:
                if changed:
                    error.message += f"; changed before: {', '.join(changed)}"
                raise
            changed.append(client.replica)
    note(f"{action}: done in {len(changed)} of {len(clients)} servers of {name}")


def _print_versions(servers: dict[ManagementClient, list[ModelVersion]], output: str) -> None:
    import msgspec

    versions = [(client, version) for client, items in servers.items() for version in items]
    if output in ("json", "yaml"):
        values = [{"replica": it.replica, **msgspec.to_builtins(item)} for it, item in versions]
        print_value(values, output)
    elif versions:
        rows = [_row(client, version, wide=output == "wide") for client, version in versions]
        click.echo(format_table(list(rows[0]), [list(row.values()) for row in rows]))
    else:
        click.echo("No models found")


def _row(client: ManagementClient, version: ModelVersion, *, wide: bool) -> dict[str, object]:
    [default] = client.describe(version.model_name, "")
    is_default = default.model_version == version.model_version
    row: dict[str, object] = {
        "replica": client.replica,
        "model": version.model_name,
        "version": version.model_version,
        "default": "yes" if is_default else "",
        "archive": version.model_url,
        "workers": f"{version.ready_workers}/{version.min_workers}",
        "state": "ready" if version.is_ready else "unhealthy",
    }
    more = {
        "max workers": version.max_workers,
        "batch size": version.batch_size,
        "batch delay": f"{version.max_batch_delay} ms",
        "timeout": f"{version.response_timeout} s",
        "queue": version.job_queue_status.pending_requests,
        "pids": ", ".join(str(worker.pid) for worker in version.workers),
    }
    return row | more if wide else row
