"""`fnbuild package`: functions in the formats of other model servers."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click import option

from fnbuild.cli.base_command import Command, LazyGroup, command_entries
from fnbuild.cli.console import note, warn
from fnbuild.cli.options import combine_options, variant_option
from fnbuild.cli.session import Session, pass_session

if TYPE_CHECKING:
    from fnbuild.bridges.torchserve.export import ExportedArchive, ExportOptions
    from fnbuild.progress import Progress
    from fnbuild.runtime.storage.uris import StorageUri

_FILE = click.Path(path_type=Path, dir_okay=False)
_FOLDER = click.Path(path_type=Path, file_okay=False)
_ALL_ADDRESSES = "0.0.0.0"  # noqa: S104 - of a pod or a container
_PORTS = {"inference": 8082, "management": 8083, "metrics": 8084}

_PACKAGE_COMMANDS = command_entries(
    {
        "torchserve": ("package:torchserve", "Write a model archive (.mar) for TorchServe."),
        "cvat-sdk": ("package_sdk:cvat_sdk", "Write a module for cvat-cli and CVAT's agents."),
        "vision": ("package:vision", "Write fnbuild.vision into a function's folder, for Nuclio."),
    }
)

_archiver_options = combine_options(
    option("--model-name", metavar="NAME", default="", help="Name. [default: the function's]"),
    option("--version", metavar="TEXT", default="", help="Version. [default: the time]"),
    option("--handler", metavar="FILE", default="", help="TorchServe handler; packs files only."),
    option("--serialized-file", type=_FILE, help="Weights, such as model.pt."),
    option("--model-file", type=_FILE, help="Python file with the class of the model."),
    option("--extra-files", metavar="PATH,…", default="", help="Files, patterns and folders."),
    option(
        "--runtime",
        type=click.Choice(["python", "python3", "LSP"]),
        default="python",
        show_default=True,
        help="Runtime of the handler; LSP is C++.",
    ),
    option("-r", "--requirements-file", type=_FILE, help="[default: made from the function]"),
    option("-c", "--config-file", type=_FILE, help="[default: made from the function's trigger]"),
    option("--export-path", type=_FOLDER, help="Folder of the archive. [default: .]"),
    option(
        "--archive-format",
        type=click.Choice(["default", "zip-store", "tgz", "no-archive"]),
        default="default",
        show_default=True,
        help="zip-store does not compress, no-archive writes a folder.",
    ),
    option("-f", "--force", is_flag=True, help="Replace an existing archive."),
)

_server_options = combine_options(
    option("--config-path", type=_FOLDER, help="Write config.properties to this folder."),
    option("--store", metavar="URI", help="Publish to a model store: a folder, s3:// or gs://."),
    option(
        "--keep",
        type=click.IntRange(1),
        default=3,
        show_default=True,
        help="Number of archives to keep in the store; older ones move to its backup.",
    ),
    option(
        "--load-models",
        type=click.Choice(["active", "all"]),
        default="active",
        show_default=True,
        help="Serve only this archive, under the name without version, or the whole folder.",
    ),
    *(
        option(f"--{api}-port", type=click.IntRange(1, 65534), default=port, show_default=True)
        for api, port in _PORTS.items()
    ),
    option("--disable-token-auth", is_flag=True, help="Let clients call without a token."),
    option("--enable-model-api", is_flag=True, help="Let clients register and remove models."),
)


@click.group(cls=LazyGroup, entries=_PACKAGE_COMMANDS)
def package() -> None:
    """Write functions for other model servers."""


@click.command(cls=Command)
@option("-p", "--path", type=click.Path(path_type=Path), help="Folder of the function.")
@variant_option
@_archiver_options
@_server_options
@pass_session
def torchserve(session: Session, /, **flags: Any) -> None:
    """Write a model archive for TorchServe 0.12, and print its path.

    Without --version, the archive is NAME_yymmdd_HHMM.mar, with that model name. With --handler it
    has files as torch-model-archiver packs them, else the function in --path. --store uploads it
    with config.properties to a tree, a folder with `config` and `model-store`.
    """
    from fnbuild.bridges.torchserve.export import ExportOptions
    from fnbuild.cli.progress import ProgressDisplay
    from fnbuild.errors import UsageError
    from fnbuild.models.torchserve_store import stored_archives

    if len({flags[f"{api}_port"] for api in _PORTS}) < len(_PORTS):
        raise UsageError("two APIs have one port", hint="give each `--…-port` another number")
    if flags["store"] and flags["archive_format"] == "no-archive":
        raise UsageError(
            "a store cannot have an archive that is a folder", hint="leave out `--archive-format`"
        )
    names = ExportOptions.__dataclass_fields__
    values = {name: value for name, value in flags.items() if name in names}
    store = _parse_store(flags["store"]) if flags["store"] else None
    with ExitStack() as stack:
        folder = values["export_path"]
        if store is not None and folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            values["stored"] = tuple(stored_archives(store))
        values["export_path"] = folder or Path()
        with ProgressDisplay(whole=session.verbose) as progress:
            archive = _write_archive(ExportOptions(**values), flags, progress)
        for text in archive.warnings:
            warn(text)
        note(f"wrote {archive.path.name} in {progress.seconds:.1f} s")
        if flags["config_path"] is not None:
            note(f"wrote {_write_server_config(archive, flags, flags['config_path'])}")
        if store is not None:
            _publish(archive, store, flags)
        click.echo(archive.path if store is None else store)


@click.command(cls=Command)
@option("-p", "--path", type=_FOLDER, default=".", help="Folder of the function. [default: .]")
def vision(path: Path) -> None:
    """Write fnbuild.vision as one file into a function's folder, and print its path.

    With the file, the function also runs on Nuclio's own processor, deployed by nuctl or CVAT's
    scripts. Write it again after an upgrade of fnbuild.
    """
    from fnbuild.bridges.vision_file import write_vision_file

    click.echo(write_vision_file(path))


def _parse_store(text: str) -> StorageUri:
    from fnbuild.models.uris import parse_storage_uri

    return parse_storage_uri(text if "://" in text else str(Path(text).absolute()))


def _publish(archive: ExportedArchive, store: StorageUri, flags: dict[str, Any]) -> None:
    from fnbuild.cli.progress import ProgressDisplay
    from fnbuild.models.torchserve_store import publish_to_store

    with tempfile.TemporaryDirectory() as folder, ProgressDisplay() as progress:
        config = _write_server_config(archive, flags, Path(folder))
        moved = publish_to_store(store, archive.path, config, flags["keep"], progress)
    for name in moved:
        note(f"moved {name} to the backup")
    note(f"published {archive.path.name}")


def _write_archive(
    options: ExportOptions, flags: dict[str, Any], progress: Progress
) -> ExportedArchive:
    from fnbuild.bridges.torchserve.export import export_files, export_function
    from fnbuild.deploy.artifacts import staged_code
    from fnbuild.errors import UsageError
    from fnbuild.function.reader import load_function

    path = flags["path"]
    if (path is None) == (not options.handler):
        raise UsageError(
            "`fnbuild package torchserve` packs a function or the files of a handler",
            hint="`--path FOLDER` names a function, `--handler FILE --model-name NAME` files",
        )
    if path is None:
        return export_files(options, progress)
    loaded = load_function(path, variant=flags["variant"])
    with staged_code(loaded, None, progress) as artifact:
        return export_function(loaded.function, Path(artifact.reference), options, progress)


def _write_server_config(archive: ExportedArchive, flags: dict[str, Any], folder: Path) -> Path:
    from fnbuild.bridges.torchserve.export import snapshot_settings
    from fnbuild.bridges.torchserve.server_config import CONFIG_NAME, ServerConfig, render
    from fnbuild.errors import InputError
    from fnbuild.platforms.torchserve.configuration import ServerPorts, addresses

    everything = flags["load_models"] == "all"
    settings = snapshot_settings(archive.config, archive.path.name)
    version = archive.manifest.model.model_version
    config = ServerConfig(
        **addresses(_ALL_ADDRESSES, ServerPorts(*(flags[f"{api}_port"] for api in _PORTS))),
        job_queue_size=100,
        install_py_dep_per_model=True,
        disable_token_authorization=flags["disable_token_auth"],
        enable_model_api=flags["enable_model_api"],
        load_models="all" if everything else "",
        snapshot={} if everything else {archive.name: {version: settings}},
    )
    file = folder / CONFIG_NAME
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(render(config))
    except OSError as error:
        raise InputError(f"cannot write {file}: {error.strerror}") from error
    return file
