"""The data directory: where it is, how it is laid out, and who holds which of its locks.

fnbuild.db                                what the store remembers
session.key                               signs the sessions of dashboards
functions/<namespace>/<name>/lock         held by whoever changes the function
functions/<namespace>/<name>/log.jsonl
functions/<namespace>/<name>/revisions/<n>/{code/,processor.json}
environments/<key>/                       a virtual environment, shared by equal requirements
sdk/<version>/nuclio_sdk
images/<id>/                              code taken from an image
imports/<platform>/<namespace>/<name>/    code that came with an import, until its first deploy
uploads/<id>/                             code that clients sent to a dashboard
foreground/<id>.json                      held by a `fnbuild run`, and what it serves
dashboards/<id>.lock                      held by a dashboard as long as it runs
dashboards/<id>.tmp/                      what it needs for a moment
pythons.json                              which Python each image has, by its id
run/                                      sockets of what runs
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
    """The directory, made (for its owner alone) when it does not exist.

    $FNBUILD_DATA_DIR, else $XDG_DATA_HOME/fnbuild, else ~/.local/share/fnbuild.
    """
    asked = os.environ.get("FNBUILD_DATA_DIR")
    # The XDG specification says that a relative path there is to be ignored.
    xdg = os.environ.get("XDG_DATA_HOME", "")
    if asked:
        path = Path(asked).expanduser().absolute()
    elif xdg.startswith("/"):
        path = Path(xdg) / "fnbuild"
    else:
        path = Path.home() / ".local/share/fnbuild"
    return make_private_dir(path)


def make_private_dir(path: Path) -> Path:
    """Make a directory that only its owner may enter; one that exists keeps its mode."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"cannot make the directory {path}: {error.strerror}",
            hint="set FNBUILD_DATA_DIR to a directory that you may write to",
        ) from error
    return path


def function_dir(namespace: str, name: str) -> Path:
    """The folder of one function. Nothing is made."""
    for part, word in ((namespace, "namespace"), (name, "function name")):
        if part in ("", ".", "..") or "/" in part or "\0" in part or len(os.fsencode(part)) > 200:
            raise UsageError(f"{part!r} cannot be a {word}")
    return data_dir() / "functions" / namespace / name


def revision_dir(namespace: str, name: str, number: int) -> Path:
    """The folder of one revision. Nothing is made."""
    return function_dir(namespace, name) / "revisions" / str(number)


@dataclass(frozen=True, slots=True)
class LockHolder:
    """Who holds a lock. `since` is local time, HH:MM:SS; `pid` is 0 when it is not known."""

    pid: int = 0
    what: str = "changed"
    since: str = ""

    def __str__(self) -> str:
        by = f"process {self.pid}" if self.pid else "another process"
        return f"{by} (since {self.since})" if self.since else by


@contextmanager
def function_lock(namespace: str, name: str, what: str) -> Iterator[None]:
    """Hold the function's lock, or raise `BusyError` at once.

    `what` is a past participle for the message of whoever comes second: `deployed`, `deleted`. The
    kernel gives the lock back when the holder dies, however it dies.
    """
    path = function_dir(namespace, name) / "lock"

    def refuse(holder: LockHolder) -> None:
        raise BusyError(
            f"{name} is being {holder.what} by {holder}",
            hint="try again when it is done; the lock ends with the process that holds it",
        )

    with hold_lock(path, what, refuse):
        try:
            yield
        except BaseException:
            # A first deploy that failed in its build leaves no folder behind.
            remove_lock(namespace, name)
            raise


def other_holder(namespace: str, name: str) -> LockHolder | None:
    """The other process that changes the function just now, None when none does."""
    try:
        descriptor = os.open(function_dir(namespace, name) / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        holder = _read_holder(descriptor)
        if holder.pid in (0, os.getpid()):
            return None
        # A holder that was killed has left its name. A lock without a name is not tried: whoever
        # takes it at this moment must not be refused for a look.
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
    """Remove the lock, and the function's folder unless there is something else in it."""
    folder = function_dir(namespace, name)
    with suppress(OSError):
        if [one.name for one in folder.iterdir()] == ["lock"]:
            (folder / "lock").unlink()
            folder.rmdir()


@contextmanager
def hold_lock(path: Path, what: str, taken: Callable[[LockHolder], None]) -> Iterator[None]:
    """Hold the lock file at `path`.

    When somebody else has it, `taken` is called once with the holder: it raises, or returns and
    the call waits.
    """
    descriptor = _acquire(path, taken)
    now = datetime.now().strftime("%H:%M:%S")
    try:
        _write_holder(descriptor, json.dumps({"pid": os.getpid(), "what": what, "since": now}))
        yield
    finally:
        _write_holder(descriptor, "")
        os.close(descriptor)


def _write_holder(descriptor: int, text: str) -> None:
    # The name of the holder is a courtesy: a full disk must not keep anybody from the lock.
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode(), 0)


def _acquire(path: Path, taken: Callable[[LockHolder], None]) -> int:
    make_private_dir(path.parent)
    told = False
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(f"cannot open the lock {path}: {error.strerror}") from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not told:
                    taken(_read_holder(descriptor))
                told = True
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_same_file(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        # The folder was removed while we waited; the lock we have is of a file nobody else sees.
        os.close(descriptor)
        make_private_dir(path.parent)


def _is_same_file(descriptor: int, path: Path) -> bool:
    try:
        there = os.stat(path)
    except FileNotFoundError:
        return False
    here = os.fstat(descriptor)
    return stat.S_ISREG(there.st_mode) and os.path.samestat(here, there)


def _read_holder(descriptor: int) -> LockHolder:
    # The holder may be between taking the lock and writing its name: then the file says nothing.
    try:
        raw = json.loads(os.pread(descriptor, 4096, 0))
        return LockHolder(int(raw["pid"]), str(raw["what"]), str(raw["since"]))
    except (ValueError, KeyError, TypeError):
        return LockHolder()
