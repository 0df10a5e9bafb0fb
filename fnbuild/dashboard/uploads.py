"""Code on its way into a function: archives and files that clients send, kept for an hour.

An upload is a folder below the data directory, with a name that nobody guesses. What is half there
has its process in its name, so that it goes when that one has died.
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
from pathlib import Path

import anyio.to_thread

from fnbuild import trees
from fnbuild.builder import staging
from fnbuild.builder.sources import archives
from fnbuild.builder.sources.limits import SourceLimits
from fnbuild.dashboard.library import Found, functions_in
from fnbuild.datadir import data_dir, make_private_dir
from fnbuild.errors import FnbuildError, InputError, NotFoundError, UsageError
from fnbuild.spec.locate import made_of

LIMIT = 512 << 20
SECONDS = 3600.0
MOST = 50

_LIMITS = SourceLimits(unpacked=4 << 30, members=50_000)
_SWEEP_SECONDS = 300.0
_CONTENT = "content"
_ID = re.compile(r"[0-9a-f]{32}\Z")
_AS_THEY_ARE = (".py", ".yaml", ".yml")
_GONE = f"uploads are kept for {SECONDS / 60:.0f} minutes; send it again to /api/uploads"


log = logging.getLogger(__name__)


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
                log.warning("the uploads are not swept: %s", error)
            await asyncio.sleep(_SWEEP_SECONDS)

    def sweep(self, most: int = MOST) -> None:
        """Remove what is too old, all but the newest `most`, and what was never whole."""
        area = _area()
        staging.remove_abandoned(area)
        known = [one for one in area.iterdir() if _ID.match(one.name)]
        known.sort(key=_age)
        for number, one in enumerate(known):
            if number >= most or _age(one) > SECONDS:
                with self._guard:
                    if self._used.get(one.name):
                        continue
                    with contextlib.suppress(OSError):
                        one.rename(aside := incoming())
                        trees.try_remove(aside)

    def keep(self, folder: Path) -> str:
        """Take over what came in; the id that it is known by from now on."""
        with contextlib.suppress(OSError):
            self.sweep(MOST - 1)
        name = secrets.token_hex(16)
        folder.rename(_area() / name)
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
            with made_of(_area() / name / _CONTENT, "upload", "the path of the upload names one"):
                yield chosen
        finally:
            with self._guard:
                self._used[name] -= 1
                if not self._used[name]:
                    del self._used[name]

    def _chosen(self, name: str, place: str) -> Path:
        root = _area() / name
        if not _ID.match(name) or not root.is_dir():
            raise NotFoundError(f"there is no upload {name!r}", hint=_GONE)
        content = root / _CONTENT
        found = functions_in(content)
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
        return found[0].folder if found else _code_in(content)


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0


def _area() -> Path:
    return make_private_dir(data_dir() / "uploads")


def incoming() -> Path:
    return _area() / f"{os.getpid()}-{secrets.token_hex(8)}"


def _code_in(content: Path) -> Path:
    """Where the code is in an upload without a function.yaml: a file, or the only folder."""
    entries = list(content.iterdir())
    return entries[0] if len(entries) == 1 else content


def taken(uploads: Uploads, folder: Path, received: Path, name: str) -> tuple[str, list[Found]]:
    """Unpack and keep what was received; the upload's path, and the functions in it."""
    content = folder / _CONTENT
    if name.endswith(_AS_THEY_ARE):
        content.mkdir()
        received.rename(content / name)
    elif archives.archive_kind(received) is not None:
        archives.unpack_archive(received, content, name or "the upload", _LIMITS)
        received.unlink()
    else:
        raise InputError(
            f"{name or 'the upload'} is neither an archive nor a .py or .yaml file",
            hint="send a .zip, .tar.gz, .tar.xz, .tar.bz2 or .tar, or one file with its name in"
            " X-Fnbuild-File-Name",
        )
    found = functions_in(content)
    if not found and not any(content.iterdir()):
        raise InputError(f"{name or 'the upload'} is empty")
    if not found and not name.endswith(_AS_THEY_ARE) and not _has_python(content):
        raise InputError(
            f"{name or 'the upload'} has neither Python code nor a function.yaml",
            hint="send the folder of a function: main.py, and function.yaml beside it",
        )
    return f"upload:{uploads.keep(folder)}", found


def _has_python(content: Path) -> bool:
    return any(name.endswith(".py") for _, _, names in trees.walk(content) for name in names)
