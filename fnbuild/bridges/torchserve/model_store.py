"""The tree of a TorchServe server: `config/config.properties`, and archives in `model-store/`.

Archives that are no longer needed are kept in `backup/`, beside the store: in the store, TorchServe
would load the folder as a model.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol

from fnbuild.bridges.torchserve.archive import TIME_STAMP, read_manifest
from fnbuild.bridges.torchserve.config_file import MODELS_MOUNT, ConfigFile, ModelEntry, Setting
from fnbuild.bridges.torchserve.config_rules import (
    Problem,
    find_problems,
    repair_config,
    report_problems,
)
from fnbuild.bridges.torchserve.properties import set_values
from fnbuild.bridges.torchserve.server_config import (
    CONFIG_NAME,
    SNAPSHOT_KEY,
    ModelSettings,
    ServerConfig,
    parse,
)
from fnbuild.errors import ConfigError, FnbuildError, InputError, Report
from fnbuild.function.files import display_path
from fnbuild.function.repair import Repair
from fnbuild.runtime.torchserve import MANIFEST_PATH

CONFIG_PATH = f"config/{CONFIG_NAME}"
STORE_NAME = "model-store"
BACKUP_NAME = "backup"

_STAMPED = re.compile(rf"(.+){TIME_STAMP}\.(?:mar|tar\.gz)")


class ModelTree:
    """A configuration and the model store beside it; `store` is None if it is elsewhere."""

    def __init__(self, config: Path):
        self.config = config
        self.folder = config.absolute().parent.parent
        store = self.folder / STORE_NAME
        self.store = store if config.absolute().parent.name == "config" and store.is_dir() else None

    @property
    def entries(self) -> dict[str, Path]:
        """The files and folders of the store by name, without hidden ones."""
        paths = sorted(self.store.iterdir()) if self.store is not None else []
        return {path.name: path for path in paths if not path.name.startswith(".")}

    @property
    def archives(self) -> dict[str, Path]:
        """The entries of the store that are models."""
        return {name: path for name, path in self.entries.items() if _is_archive(path)}

    def local_config(self, values: Mapping[str, str], folder: Path | None = None) -> str:
        """Return the configuration with the paths of this machine, and with other values.

        Paths below the folder of the tree in its container, such as /mnt/models, become paths of
        the tree here, or of the `folder` at which a server will see it. The file does not change.
        """
        config = ConfigFile(self.config)
        store = Path(config.value("model_store") or f"{MODELS_MOUNT}/{STORE_NAME}")
        if folder is None:
            folder, here = self.folder, self.store or store
        else:
            here = folder / STORE_NAME
        local: dict[str, str] = {"model_store": str(here)}
        for key, setting in config.settings.items():
            path = Path(setting.value)
            if store.name == STORE_NAME and path.is_relative_to(store.parent):
                local[key] = str(folder / path.relative_to(store.parent))
        return set_values(config.text, {**local, **values})

    def problems(self, config: ConfigFile) -> Iterator[Problem]:
        """Yield the problems of the configuration, and of the archives that it names."""
        yield from find_problems(config)
        if self.store is None:
            return
        yield from self._duplicate_problems(config)
        for entry in config.models():
            yield from self._entry_problems(config, entry)
        if SNAPSHOT_KEY not in config.settings and "load_models" in config.settings:
            yield from self._load_problems(config.settings["load_models"])
        for entry in config.models("models"):
            if not any(_is_model(entry, path) for path in self.archives.values()):
                message = f"no archive has the model {entry.name} {entry.version}"
                hint = "names and versions are those of the manifests"
                text = f"{message}: no effect"
                yield Problem("warning", "unused-settings", text, entry.span, hint)

    def _entry_problems(self, config: ConfigFile, entry: ModelEntry) -> Iterator[Problem]:
        if entry.archive not in self.entries:
            if entry.archive:
                message = f"{STORE_NAME} has no {entry.archive}: the server does not start"
                yield Problem("error", "missing-archive", message, entry.span, self._listed())
            return
        try:
            model = read_manifest(self.entries[entry.archive]).model
        except InputError as error:
            yield Problem("error", "archive", error.message, entry.span, error.hint)
            return
        if entry.name not in (model.model_name, archive_prefix(f"{model.model_name}.mar")):
            message = f"{entry.archive} was packaged as the model {model.model_name}; clients have"
            message += f" to call it {entry.name}, its name in {SNAPSHOT_KEY}"
            yield Problem("warning", "model-name", message, entry.span)
        if model.model_version != entry.version:
            message = f"{entry.archive} has the version {model.model_version}, by which clients"
            message += f" have to call it, not {entry.version}"
            hint = f"write {model.model_version} in {SNAPSHOT_KEY}"
            start, end = entry.span
            version = json.dumps(model.model_version)[1:-1]
            is_free = (entry.name, model.model_version) not in config.versions()
            fix = (start + 1, end - 1, version) if config.text[start] == '"' and is_free else None
            yield Problem("warning", "model-version", message, entry.span, hint, fix)

    def _duplicate_problems(self, config: ConfigFile) -> Iterator[Problem]:
        """Yield the archives that the server would load as one version of one model."""
        first: dict[tuple[str, str], str] = {}
        spans = {entry.archive: entry.span for entry in config.models()}
        loads = config.settings.get("load_models")
        loaded: list[LoadedFile] = []
        with suppress(InputError):  # another problem
            loaded = loaded_files(parse(config.text), self)
        for name, file, _ in loaded:
            with suppress(InputError, KeyError):
                model = read_manifest(self.entries[file]).model
                key = (name or model.model_name, model.model_version)
                if other := first.get(key):
                    message = f"{other} and {file} are both version {key[1]} of {key[0]}: the"
                    message += " server does not start"
                    hint = f"move one of them out of {STORE_NAME}, or package it with another"
                    hint += " `--version`"
                    span = spans.get(file) or (loads.span if loads else (0, 0))
                    yield Problem("error", "duplicate-model", message, span, hint)
                first.setdefault(key, file)

    def _load_problems(self, setting: Setting) -> Iterator[Problem]:
        """Yield the problems of `load_models`."""
        if setting.value.lower() == "all":
            for name, path in self.entries.items():
                if path.is_dir() and name not in self.archives:
                    message = f"TorchServe loads the folder {STORE_NAME}/{name} as a model that"
                    message += " cannot start: after 5 minutes the server is unhealthy"
                    hint = f"move it beside {STORE_NAME}"
                    yield Problem("error", "not-an-archive", message, setting.span, hint)
            return
        for model in setting.value.split(","):
            name = model.rpartition("=")[2].strip()
            if name and "://" not in name and name not in self.entries:
                message = f"{STORE_NAME} has no {name}: the server starts without it"
                yield Problem("error", "missing-archive", message, setting.span, self._listed())

    def _listed(self) -> str:
        return (
            f"the archives are {', '.join(self.archives)}" if self.archives else "add the archive"
        )


class LoadedFile(NamedTuple):
    """An archive that a server loads at its start, and the name of its model, "" for its own."""

    name: str
    file: str
    settings: ModelSettings | None = None


def loaded_files(config: ServerConfig, tree: ModelTree) -> list[LoadedFile]:
    """Return the archives of the snapshot, or else those of `load_models`."""
    if config.snapshot:
        return [
            LoadedFile(name, settings.mar_name, settings)
            for name, versions in config.snapshot.items()
            for settings in versions.values()
        ]
    if config.load_models.lower() == "all":
        return [LoadedFile("", file) for file in tree.archives]
    items = (item.strip().rpartition("=") for item in config.load_models.split(","))
    return [LoadedFile(name, file) for name, _, file in items if file]


def _is_archive(path: Path) -> bool:
    return path.name.endswith((".mar", ".tar.gz")) or (path / MANIFEST_PATH).is_file()


def _is_model(entry: ModelEntry, archive: Path) -> bool:
    with suppress(InputError):
        model = read_manifest(archive).model
        return (model.model_name, model.model_version) == (entry.name, entry.version)
    return False


def find_config(path: Path) -> Path | None:
    """Return the configuration that a path is, or that of a tree; None for other paths."""
    config = path / CONFIG_PATH if (path / STORE_NAME).is_dir() else path
    return config if config.suffix == ".properties" and config.is_file() else None


def check_config(config: Path, *, strict: bool = False) -> Report:
    """Return the report about a configuration, and about the archives of its tree."""
    file = ConfigFile(config)
    return report_problems(file, ModelTree(config).problems(file), strict=strict)


def require_servable(config: Path) -> Report:
    """Return the report about a configuration; raise `ConfigError` if it has errors."""
    report = check_config(config)
    if report.errors:
        path = display_path(config)
        raise ConfigError(
            f"TorchServe cannot serve {path} as it is written",
            report,
            hint=f"`fnbuild validate {shlex.quote(path)} --fix` repairs what has one remedy",
        )
    return report


def repair_tree(config: Path) -> list[Repair]:
    """Repair a configuration and return the repairs."""
    return repair_config(config, ModelTree(config).problems)


def check_files(files: Mapping[str, Path]) -> list[str]:
    """Check the files of a tree, by their paths in it, before an upload; return warnings.

    Raises `InputError` for a missing file, and `ConfigError` if the server would not start.
    """
    missing = [] if CONFIG_PATH in files else [CONFIG_PATH]
    if not any(path.startswith(f"{STORE_NAME}/") and path.endswith(".mar") for path in files):
        missing.append(f"{STORE_NAME}/NAME.mar")
    if missing:
        raise InputError(
            f"the pytorch server needs {' and '.join(missing)}, which the folder does not have",
            hint=f"the folder to upload is the one that contains `config` and `{STORE_NAME}`",
        )
    report = require_servable(files[CONFIG_PATH])
    return [f"{item.span}: {item.message}" for item in report.warnings]


class ArchiveStore(Protocol):
    """A model store with a backup beside it."""

    def archives(self) -> list[str]:
        """Return the names of the files in the store."""

    def back_up(self, name: str) -> None:
        """Move an archive to the backup, where nothing is overwritten."""

    def restore(self, name: str) -> None:
        """Move an archive back to the store."""


def archive_prefix(name: str) -> str:
    """Return NAME for an archive NAME_yymmdd_HHMM.mar; "" for other names."""
    match = _STAMPED.fullmatch(name)
    return match[1] if match else ""


def archives_to_move(
    names: Iterable[str], prefix: str, keep: int, needed: Collection[str] = ()
) -> list[str]:
    """Return the archives PREFIX_yymmdd_HHMM.mar beyond the needed and the newest ones."""
    own = {name for name in names if archive_prefix(name) == prefix}
    others = sorted(own.difference(needed))
    return others[: max(len(own) - keep, 0)]


def apply_retention(
    store: ArchiveStore, prefix: str, keep: int, needed: Collection[str] = ()
) -> list[str]:
    """Move old archives to the backup and return their names. If a move fails, all are undone."""
    moved: list[str] = []
    try:
        for name in archives_to_move(store.archives(), prefix, keep, needed):
            store.back_up(name)
            moved.append(name)
    except FnbuildError:
        for name in reversed(moved):
            with suppress(FnbuildError):
                store.restore(name)
        raise
    return moved
