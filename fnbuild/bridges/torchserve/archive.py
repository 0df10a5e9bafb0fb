"""TorchServe's model archives: NAME.mar, NAME.tar.gz, or a folder NAME.

An archive has its files at the root and a manifest at `MAR-INF/MANIFEST.json`. A .mar is a zip
file. The files of a .tar.gz are in a folder with the model's name.
"""

from __future__ import annotations

import errno
import gzip
import io
import os
import shutil
import stat
import tarfile
import time
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import msgspec
import yaml

from fnbuild import trees
from fnbuild.builder.sources.archives import archive_kind, unpack_archive
from fnbuild.builder.staging import scan_folder
from fnbuild.errors import BusyError, ConflictError, InputError
from fnbuild.function.types import Raw
from fnbuild.runtime.torchserve import MANIFEST_PATH

ARCHIVE_SUFFIXES = {"default": ".mar", "zip-store": ".mar", "tgz": ".tar.gz", "no-archive": ""}
"""The formats of torch-model-archiver, with the suffixes of their files; the last is a folder."""

TIME_STAMP = r"_([0-9]{6}_[0-9]{4})"
"""The pattern of the time at the end of names, as in NAME_yymmdd_HHMM.mar."""

BUILT_IN_HANDLERS = frozenset(
    (
        *("base_handler", "image_classifier", "image_segmenter", "object_detector"),
        *("dali_image_classifier", "text_classifier", "vllm_handler", "trt_llm_handler"),
    )
)
"""Handlers that are part of TorchServe."""

_DRAFT_PREFIX = ".fnbuild-"
_ABANDONED_SECONDS = 600.0
_MAX_MANIFEST_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 20
# The earliest time in zip files.
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)
_TAR_TIME = 315532800
_DAMAGED = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError),
    *(NotImplementedError, RuntimeError, ValueError),
)
_REMEDY = "make it with `fnbuild package torchserve` or torch-model-archiver"

ArchiveFiles = Mapping[str, Path | bytes]
"""The files of an archive by their paths in it: files on disk, or their content."""
Members = list[tuple[str, Path | bytes]]


class ArchiveModel(msgspec.Struct, kw_only=True, frozen=True, rename="camel", omit_defaults=True):
    """The model of a manifest. Files are names in the archive; the handler may be MODULE:FUNCTION.

    The version of an archive without one is 1.0, as in TorchServe.
    """

    model_name: str = ""
    serialized_file: str = ""
    handler: str = ""
    model_file: str = ""
    model_version: str = ""
    requirements_file: str = ""
    config_file: str = ""
    envelope: str = ""

    @property
    def files(self) -> list[str]:
        """The files that the manifest names, besides the handler."""
        names = (self.serialized_file, self.model_file, self.requirements_file, self.config_file)
        return [name for name in names if name]

    @property
    def handler_module(self) -> str:
        """The module of the handler, as TorchServe imports it."""
        return self.handler.partition(":")[0].rpartition("/")[2].removesuffix(".py")


