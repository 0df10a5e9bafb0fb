"""Folders with functions: those of the library, and code that clients uploaded."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import anyio.to_thread

from fnbuild import trees
from fnbuild.builder import staging
from fnbuild.builder.sources import archives
from fnbuild.builder.sources.limits import SourceLimits
from fnbuild.datadir import data_dir, make_private_dir
from fnbuild.errors import FnbuildError, InputError, NotFoundError, Report, UsageError
from fnbuild.function.files import CONFIG_NAMES, displayed_as
from fnbuild.function.reader import check_text
from fnbuild.function.types import Function

_SKIPPED_FOLDERS = frozenset({".git", "__pycache__", "node_modules", ".venv", "venv"})
_MAX_DEPTH = 8
_MAX_CONFIG_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class FunctionFolder:
    """A function found in a folder. `path` is relative to that folder, "" for the folder itself."""

    path: str
    folder: Path
    configuration: str
    function: Function
    report: Report
    file_count: int
    config_name: str


def find_functions(root: Path) -> list[FunctionFolder]:
    """Return the functions in a folder at any depth, by path; none inside another function."""
    return [_read_folder(root, folder) for folder in sorted(_function_folders(root, 0))]


def _function_folders(folder: Path, depth: int) -> Iterator[Path]:
    if any((folder / name).is_file() for name in CONFIG_NAMES):
        yield folder
        return
    if depth < _MAX_DEPTH:
        for entry in folder.iterdir():
            if entry.is_dir() and not entry.is_symlink() and entry.name not in _SKIPPED_FOLDERS:
                yield from _function_folders(entry, depth + 1)


def _read_folder(root: Path, folder: Path) -> FunctionFolder:
    config = next(folder / name for name in CONFIG_NAMES if (folder / name).is_file())
    with config.open("rb") as file:
        data = file.read(_MAX_CONFIG_BYTES)
    with displayed_as(folder, "", ""):
        function, report = check_text(data, config.name, code=folder)
    return FunctionFolder(
        path="" if folder == root else folder.relative_to(root).as_posix(),
        folder=folder,
        configuration=data.decode("utf-8-sig", "replace"),
        function=function or Function(),
        report=report,
        file_count=sum(len(names) for _, _, names in trees.walk(folder)),
        config_name=config.name,
    )


LIBRARY_PREFIX = "library:"


class Library:
    """The functions of one folder, searched on first use; None stands for an empty library."""

    def __init__(self, root: Path | None):
        self._root = root

    @cached_property
    def functions(self) -> dict[str, FunctionFolder]:
        """Functions without errors by name, such as `opencv/face-haar`."""
        if self._root is None or not self._root.is_dir():
            return {}
        folders = find_functions(self._root)
        return {folder.path: folder for folder in folders if not folder.report.errors}

    def folder(self, name: str) -> Path:
        """Return the folder of a function. Raises `NotFoundError` if the library has none."""
        function = self.functions.get(name)
        if function is None:
            names = ", ".join(self.functions) or "it is empty"
            raise NotFoundError(f"the library has no function {name!r}", hint=f"known: {names}")
        return function.folder


UPLOAD_PREFIX = "upload:"
UPLOAD_BYTES = 512 << 20
UPLOAD_SECONDS = 3600.0
MAX_UPLOADS = 50

_UNPACK_LIMITS = SourceLimits(unpacked_bytes=4 << 30, members=50_000)
_SWEEP_SECONDS = 300.0
_CONTENT = "content"
_UPLOAD_ID = re.compile(r"[0-9a-f]{32}\Z")
_SINGLE_FILE_SUFFIXES = (".py", ".yaml", ".yml")
_EXPIRED_HINT = (
    f"uploads are kept for {UPLOAD_SECONDS / 60:.0f} minutes; send it again to /api/uploads"
)


_log = logging.getLogger(__name__)


class Uploads:
    """Code that clients have sent, kept for an hour. Usable from any thread.

    An upload is a folder below the data directory, with a name that cannot be guessed. The folder
    of an incomplete upload has its process in its name, so that it is removed after that has ended.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sweep_lock = threading.Lock()
        self._users: dict[str, int] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Remove expired uploads now and at intervals."""
        self._task = asyncio.create_task(self._sweep_at_intervals())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _sweep_at_intervals(self) -> None:
        while True:
            try:
                await anyio.to_thread.run_sync(self.sweep)
            except (OSError, FnbuildError) as error:
                _log.warning("expired uploads cannot be removed: %s", error)
            await asyncio.sleep(_SWEEP_SECONDS)

    def sweep(self, limit: int = MAX_UPLOADS) -> None:
        """Remove expired and incomplete uploads, and all but the newest `limit`."""
        # Two removals of the same folder would disturb each other and leave a part of it.
        with self._sweep_lock:
            self._sweep(limit)

    def _sweep(self, limit: int) -> None:
        root = _uploads_folder()
        staging.remove_abandoned_copies(root)
        uploads = sorted(
            (folder for folder in root.iterdir() if _UPLOAD_ID.match(folder.name)), key=_age
        )
        for number, folder in enumerate(uploads):
            if number >= limit or _age(folder) > UPLOAD_SECONDS:
                with self._lock:
                    if self._users.get(folder.name):
                        continue
                    with contextlib.suppress(OSError):
                        folder.rename(removed := incoming_folder())
                        trees.try_remove(removed)

    def keep(self, folder: Path) -> str:
        """Take over the folder of a complete upload; return the upload's id."""
        with contextlib.suppress(OSError):
            self.sweep(MAX_UPLOADS - 1)
        upload_id = secrets.token_hex(16)
        folder.rename(_uploads_folder() / upload_id)
        return upload_id

    @contextmanager
    def open(self, path: str) -> Iterator[Path]:
        """Yield the folder of `ID` or `ID/FOLDER`, which is kept while the context lasts.

        Raises `NotFoundError` if there is none, and `UsageError` if the upload has several
        functions and the path names none.
        """
        upload_id, _, function_path = path.partition("/")
        with self._lock:
            self._users[upload_id] = self._users.get(upload_id, 0) + 1
        try:
            folder = self._select_folder(upload_id, function_path)
            content = _uploads_folder() / upload_id / _CONTENT
            with displayed_as(content, "upload", "the path of the upload names one"):
                yield folder
        finally:
            with self._lock:
                self._users[upload_id] -= 1
                if not self._users[upload_id]:
                    del self._users[upload_id]

    def _select_folder(self, upload_id: str, path: str) -> Path:
        root = _uploads_folder() / upload_id
        if not _UPLOAD_ID.match(upload_id) or not root.is_dir():
            raise NotFoundError(f"there is no upload {upload_id!r}", hint=_EXPIRED_HINT)
        content = root / _CONTENT
        functions = {function.path: function.folder for function in find_functions(content)}
        if path:
            if path not in functions:
                raise NotFoundError(
                    f"the upload has no function in {path!r}", hint=f"in it: {', '.join(functions)}"
                )
            return functions[path]
        if len(functions) > 1:
            names = ", ".join(f"{UPLOAD_PREFIX}{upload_id}/{name}" for name in functions)
            raise UsageError(
                f"the upload has {len(functions)} functions", hint=f"name one of them: {names}"
            )
        return next(iter(functions.values())) if functions else _code_without_configuration(content)


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0


