"""`fnbuild package cvat-sdk`: functions as modules of cvat-sdk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fnbuild.cli.base_command import Command
from fnbuild.cli.console import note
from fnbuild.cli.options import variant_option
from fnbuild.cli.session import Session, pass_session

if TYPE_CHECKING:
    from fnbuild.bridges.sdk_module import FunctionLocation
    from fnbuild.function.types import Function


@click.command(cls=Command)
@click.argument("name", required=False, metavar="[NAME|URL]")
@click.option("-p", "--path", type=click.Path(path_type=Path), help="Folder of the function.")
@variant_option
@click.option("--url", metavar="URL", default="", help="Address of the function for the module.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File. [default: NAME.py]")
@click.option("-f", "--force", is_flag=True, help="Replace an existing file.")
@pass_session
def cvat_sdk(
    session: Session,
    /,
    name: str | None,
    *,
    path: Path | None,
    url: str,
    variant: str | None,
    **target: Any,
) -> None:
    """Write a module that cvat-cli loads with --function-file, and print its path.

    The module calls the function at its URL; NAME is a deployed function. With --path it calls the
    handler in that folder in the process of cvat-cli, or the function at --url. `cvat-cli task
    auto-annotate` annotates a task with it, and `cvat-cli function run-agent` serves CVAT Online.
    """
    from fnbuild.bridges.sdk_module import module_text
    from fnbuild.errors import ConflictError, InputError, UsageError

    if (name is None) == (path is None):
        raise UsageError(
            "`fnbuild package cvat-sdk` takes a deployed function or a folder",
            hint="give a NAME, or `--path FOLDER`",
        )
    function, location = (
        _function_in_folder(path, variant, url) if path else _deployed(session, str(name), url)
    )
    text = module_text(function, location)
    file = target["output"] or Path(f"{function.metadata.name.replace('-', '_')}.py")
    if file.exists() and not target["force"]:
        raise ConflictError(f"{file} exists", hint="`--force` replaces it")
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write {file}: {error.strerror}") from None
    note(f"next: cvat-cli function create-native NAME --function-file {file}")
    click.echo(file)


def _function_in_folder(
    path: Path, variant: str | None, url: str
) -> tuple[Function, FunctionLocation]:
    from fnbuild.bridges.sdk_module import FunctionLocation
    from fnbuild.function.reader import load_function

    loaded = load_function(path, variant=variant)
    folder = path if path.is_dir() else path.parent
    return loaded.function, FunctionLocation(None if url else folder, url)


def _deployed(session: Session, name: str, url: str) -> tuple[Function, FunctionLocation]:
    """Return a deployed function, by its name or its URL."""
    from fnbuild.bridges.sdk_module import FunctionLocation
    from fnbuild.cli.invoke import deployment_to_call
    from fnbuild.errors import InputError

    own_url = name if "://" in name else None
    deployment = deployment_to_call(
        session.connect(), session.namespace, None if own_url else name, own_url
    )
    if not deployment.name:
        raise InputError(
            f"no function is deployed at {name}, so its labels are not known",
            hint=f"`--path FOLDER --url {name}` names the function's folder",
        )
    if not (url or deployment.url):
        raise InputError(f"{name} has no address", hint="`--url URL` is where it can be reached")
    return deployment.function, FunctionLocation(url=url or deployment.url)