class ArchiveManifest(msgspec.Struct, kw_only=True, frozen=True, rename="camel"):
    """A manifest. `runtime` is python, python3 or LSP (C++)."""

    created_on: str = ""
    """The time as DD/MM/YYYY HH:MM:SS."""
    runtime: str = "python"
    model: ArchiveModel = ArchiveModel()
    archiver_version: str = ""

    def to_json(self) -> bytes:
        """Return the manifest as torch-model-archiver writes it."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2)


@dataclass(frozen=True, slots=True)
class UnpackedArchive:
    """The files of an archive in a folder, which also contains `MAR-INF`."""

    folder: Path
    manifest: ArchiveManifest


def read_manifest(archive: Path) -> ArchiveManifest:
    """Return the manifest of a .mar file, a .tar.gz file or a folder, without unpacking it.

    Name and version are those that TorchServe would use. Raises `InputError` if the archive is
    damaged, or has no valid manifest.
    """
    try:
        data = _manifest_bytes(archive)
    except (OSError, *_DAMAGED) as error:
        # For damaged data, gzip raises an OSError without a number.
        if isinstance(error, OSError) and error.errno is not None:
            raise InputError(f"cannot read {archive}: {error.strerror}") from error
        reason = error or "it ends too early"
        raise InputError(
            f"{archive.name} is not a model archive, or it is damaged: {reason}",
            hint=f"copy it again, or {_REMEDY}",
        ) from error
    if data is None:
        raise InputError(
            f"{archive.name} has no {MANIFEST_PATH}: it is no model",
            hint="name an unpacked archive, or a folder with `config` and `model-store`"
            if archive.is_dir()
            else _REMEDY,
        )
    try:
        manifest = msgspec.json.decode(data, type=ArchiveManifest)
    except msgspec.MsgspecError as error:
        raise InputError(
            f"{archive.name}: {MANIFEST_PATH} is invalid: {error}", hint=_REMEDY
        ) from error
    name = manifest.model.model_name or archive.name.removesuffix(".tar.gz").removesuffix(".mar")
    model = msgspec.structs.replace(
        manifest.model, model_name=name, model_version=manifest.model.model_version or "1.0"
    )
    return msgspec.structs.replace(manifest, model=model)


def read_model_config(data: bytes, file: str) -> Raw:
    """Return the settings in a model-config.yaml.

    As in TorchServe, those of workers count only if minWorkers is from 1 to maxWorkers.
    """
    try:
        config = yaml.safe_load(data) or {}
    except yaml.YAMLError as error:
        reason = f"is not YAML: {' '.join(str(error).split())}"
    else:
        reason = "" if isinstance(config, dict) else "is no mapping"
    if reason:
        raise InputError(f"{file} {reason}", hint="its lines are such as `minWorkers: 1`")
    if not 0 < number_setting(config, "minWorkers", 0) <= number_setting(config, "maxWorkers", 0):
        return {key: config[key] for key in config if key not in ("minWorkers", "maxWorkers")}
    return config


def number_setting(settings: Raw, key: str, default: int) -> int:
    """Return a number of a model's settings; as in TorchServe, other values do not count."""
    value = settings.get(key)
    return value if type(value) is int and value >= 0 else default


def unpack(archive: Path, destination: Path) -> UnpackedArchive:
    """Return the files of an archive, which may come from anywhere, and check them.

    A .mar or .tar.gz file is unpacked to `destination`, which must not exist; the files of a folder
    stay where they are. Raises `InputError` for a member that is unsafe, and for missing files.
    """
    manifest = read_manifest(archive)
    if archive.is_dir():
        folder = archive
        scan_folder(archive)  # it may have links that leave it
    else:
        unpack_archive(archive, destination, archive.name)
        tops = list(destination.iterdir())
        is_nested = len(tops) == 1 and (tops[0] / MANIFEST_PATH).is_file()
        folder = tops[0] if is_nested else destination
    _check_files(archive.name, folder, manifest)
    return UnpackedArchive(folder, manifest)


def _check_files(name: str, folder: Path, manifest: ArchiveManifest) -> None:
    """Raise `InputError` for files that the manifest names and the archive does not have."""
    model = manifest.model
    top = folder.resolve()
    for path in model.files:
        file = (top / path).resolve()
        if not file.is_file() or not file.is_relative_to(top):
            raise InputError(f"{name} has no {path}, which its manifest names", hint=_REMEDY)
    module = model.handler_module
    if not module:
        raise InputError(f"{name}: the manifest names no handler", hint=_REMEDY)
    has_module = (folder / f"{module}.py").is_file() or (folder / module / "__init__.py").is_file()
    if not has_module and module not in BUILT_IN_HANDLERS and manifest.runtime != "LSP":
        raise InputError(
            f"{name}: the handler {model.handler!r} does not exist: the archive has no {module}.py",
            hint=f"{_REMEDY}; TorchServe's own handlers are {', '.join(sorted(BUILT_IN_HANDLERS))}",
        )


def _manifest_bytes(archive: Path) -> bytes | None:
    """Return the manifest's bytes; None if there is none."""
    if archive.is_dir():
        file = archive / MANIFEST_PATH
        return file.read_bytes() if file.is_file() else None
    kind = archive_kind(archive)
    if kind == "zip":
        with zipfile.ZipFile(archive) as members, suppress(KeyError):
            return members.open(MANIFEST_PATH).read(_MAX_MANIFEST_BYTES)
        return None
    if kind != "tar.gz":
        raise tarfile.ReadError("it is neither a zip file nor a .tar.gz file")
    with tarfile.open(archive, "r:gz") as members:
        for member in members:
            if member.name.partition("/")[2] == MANIFEST_PATH and member.isreg():
                content = members.extractfile(member)
                assert content is not None
                return content.read(_MAX_MANIFEST_BYTES)
    return None


