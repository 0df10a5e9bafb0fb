"""The code of functions that are deployed through the API: uploads, the library, URLs and images.

A function that exists may keep the code that it has. No path of a request is opened.
"""

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
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import anyio.to_thread
import msgspec

from fnbuild import trees
from fnbuild.builder import staging
from fnbuild.builder.sources import archives
from fnbuild.builder.sources.code_entry import open_code as opened_elsewhere
from fnbuild.builder.sources.download import is_url
from fnbuild.builder.sources.limits import SourceLimits
from fnbuild.dashboard.settings import Settings
from fnbuild.datadir import data_dir, make_private_dir
from fnbuild.deploy.pipeline import DeployRequest
from fnbuild.errors import FnbuildError, InputError, NotFoundError, Report, UsageError
from fnbuild.function.files import CONFIG_NAMES, displayed_as
from fnbuild.function.merge import merge_functions
from fnbuild.function.reader import check_text, function_from_dict
from fnbuild.function.types import Build, Function, Spec
from fnbuild.platforms import Deployment, Progress

_SKIPPED_FOLDERS = frozenset({".git", "__pycache__", "node_modules", ".venv", "venv"})
_MAX_DEPTH = 8
_MAX_CONFIG_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class FunctionFolder:
    """A function in a folder. `place` is where, relative to that folder; "" is the folder itself.

    `text` is its configuration, `files` how many it has.
    """

    place: str
    folder: Path
    text: str
    function: Function
    report: Report
    files: int
    config: str
    """The name of its configuration file."""


def find_functions(folder: Path) -> list[FunctionFolder]:
    """The functions in a folder, at whatever depth, by place; none inside another."""
    return [_read_folder(folder, one) for one in sorted(_function_folders(folder, 0))]


def _function_folders(folder: Path, depth: int) -> Iterator[Path]:
    if any((folder / name).is_file() for name in CONFIG_NAMES):
        yield folder
        return
    if depth < _MAX_DEPTH:
        for one in folder.iterdir():
            if one.is_dir() and not one.is_symlink() and one.name not in _SKIPPED_FOLDERS:
                yield from _function_folders(one, depth + 1)


def _read_folder(root: Path, folder: Path) -> FunctionFolder:
    config = next(folder / name for name in CONFIG_NAMES if (folder / name).is_file())
    with config.open("rb") as file:
        data = file.read(_MAX_CONFIG_BYTES)
    with displayed_as(folder, "", ""):
        function, report = check_text(data, config.name, code=folder)
    files = sum(len(names) for _, _, names in trees.walk(folder))
    place = folder.relative_to(root).as_posix()
    return FunctionFolder(
        "" if place == "." else place,
        folder,
        data.decode("utf-8-sig", "replace"),
        function or Function(),
        report,
        files,
        config.name,
    )


class Library:
    """The functions of one folder, walked when it is first asked for; None for an empty one."""

    def __init__(self, root: Path | None):
        self._root = root

    @cached_property
    def functions(self) -> dict[str, FunctionFolder]:
        """By name, such as `opencv/face-haar`; none of what cannot be read."""
        if self._root is None or not self._root.is_dir():
            return {}
        return {one.place: one for one in find_functions(self._root) if not one.report.errors}

    def folder(self, name: str) -> Path:
        """That of a function. `NotFoundError` for a name that is none of the library's."""
        found = self.functions.get(name)
        if found is None:
            known = ", ".join(self.functions) or "it is empty"
            raise NotFoundError(f"the library has no function {name!r}", hint=f"known: {known}")
        return found.folder


UPLOAD_BYTES = 512 << 20
UPLOAD_SECONDS = 3600.0
MAX_UPLOADS = 50

_UNPACK_LIMITS = SourceLimits(unpacked=4 << 30, members=50_000)
_SWEEP_SECONDS = 300.0
_CONTENT = "content"
_UPLOAD_ID = re.compile(r"[0-9a-f]{32}\Z")
_SINGLE_FILE_SUFFIXES = (".py", ".yaml", ".yml")
_EXPIRED_HINT = (
    f"uploads are kept for {UPLOAD_SECONDS / 60:.0f} minutes; send it again to /api/uploads"
)


_log = logging.getLogger(__name__)


