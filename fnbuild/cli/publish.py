"""`fnbuild torchserve publish`: the deploy step of a pipeline."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import click
from click import option

from fnbuild.cli.base_command import Command
from fnbuild.cli.session import Session, pass_session

_FOLDER = click.Path(path_type=Path, file_okay=False)
_PORT = click.IntRange(1, 65535)
_STORE = Path("/deploy-model")
_CONFIG = "function.yaml"
# `os.path.ismount` overlooks folders of the same file system.
_MOUNTS = Path("/proc/self/mountinfo")


@click.command(cls=Command)
@click.argument("name")
@option("--handler", metavar="PATH", required=True, help="TorchServe handler, or function folder.")
@option(
    "--model-dir",
    type=_FOLDER,
    default=Path(),
    help="Folder of the model; files that are not there are relative to the working directory.",
)
@option("--serialized-file", metavar="FILE", default="", help="Weights, such as model.pt.")
@option("--extra-files", metavar="FILE", multiple=True, help="Another file. Repeatable.")
@option("--requirements-file", metavar="FILE", default="", help="Packages of the handler.")
@option(
    "-f",
    "--file",
    type=click.Path(path_type=Path),
    help="[default: function.yaml beside the handler]",
)
@option("--export-path", type=_FOLDER, default=_STORE / "model-store", show_default=True)
@option("--config-path", type=_FOLDER, default=_STORE / "config", show_default=True)
@option("--claim", metavar="NAME", default="serving-model-pvc", show_default=True)
@option("--keep", type=click.IntRange(1), default=3, show_default=True, help="Archives to serve.")
@option("--inference-port", type=_PORT, default=8082, show_default=True)
@option("--management-port", type=_PORT, default=8083, show_default=True)
@option("--metrics-port", type=_PORT, default=8084, show_default=True)
@option("--deployment-name", metavar="NAME", default="", help="[default: NAME]")
@option("--service-name", metavar="NAME", default="", help="[default: NAME]")
@pass_session
@click.pass_context
def publish(ctx: click.Context, session: Session, /, name: str, **flags: Any) -> None:
    """Package a model with its handler, deploy it to TorchServe, and wait until it serves.

    The claim of the model store is mounted here: --export-path is its folder model-store, and
    --config-path its folder config. Files of a model replace those of a function's folder.
    """
    from fnbuild import trees
    from fnbuild.cli.deploy import deploy

    session.platform = "torchserve"
    settings = {"attributes": {"torchserve": _settings(flags)}}
    with trees.temporary_folder("fnbuild-publish-") as folder:
        ctx.invoke(
            deploy,
            name=name,
            path=str(_collect_files(name, folder, flags)),
            config_file=flags["file"],
            platform_config=json.dumps(settings),
        )


def _settings(flags: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of the function for TorchServe."""
    from fnbuild.errors import UsageError

    store, config = (flags[key].absolute() for key in ("export_path", "config_path"))
    root = store.parent
    if (root / "model-store", root / "config") != (store, config):
        raise UsageError(
            f"{store} and {config} are not of one model store",
            hint="they are the folders `model-store` and `config` of the mounted claim",
        )
    mounts = {line.split()[4] for line in _MOUNTS.read_text().splitlines()}
    mount = next(place for place in (root, *root.parents) if str(place) in mounts)
    if mount == Path(mount.anchor):
        raise UsageError(
            f"no volume is mounted at {root}", hint="mount the claim of the model store there"
        )
    return {
        "store": f"pvc://{flags['claim']}/{root.relative_to(mount)}".removesuffix("/."),
        "storeMount": str(mount),
        "loadModels": "all",
        "keep": flags["keep"],
        "ports": {api: flags[f"{api}_port"] for api in ("inference", "management", "metrics")},
        "deploymentName": flags["deployment_name"],
        "serviceName": flags["service_name"],
    }


def _collect_files(name: str, folder: Path, flags: dict[str, Any]) -> Path:
    """Return a folder with the files of the model and its handler, as a function."""
    from fnbuild.bridges.torchserve.export import ExportOptions, export_files
    from fnbuild.cli.discovery import is_function_folder

    source = Path(flags["handler"])
    folders = [*dict.fromkeys((flags["model_dir"], Path()))]
    weights, requirements = (
        _find_file(flags[key], folders) if flags[key] else None
        for key in ("serialized_file", "requirements_file")
    )
    extra_files = [_find_file(file, folders) for file in flags["extra_files"] if file]
    if is_function_folder(source):
        target = folder / name
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        for path in filter(None, (weights, requirements, *extra_files)):
            if path.is_dir():
                shutil.copytree(path, target, dirs_exist_ok=True)
            else:
                shutil.copy(path, target)
        return target
    options = ExportOptions(
        export_path=folder,
        model_name=name,
        handler=flags["handler"],
        serialized_file=weights,
        extra_files=",".join(map(str, extra_files)),
        requirements_file=requirements,
        archive_format="no-archive",
    )
    target = export_files(options).path
    config = source.with_name(_CONFIG)
    # The handler of the archive is that of its manifest.
    text = config.read_text() if config.is_file() else "spec: {handler: 'handler:handle'}\n"
    (target / _CONFIG).write_text(text)
    return target


def _find_file(name: str, folders: list[Path]) -> Path:
    from fnbuild.errors import NotFoundError

    for folder in folders:
        if (path := folder / name).exists():
            return path
    listed = " and ".join(str(folder.absolute()) for folder in folders)
    raise NotFoundError(
        f"there is no {name} in {listed}",
        hint="`--model-dir` is the folder of the model; leave out files that it does not have",
    )