@contextmanager
def archive_draft(target: Path, *, force: bool = False) -> Iterator[Path]:
    """Yield the path at which to write an archive; it becomes `target` after the block.

    If the block fails, nothing remains. The draft is in a hidden folder beside the target, which
    also keeps other processes from writing the same archive. Raises `ConflictError` if the target
    exists, unless `force` replaces it, `BusyError` if another process is writing it, and
    `InputError` if it cannot be written.
    """
    folder = target.with_name(f"{_DRAFT_PREFIX}{target.name}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned_drafts(target.parent)
        folder.mkdir()
    except OSError as error:
        if isinstance(error, FileExistsError) and folder.is_dir():
            raise BusyError(f"another process is writing {target}", hint="try again") from None
        raise _write_error(target, error) from error
    try:
        if os.path.lexists(target) and not force:
            raise ConflictError(f"{target} exists already", hint="`--force` replaces it")
        if target.is_dir() and not (target / MANIFEST_PATH).is_file():
            raise ConflictError(f"{target} is a folder with other files", hint="move it away")
        yield folder / target.name
        if target.is_dir() and not target.is_symlink():
            target.rename(folder / "replaced")
        (folder / target.name).replace(target)
    except OSError as error:
        raise _write_error(target, error) from error
    finally:
        trees.try_remove(folder)


def _remove_abandoned_drafts(folder: Path) -> None:
    """Remove the drafts of killed processes, to which nothing was written for a while."""
    for draft in folder.glob(f"{_DRAFT_PREFIX}*"):
        with suppress(OSError):
            changed = max(path.stat().st_mtime for path in (draft, *draft.rglob("*")))
            if time.time() - changed > _ABANDONED_SECONDS:
                trees.try_remove(draft)


def _write_error(target: Path, error: OSError) -> InputError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    place = f" ({error.filename})" if error.filename and not full else ""
    return InputError(
        f"cannot write {target}: {error.strerror or error}{place}",
        hint="free some space, or remove old archives" if full else "use a folder you may write to",
    )


def write_archive(
    draft: Path, files: ArchiveFiles, manifest: ArchiveManifest, archive_format: str = "default"
) -> None:
    """Write an archive at `draft` in one of the formats, the manifest last.

    Equal content gives equal bytes: files are in order, with fixed times and modes. Files of any
    size are packed with little memory. Raises `OSError`.
    """
    members = [*sorted(files.items()), (MANIFEST_PATH, manifest.to_json())]
    if archive_format == "no-archive":
        _write_folder(draft, members)
    elif archive_format == "tgz":
        _write_tar(draft, members, manifest.model.model_name)
    else:
        is_stored = archive_format == "zip-store"
        _write_zip(draft, members, zipfile.ZIP_STORED if is_stored else zipfile.ZIP_DEFLATED)


def _write_zip(draft: Path, members: Members, compression: int) -> None:
    with zipfile.ZipFile(draft, "x") as archive:
        for path, content, size in _opened(members):
            info = zipfile.ZipInfo(path, _ZIP_TIME)
            info.compress_type, info.file_size = compression, size
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            with archive.open(info, "w") as member:
                shutil.copyfileobj(content, member, _CHUNK_BYTES)


def _write_tar(draft: Path, members: Members, folder: str) -> None:
    with (
        draft.open("xb") as file,
        gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed,
        tarfile.TarFile(fileobj=packed, mode="w", copybufsize=_CHUNK_BYTES) as archive,
    ):
        for path, content, size in _opened(members):
            info = tarfile.TarInfo(f"{folder}/{path}")
            info.mtime, info.size = _TAR_TIME, size
            archive.addfile(info, content)


def _write_folder(draft: Path, members: Members) -> None:
    for path, source in members:
        file = draft / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(source, bytes):
            file.write_bytes(source)
        else:
            shutil.copyfile(source, file)


def _opened(members: Members) -> Iterator[tuple[str, IO[bytes], int]]:
    """Yield the path of each member, its content and the size of that."""
    for path, source in members:
        with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as content:
            size = content.seek(0, os.SEEK_END)
            content.seek(0)
            yield path, content, size