class Uploads:
    """Those of a data directory. Threads may use it."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._used: dict[str, int] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Remove what is too old, now and from time to time."""
        self._task = asyncio.create_task(self._keep_swept())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _keep_swept(self) -> None:
        while True:
            try:
                await anyio.to_thread.run_sync(self.sweep)
            except (OSError, FnbuildError) as error:
                _log.warning("the uploads are not swept: %s", error)
            await asyncio.sleep(_SWEEP_SECONDS)

    def sweep(self, most: int = MAX_UPLOADS) -> None:
        """Remove what is too old, all but the newest `most`, and what was never whole."""
        area = _uploads_folder()
        staging.remove_abandoned(area)
        known = [one for one in area.iterdir() if _UPLOAD_ID.match(one.name)]
        known.sort(key=_age)
        for number, one in enumerate(known):
            if number >= most or _age(one) > UPLOAD_SECONDS:
                with self._guard:
                    if self._used.get(one.name):
                        continue
                    with contextlib.suppress(OSError):
                        one.rename(aside := incoming_folder())
                        trees.try_remove(aside)

    def keep(self, folder: Path) -> str:
        """Take over what came in; the id that it is known by from now on."""
        with contextlib.suppress(OSError):
            self.sweep(MAX_UPLOADS - 1)
        name = secrets.token_hex(16)
        folder.rename(_uploads_folder() / name)
        return name

    @contextmanager
    def opened(self, path: str) -> Iterator[Path]:
        """The folder of `ID` or `ID/FOLDER`, which stays while the context lasts.

        `NotFoundError` when there is none; `UsageError` for one of several functions that none of
        them is named.
        """
        name, _, place = path.partition("/")
        with self._guard:
            self._used[name] = self._used.get(name, 0) + 1
        try:
            chosen = self._chosen(name, place)
            with displayed_as(
                _uploads_folder() / name / _CONTENT, "upload", "the path of the upload names one"
            ):
                yield chosen
        finally:
            with self._guard:
                self._used[name] -= 1
                if not self._used[name]:
                    del self._used[name]

    def _chosen(self, name: str, place: str) -> Path:
        root = _uploads_folder() / name
        if not _UPLOAD_ID.match(name) or not root.is_dir():
            raise NotFoundError(f"there is no upload {name!r}", hint=_EXPIRED_HINT)
        content = root / _CONTENT
        found = find_functions(content)
        by_place = {one.place: one.folder for one in found}
        if place:
            if place not in by_place:
                raise NotFoundError(
                    f"the upload has no function in {place!r}", hint=f"in it: {', '.join(by_place)}"
                )
            return by_place[place]
        if len(found) > 1:
            listed = ", ".join(f"upload:{name}/{one}" for one in by_place)
            raise UsageError(
                f"the upload has {len(found)} functions", hint=f"name one of them: {listed}"
            )
        return found[0].folder if found else _code_without_configuration(content)


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
    """Where the code is in an upload without a function.yaml: a file, or the only folder."""
    entries = list(content.iterdir())
    return entries[0] if len(entries) == 1 else content


def store_upload(
    uploads: Uploads, folder: Path, received: Path, name: str
) -> tuple[str, list[FunctionFolder]]:
    """Unpack and keep what was received; the upload's path, and the functions in it."""
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
    found = find_functions(content)
    if not found and not any(content.iterdir()):
        raise InputError(f"{name or 'the upload'} is empty")
    if not found and not name.endswith(_SINGLE_FILE_SUFFIXES) and not _has_python(content):
        raise InputError(
            f"{name or 'the upload'} has neither Python code nor a function.yaml",
            hint="send the folder of a function: main.py, and function.yaml beside it",
        )
    return f"upload:{uploads.keep(folder)}", found


def _has_python(content: Path) -> bool:
    return any(name.endswith(".py") for _, _, names in trees.walk(content) for name in names)


SourceKind = Literal["inline", "image", "elsewhere", "upload", "library", "recorded"]

UPLOAD_PREFIX = "upload:"
LIBRARY_PREFIX = "library:"

_REMOTE_TYPES = ("archive", "github", "git", "s3")
_SOURCE_HINT = (
    "send it as spec.build.functionSourceCode (base64), upload it to /api/uploads, or name an image"
    " or a URL: spec.build.codeEntryType says which"
)


