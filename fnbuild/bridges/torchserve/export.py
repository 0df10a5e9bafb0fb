"""Export a function, or files, as an archive for TorchServe.

The archive of a function has its folder at the root, a model-config.yaml made from its trigger, and
what its handler needs there: the part of fnbuild's runtime that calls handlers, fnbuild.vision and
nuclio_sdk.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import msgspec
import yaml

from fnbuild import __version__
from fnbuild.bridges.torchserve.archive import (
    ARCHIVE_SUFFIXES,
    BUILT_IN_HANDLERS,
    TIME_STAMP,
    ArchiveManifest,
    ArchiveModel,
    archive_draft,
    number_setting,
    read_manifest,
    read_model_config,
    write_archive,
)
from fnbuild.bridges.torchserve.content import ENTRY_FILE, ArchiveContent
from fnbuild.bridges.torchserve.server_config import ModelSettings
from fnbuild.builder.processor_settings import event_seconds, readiness_seconds
from fnbuild.errors import ConflictError, InputError
from fnbuild.function.platform_rules import gpu_count
from fnbuild.function.quantities import parse_duration
from fnbuild.function.torchserve_settings import torchserve_settings
from fnbuild.function.types import Function, Raw, Trigger
from fnbuild.progress import Progress
from fnbuild.runtime.torchserve import MANIFEST_PATH

CONFIG_FILE = "model-config.yaml"
VERSION_FORMAT = "%y%m%d_%H%M"

_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_\-.]*")
_ATTEMPTS = 100
_RESPONSE_SECONDS = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """The options of torch-model-archiver. Without a version, names have the time: NAME_STAMP.

    `handler` is for files only. `extra_files` are paths and patterns between commas; of a folder,
    the content is packed. `archive_format` is one of `ARCHIVE_SUFFIXES`. `stored` are archives
    elsewhere, whose times are taken.
    """

    export_path: Path
    model_name: str = ""
    version: str = ""
    handler: str = ""
    serialized_file: Path | None = None
    model_file: Path | None = None
    extra_files: str = ""
    runtime: str = "python"
    requirements_file: Path | None = None
    config_file: Path | None = None
    archive_format: str = "default"
    stored: tuple[str, ...] = ()
    force: bool = False


@dataclass(frozen=True, slots=True)
class ExportedArchive:
    """A written archive. `name` is that of the model without the time; `config` its settings."""

    path: Path
    name: str
    manifest: ArchiveManifest
    config: Raw
    warnings: tuple[str, ...]


def export_function(
    function: Function, folder: Path, options: ExportOptions, progress: Progress = lambda _: None
) -> ExportedArchive:
    """Write the archive of a function, whose code is in `folder`; secret values are left out.

    A function that was imported from an archive becomes that archive again.

    Raises `InputError` for what an archive cannot have, `ConflictError` if it exists already, and
    `BuildError` for invalid requirements.
    """
    content = ArchiveContent()
    if (folder / MANIFEST_PATH).is_file():
        content.add_archive(folder)
        name = options.model_name or function.metadata.name
        model = msgspec.structs.replace(read_manifest(folder).model, model_name=name)
        return _write(model, content, options, progress)
    content.add_function(function, folder)
    requirements = ""
    if options.requirements_file is None:
        requirements = content.add_requirements(function, folder)
    if options.config_file is None and CONFIG_FILE not in content.files:
        config = yaml.safe_dump(model_config(function), sort_keys=False)
        content.add(CONFIG_FILE, config.encode())
    model = ArchiveModel(
        model_name=options.model_name or function.metadata.name,
        handler=ENTRY_FILE,
        requirements_file=requirements,
        config_file=CONFIG_FILE,
    )
    return _write(model, content, options, progress)


def export_files(options: ExportOptions, progress: Progress = lambda _: None) -> ExportedArchive:
    """Write an archive of files and a handler for TorchServe, as torch-model-archiver does."""
    content = ArchiveContent()
    module = options.handler.partition(":")[0]
    if module not in BUILT_IN_HANDLERS:
        suffix = ".so" if options.runtime == "LSP" else ".py"
        file = Path(module.removesuffix(suffix) + suffix)
        if not file.is_file():
            raise InputError(
                f"the handler {options.handler!r} does not exist: there is no file {file}",
                hint="give a file, FILE:FUNCTION, or a handler of TorchServe:"
                f" {', '.join(sorted(BUILT_IN_HANDLERS))}",
            )
        content.add(file.name, file)
    model = ArchiveModel(model_name=options.model_name, handler=os.path.basename(options.handler))
    return _write(model, content, options, progress)


def model_config(function: Function) -> Raw:
    """Return the content of model-config.yaml: workers, batches and time limits of a function."""
    _, trigger = function.http_trigger() or ("", Trigger())
    settings = torchserve_settings(function)
    size, delay = settings.batch_size, float(settings.max_batch_delay)
    if trigger.batch is not None and trigger.batch.is_enabled:
        size, timeout = trigger.batch.batch_size, parse_duration(trigger.batch.timeout) * 1000
        # TorchServe's batches wait for the whole delay.
        delay = min(timeout, delay) if trigger.batch.mode == "adaptive" else timeout
    config = {
        "minWorkers": trigger.workers,
        "maxWorkers": trigger.workers,
        "batchSize": size,
        "maxBatchDelay": math.ceil(delay),
        "responseTimeout": math.ceil(event_seconds(function) or _RESPONSE_SECONDS),
        "startupTimeout": math.ceil(readiness_seconds(function)),
    }
    return config | ({"deviceType": "gpu"} if gpu_count(function) else {})


def config_warnings(function: Function, folder: Path) -> tuple[str, ...]:
    """Return a warning if a model-config.yaml in the folder differs from the function."""
    is_imported = (folder / MANIFEST_PATH).is_file()
    name = read_manifest(folder).model.config_file if is_imported else CONFIG_FILE
    if not name or not (folder / name).is_file():
        return ()
    own, used = read_model_config((folder / name).read_bytes(), name), model_config(function)
    if is_imported:
        own.pop("minWorkers", None)  # a function has one number of workers
    keys = [key for key in used if key in own and own[key] != used[key]]
    file, config = (", ".join(f"{key}: {each[key]}" for key in keys) for each in (own, used))
    applies = name if torchserve_settings(function).load_models == "all" else "function.yaml"
    text = f"{name} has {file}, and function.yaml has {config}; servers use those of {applies}"
    return (text,) if keys else ()


def snapshot_settings(config: Raw, file: str) -> ModelSettings:
    """Return the settings in `model_snapshot`, which TorchServe prefers to model-config.yaml."""
    number = partial(number_setting, config)
    return ModelSettings(
        default_version=True,
        mar_name=file,
        min_workers=number("minWorkers", 1),
        max_workers=number("maxWorkers", 1),
        batch_size=number("batchSize", 1),
        max_batch_delay=number("maxBatchDelay", 100),
        response_timeout=number("responseTimeout", _RESPONSE_SECONDS),
        startup_timeout=number("startupTimeout", _RESPONSE_SECONDS),
    )


def _write(
    model: ArchiveModel, content: ArchiveContent, options: ExportOptions, progress: Progress
) -> ExportedArchive:
    """Add the files of the options, and write the archive with a free name."""
    name = model.model_name
    if not _MODEL_NAME.fullmatch(name):
        raise InputError(
            f"{name!r} cannot be the name of a model",
            hint="a name has letters, digits, '_', '-' and '.', and begins with a letter or digit",
        )
    named = {
        key: path
        for key in ("serialized_file", "model_file", "requirements_file", "config_file")
        if (path := getattr(options, key)) is not None
    }
    for path in named.values():
        content.add(path.name, path)
    content.add_extra_files(options.extra_files)
    model = msgspec.structs.replace(model, **{key: path.name for key, path in named.items()})
    source = content.files.get(model.config_file, b"")
    data = source.read_bytes() if isinstance(source, Path) else source
    config = read_model_config(data, str(source))
    for _ in range(_ATTEMPTS):
        version = options.version or next_version(name, options.export_path, stored=options.stored)
        model = msgspec.structs.replace(
            model,
            model_name=name if options.version else f"{name}_{version}",
            model_version=version,
        )
        manifest = ArchiveManifest(
            created_on=_creation_time(version),
            runtime=options.runtime,
            model=model,
            archiver_version=f"fnbuild {__version__}",
        )
        path = options.export_path / f"{model.model_name}{ARCHIVE_SUFFIXES[options.archive_format]}"
        try:
            with archive_draft(path, force=options.force) as draft:
                progress(f"packing {path.name}")
                write_archive(draft, content.files, manifest, options.archive_format)
        except ConflictError:
            if options.version:
                raise
            continue  # another process has taken this minute
        return ExportedArchive(path, name, manifest, config, tuple(content.warnings))
    raise ConflictError(f"{options.export_path} gets too many archives of {name} at once")


def next_version(name: str, *folders: Path, stored: Iterable[str] = ()) -> str:
    """Return the time as a version, or the minute after the newest archive, if that is later.

    So the order of names is that of the archives: those in `folders`, and `stored` ones elsewhere.
    """
    moment = datetime.now()
    pattern = re.compile(rf"(?:\.fnbuild-)?{re.escape(name)}{TIME_STAMP}(\.mar|\.tar\.gz)?")
    listed = (path for folder in folders if folder.is_dir() for path in os.listdir(folder))
    for entry in (*stored, *listed):
        if match := pattern.fullmatch(entry):
            with suppress(ValueError):
                newest = datetime.strptime(match[1], VERSION_FORMAT)
                moment = max(moment, newest + timedelta(minutes=1))
    return moment.strftime(VERSION_FORMAT)


def _creation_time(version: str) -> str:
    """Return the time of the manifest: that of the version, so that it can be repeated."""
    moment = datetime.now()
    with suppress(ValueError):
        moment = datetime.strptime(version, VERSION_FORMAT)
    return moment.strftime("%d/%m/%Y %H:%M:%S")