def _uploads_folder() -> Path:
    return make_private_dir(data_dir() / "uploads")


def incoming_folder() -> Path:
    return _uploads_folder() / f"{os.getpid()}-{secrets.token_hex(8)}"


def _code_without_configuration(content: Path) -> Path:
    """Return the code of an upload without a function.yaml: its only file or folder, or all."""
    entries = list(content.iterdir())
    return entries[0] if len(entries) == 1 else content


def store_upload(
    uploads: Uploads, folder: Path, received: Path, name: str
) -> tuple[str, list[FunctionFolder]]:
    """Unpack and keep a received file; return the upload's path and the functions in it."""
    content = folder / _CONTENT
    if name.endswith(_SINGLE_FILE_SUFFIXES):
        content.mkdir()
        received.rename(content / name)
    elif archives.archive_kind(received) is not None:
        archives.unpack_archive(received, content, name or "the upload", _UNPACK_LIMITS)
        received.unlink()
    else:
        raise InputError(
            f"{name or 'the upload'} is neither an archive nor a .py or .yaml file",
            hint="send a .zip, .tar.gz, .tar.xz, .tar.bz2 or .tar, or one file with its name in"
            " X-Fnbuild-File-Name",
        )
    functions = find_functions(content)
    if not functions and not any(content.iterdir()):
        raise InputError(f"{name or 'the upload'} is empty")
    if not functions and not name.endswith(_SINGLE_FILE_SUFFIXES) and not _has_python(content):
        raise InputError(
            f"{name or 'the upload'} has neither Python code nor a function.yaml",
            hint="send the folder of a function with main.py and function.yaml",
        )
    return f"{UPLOAD_PREFIX}{uploads.keep(folder)}", functions


def _has_python(content: Path) -> bool:
    return any(name.endswith(".py") for _, _, names in trees.walk(content) for name in names)