def source_kind(function: Function, current: Deployment | None) -> SourceKind:
    """Where the code is; `current` is the function as it is there already. Raises `UsageError`."""
    spec, build = function.spec, function.spec.build
    said: tuple[tuple[SourceKind, bool], ...] = (
        ("image", build.code_entry_type == "image" or build.mode == "neverBuild"),
        ("inline", bool(build.function_source_code)),
        ("elsewhere", build.code_entry_type in _REMOTE_TYPES or is_url(build.path)),
        ("upload", build.path.startswith(UPLOAD_PREFIX)),
        ("library", build.path.startswith(LIBRARY_PREFIX)),
    )
    if found := next((kind for kind, so in said if so), None):
        if build.path.lower().startswith("file:"):
            raise UsageError(
                f"{build.path!r} is on this machine, which is not opened", hint=_SOURCE_HINT
            )
        return found
    known = current.function.spec if current is not None else None
    if known is not None and build.path in ("", known.build.path):
        return "recorded" if spec.image in ("", known.image) else "image"
    if spec.image and not build.path:
        return "image"
    what = f"spec.build.path is {build.path!r}: paths of this machine are not opened"
    nothing = f"nothing says what the code of {function.metadata.name or 'the function'} is"
    raise UsageError(what if build.path else nothing, hint=_SOURCE_HINT)


@dataclass(frozen=True, slots=True)
class CodeSource:
    """What a deploy by API needs to have its code at hand."""

    kind: SourceKind
    settings: Settings
    uploads: Uploads
    library: Library

    @contextmanager
    def opened(
        self, asked: DeployRequest, progress: Progress = lambda _: None
    ) -> Iterator[DeployRequest]:
        """The request with a path, for as long as the context lasts.

        `asked.overrides` is what the body says, which lies over the code's own function.yaml.
        Raises `InputError`, `BuildError` or `UnavailableError` for code that cannot be had.
        """
        spec = asked.overrides.spec
        request = replace(asked, overrides=self._settled(asked.overrides), base=self._base())
        if self.kind == "elsewhere":
            build = spec.build
            if not build.code_entry_type:
                build = msgspec.structs.replace(build, code_entry_type="archive")
            with opened_elsewhere(None, build=build, progress=progress) as found:
                yield replace(request, path=found.path, config_file=found.config_file)
        elif self.kind == "upload":
            with self.uploads.opened(spec.build.path.removeprefix(UPLOAD_PREFIX)) as path:
                yield replace(request, path=path)
        elif self.kind == "library":
            path = self.library.folder(spec.build.path.removeprefix(LIBRARY_PREFIX))
            with displayed_as(path, spec.build.path, "its path names one"):
                yield replace(request, path=path)
        else:
            with self.checked(request) as bare:
                yield bare

    @contextmanager
    def checked(self, asked: DeployRequest) -> Iterator[DeployRequest]:
        """The request as far as it can be told without code: on an empty folder."""
        with (
            trees.temporary_folder("fnbuild-source-") as empty,
            displayed_as(empty, "the function", _SOURCE_HINT),
        ):
            function = _with_defaults(self._settled(asked.overrides))
            yield replace(asked, path=empty, overrides=function, base=self._base())

    def _settled(self, function: Function) -> Function:
        """What was asked for, without what only says where the code was, and as this dashboard
        builds (pkg/dashboard/resource/function.go)."""
        build = function.spec.build
        changes = {
            "temp_dir": "",
            "no_base_images_pull": build.no_base_images_pull or self.settings.no_pull,
            "offline": build.offline or self.settings.offline,
        }
        if self.kind in ("upload", "library"):
            changes["path"] = ""
        if self.kind == "image":
            changes["code_entry_type"] = "image"
        build = msgspec.structs.replace(build, **changes)
        spec = msgspec.structs.replace(function.spec, build=build)
        return msgspec.structs.replace(function, spec=spec)

    def _base(self) -> Function:
        """What lies below every function."""
        registries = Spec(
            build=Build(registry=self.settings.registry), run_registry=self.settings.run_registry
        )
        defaults = function_from_dict(self.settings.defaults, "the dashboard's defaults")
        return merge_functions(defaults, Function(spec=registries))


def _with_defaults(function: Function) -> Function:
    """Nuclio's names where a function without a folder says nothing."""
    spec = function.spec
    spec = msgspec.structs.replace(
        spec, runtime=spec.runtime or "python", handler=spec.handler or "main:handler"
    )
    return msgspec.structs.replace(function, spec=spec)
