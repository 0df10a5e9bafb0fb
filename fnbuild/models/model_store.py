"""The tree that KServe's PyTorch server reads: `config` and `model-store`."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from fnbuild.errors import InputError
from fnbuild.models.local_files import LocalFile

CONFIG_PATH = "config/config.properties"
_STORE = "model-store/"
_MANIFEST = "MAR-INF/MANIFEST.json"
# The value of a Java property, which a backslash at the end of a line continues.
_SNAPSHOT = re.compile(r"^[ \t]*model_snapshot[ \t]*[=:]((?:\\\n|\\.|[^\\\n])*)", re.MULTILINE)
_ESCAPE = re.compile(r"\\\n[ \t]*|\\(.)")
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r"}


class _Settings(msgspec.Struct, rename="camel"):
    mar_name: str


class _Snapshot(msgspec.Struct):
    """The models that the server loads: settings by name and version."""

    models: dict[str, dict[str, _Settings]]


class _Model(msgspec.Struct, rename="camel"):
    model_name: str = ""


class _Manifest(msgspec.Struct):
    model: _Model


def check_model_store(files: Collection[LocalFile]) -> list[str]:
    """Check that the server can load the tree; return warnings about the names of models.

    Raises `InputError` for a missing file, and for archives that the configuration names and the
    tree does not have.
    """
    sources = {file.path: file.source for file in files}
    _check_files(sources)
    archives = [path.removeprefix(_STORE) for path in sources if path.startswith(_STORE)]
    warnings = []
    for name, archive in _read_snapshot(sources[CONFIG_PATH]):
        if not any(path == archive or path.startswith(f"{archive}/") for path in archives):
            raise InputError(
                f"{CONFIG_PATH}: model_snapshot has the archive {archive} for the model {name},"
                f" and {_STORE} does not; the server would not start",
                hint=f"the archives are {', '.join(sorted(archives))}",
            )
        packaged = _model_name(sources.get(_STORE + archive))
        if packaged and packaged != name:
            warnings.append(
                f"{archive} was packaged as the model {packaged}; clients have to call it {name},"
                " its name in model_snapshot"
            )
    return warnings


def _check_files(paths: Collection[str]) -> None:
    missing = []
    if CONFIG_PATH not in paths:
        missing.append(CONFIG_PATH)
    if not any(path.startswith(_STORE) and path.endswith(".mar") for path in paths):
        missing.append(f"{_STORE}NAME.mar")
    if missing:
        raise InputError(
            f"the pytorch server needs {' and '.join(missing)}, which the folder does not have",
            hint="the folder to upload is the one that contains `config` and `model-store`",
        )


def _read_snapshot(config: Path) -> Iterator[tuple[str, str]]:
    """Yield the names of the models in `model_snapshot` with their archives."""
    match = _SNAPSHOT.search(config.read_text(errors="replace"))
    if match is None:
        return
    snapshot = _ESCAPE.sub(lambda escape: _ESCAPED.get(escape[1], escape[1] or ""), match[1])
    try:
        models = msgspec.json.decode(snapshot, type=_Snapshot).models
    except msgspec.MsgspecError as error:
        raise InputError(
            f"{CONFIG_PATH}: model_snapshot is invalid: {error}", hint="correct its JSON"
        ) from None
    for name, versions in models.items():
        for settings in versions.values():
            yield name, settings.mar_name


def _model_name(archive: Path | None) -> str:
    """Return the name that an archive was packaged with; "" if it has none that can be read."""
    with suppress(OSError, zipfile.BadZipFile, KeyError, msgspec.MsgspecError):
        if archive is not None:
            with zipfile.ZipFile(archive) as opened:
                return msgspec.json.decode(opened.read(_MANIFEST), type=_Manifest).model.model_name
    return ""
