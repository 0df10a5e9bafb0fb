"""Plan the import of a TorchServe server's tree: a function for each version of a model.

The default version gets the model's name, any other one NAME-VERSION, after the paths
/predictions/NAME and /predictions/NAME/VERSION of their clients.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain, count
from pathlib import Path
from typing import NamedTuple

from fnbuild.bridges.torchserve.archive import read_manifest
from fnbuild.bridges.torchserve.config_file import ConfigFile
from fnbuild.bridges.torchserve.import_archive import ImportOptions, function_name
from fnbuild.bridges.torchserve.model_store import (
    LoadedFile,
    ModelTree,
    loaded_files,
    require_servable,
)
from fnbuild.bridges.torchserve.server_config import IMPORTED_KEYS, parse
from fnbuild.errors import InputError
from fnbuild.function.files import display_path


class PlannedImport(NamedTuple):
    archive: Path
    options: ImportOptions


class TreePlan(NamedTuple):
    """The archives to import, and notes about what the functions will not have."""

    imports: list[PlannedImport]
    notes: list[str]


def plan_tree(path: Path) -> TreePlan:
    """Return the plan for a configuration with the store beside it.

    Raises `ConfigError` if the server would not start, and `InputError` without a store.
    """
    require_servable(path)
    config, tree = ConfigFile(path), ModelTree(path)
    if not tree.archives:
        raise InputError(
            f"{display_path(path)} has no archives beside it",
            hint="import a folder with `config` and `model-store`",
        )
    imports = sorted(_imports(config, tree), key=lambda item: item.options.function_name)
    return TreePlan(imports, list(_notes(config)))


def _imports(config: ConfigFile, tree: ModelTree) -> Iterator[PlannedImport]:
    """Yield the models that the server loads; all of the store if it loads none."""
    server = parse(config.text, display_path(config.path))
    archives = tree.archives
    defaults = {(entry.name, entry.version): entry.settings for entry in config.models("models")}
    loaded = [item for item in loaded_files(server, tree) if item.file in archives]
    models: list[tuple[LoadedFile, str]] = []
    for item in loaded or [LoadedFile("", file) for file in archives]:
        model = read_manifest(archives[item.file]).model
        models.append((item._replace(name=item.name or model.model_name), model.model_version))
    names: set[str] = set()
    # The first one of a name gets it: the default version, or else the newest.
    for item, version in sorted(models, key=_precedence, reverse=True):
        base = function_name(item.name)
        full_name = function_name(f"{base}-{version}".replace("_", "-"))
        numbered = (f"{full_name}-{number}" for number in count(2))
        name = next(name for name in chain((base, full_name), numbered) if name not in names)
        names.add(name)
        yield PlannedImport(
            archives[item.file],
            ImportOptions(
                model_name=item.name,
                function_name=name,
                settings=item.settings,
                defaults=defaults.get((item.name, version), {}),
                server=server,
            ),
        )


def _precedence(model: tuple[LoadedFile, str]) -> tuple[bool, list[tuple[str, int]]]:
    """Return a key that orders models by default version and version."""
    (_, _, settings), version = model
    parts = re.findall(r"(\D*)(\d*)", version)
    is_default = settings is not None and settings.default_version
    return is_default, [(text, int(number or 0)) for text, number in parts]


def _notes(config: ConfigFile) -> Iterator[str]:
    others = [key for key in config.settings if key not in IMPORTED_KEYS]
    if others:
        yield f"{display_path(config.path)}: functions have no counterpart of {', '.join(others)}"
    for item in config.value("load_models").split(","):
        if "://" in item:
            yield f"load_models: {item.strip()} is not in the store; import it by itself"
