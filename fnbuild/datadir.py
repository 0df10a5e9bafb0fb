"""The data directory: its location, its layout, and the locks of functions.

fnbuild.db                                the database of the store
session.key                               the key that signs sessions of dashboards
functions/<namespace>/<name>/lock         held by the process that changes the function
functions/<namespace>/<name>/log.jsonl
functions/<namespace>/<name>/revisions/<n>/{code/,processor.json}
environments/<key>/                       a Python environment, shared by equal requirements
sdk/<version>/nuclio_sdk
images/<id>/                              code taken from an image
imports/<platform>/<namespace>/<name>/    code of an imported function, until its first deploy
uploads/<id>/                             code that clients sent to a dashboard
models/<key>/                             a model that `fnbuild model pull` has downloaded
gpu-groups/<name>/                        the members of a GPU group
foreground/<id>.json                      a record of `fnbuild run`, locked while it runs
dashboards/<id>.lock                      held by a dashboard while it runs
dashboards/<id>.tmp/                      temporary files of that dashboard
pythons.json                              the Python of each image, by its id
run/                                      sockets of running processes
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from fnbuild.errors import BusyError, StoreError, UsageError


def data_dir() -> Path:
    """Return the data directory; create it, private to its owner, if it does not exist.

    $FNBUILD_DATA_DIR, else $XDG_DATA_HOME/fnbuild, else ~/.local/share/fnbuild.
    """
    configured = os.environ.get("FNBUILD_DATA_DIR")
    # The XDG specification ignores relative paths.
    xdg = os.environ.get("XDG_DATA_HOME", "")
    if configured:
        path = Path(configured).expanduser().absolute()
    elif xdg.startswith("/"):
        path = Path(xdg) / "fnbuild"
    else:
        path = Path.home() / ".local/share/fnbuild"
    return make_private_dir(path)


def make_private_dir(path: Path) -> Path:
    """Create a directory that only its owner may enter; an existing one keeps its mode."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"cannot create the directory {path}: {error.strerror}",
            hint="set FNBUILD_DATA_DIR to a directory that you may write to",
        ) from error
    return path


def function_dir(namespace: str, name: str) -> Path:
    """Return the folder of a function, without creating it."""
    for part, kind in ((namespace, "namespace"), (name, "function name")):
        if part in ("", ".", "..") or "/" in part or "\0" in part or len(os.fsencode(part)) > 200:
            raise UsageError(f"{part!r} cannot be a {kind}")
    return data_dir() / "functions" / namespace / name


def revision_dir(namespace: str, name: str, number: int) -> Path:
    """Return the folder of a revision, without creating it."""
    return function_dir(namespace, name) / "revisions" / str(number)


@dataclass(frozen=True, slots=True)
class LockHolder:
    """The holder of a lock. `since` is local time, HH:MM:SS; `pid` is 0 if it is unknown."""

    pid: int = 0
    what: str = "changed"
    since: str = ""

    def __str__(self) -> str:
        by = f"process {self.pid}" if self.pid else "another process"
        return f"{by} (since {self.since})" if self.since else by


@contextmanager
def function_lock(namespace: str, name: str, what: str) -> Iterator[None]:
    """Hold the function's lock, or raise `BusyError` at once.

    `what` is a past participle for the error message, such as `deployed` or `deleted`. The kernel
    releases the lock when its holder ends.
    """
    path = function_dir(namespace, name) / "lock"

    def refuse(holder: LockHolder) -> None:
        raise BusyError(
            f"{name} is being {holder.what} by {holder}",
            hint="try again later; the lock is released when that process ends",
        )

    with hold_lock(path, what, refuse):
        try:
            yield
        except BaseException:
            # Remove the folder of a first deploy whose build failed.
            remove_lock(namespace, name)
            raise


def other_holder(namespace: str, name: str) -> LockHolder | None:
    """Return the other process that is changing the function, None if there is none."""
    return lock_holder(function_dir(namespace, name) / "lock")


def lock_holder(path: Path) -> LockHolder | None:
    """Return the other process that holds the lock file at `path`, None if there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        holder = _read_holder(descriptor)
        if holder.pid in (0, os.getpid()):
            return None
        # A killed holder leaves its entry in the file, so the lock itself is tested. A lock without
        # an entry is not tested, since that could make a process that acquires it now fail.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return holder
    finally:
        os.close(descriptor)
    return None


def functions_being_changed() -> list[tuple[str, str]]:
    """Return the namespaces and names of the functions whose lock another process holds."""
    paths = sorted((data_dir() / "functions").glob("*/*/lock"))
    keys = [(path.parent.parent.name, path.parent.name) for path in paths]
    return [key for key in keys if other_holder(*key) is not None]


def remove_lock(namespace: str, name: str) -> None:
    """Remove the lock, and the function's folder if it contains nothing else."""
    folder = function_dir(namespace, name)
    with suppress(OSError):
        if [path.name for path in folder.iterdir()] == ["lock"]:
            (folder / "lock").unlink()
            folder.rmdir()


@contextmanager
def hold_lock(path: Path, what: str, on_conflict: Callable[[LockHolder], None]) -> Iterator[None]:
    """Hold the lock file at `path`.

    If another process holds it, `on_conflict` is called once with that holder: it raises an error,
    or returns and the call waits.
    """
    descriptor = _acquire(path, on_conflict)
    now = datetime.now().strftime("%H:%M:%S")
    try:
        _write_holder(descriptor, json.dumps({"pid": os.getpid(), "what": what, "since": now}))
        yield
    finally:
        _write_holder(descriptor, "")
        os.close(descriptor)


def _write_holder(descriptor: int, text: str) -> None:
    # The entry is informative only, so a full disk does not prevent the locking.
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode(), 0)


def _acquire(path: Path, on_conflict: Callable[[LockHolder], None]) -> int:
    make_private_dir(path.parent)
    reported = False
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(f"cannot open the lock {path}: {error.strerror}") from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not reported:
                    on_conflict(_read_holder(descriptor))
                reported = True
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_same_file(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        # The folder was removed meanwhile, so this lock is on a deleted file.
        os.close(descriptor)
        make_private_dir(path.parent)


def _is_same_file(descriptor: int, path: Path) -> bool:
    try:
        on_disk = os.stat(path)
    except FileNotFoundError:
        return False
    opened = os.fstat(descriptor)
    return stat.S_ISREG(on_disk.st_mode) and os.path.samestat(opened, on_disk)


def _read_holder(descriptor: int) -> LockHolder:
    # The file is empty between the locking and the writing of the entry.
    try:
        raw = json.loads(os.pread(descriptor, 4096, 0))
        return LockHolder(int(raw["pid"]), str(raw["what"]), str(raw["since"]))
    except (ValueError, KeyError, TypeError):
        return LockHolder()
