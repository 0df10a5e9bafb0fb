"""Walk and remove folder trees of any depth, without recursion.

Folders from users and archives may be nested deeper than Python's recursion limit, and their paths
may be longer than the kernel accepts. `shutil.rmtree` and `os.walk` recurse up to Python 3.11.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

MAX_DEPTH = 100
"""The maximum nesting of folders with code. JavaScript and Java packages have about 30."""

log = logging.getLogger(__name__)


def walk(top: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield what `os.walk` does, top down: folder, names of folders, names of files.

    Folders that the caller removes from the list are not visited, links are not followed, and a
    folder that cannot be read counts as empty.
    """
    pending = [os.fspath(top)]
    while pending:
        folder = pending.pop()
        folders: list[str] = []
        files: list[str] = []
        with contextlib.suppress(OSError), os.scandir(folder) as listing:
            for entry in listing:
                (folders if _is_folder(entry) else files).append(entry.name)
        yield folder, folders, files
        pending += [
            path
            for name in reversed(folders)
            if not os.path.islink(path := os.path.join(folder, name))
        ]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


@contextlib.contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """Create a temporary folder that is removed after the block, whatever it contains.

    Folders with the same prefix that killed processes left are removed first.
    """
    remove_abandoned(prefix)
    path = Path(tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}-"))
    try:
        yield path
    finally:
        try_remove(path)


def remove_abandoned(prefix: str) -> None:
    """Remove temporary folders of this user whose process no longer exists.

    Their names are the prefix, the id of the process and a hyphen, before anything else.
    """
    for path in Path(tempfile.gettempdir()).glob(f"{prefix}*-*"):
        owner = path.name.removeprefix(prefix).partition("-")[0]
        with contextlib.suppress(OSError):
            info = path.lstat()
            is_own_folder = stat.S_ISDIR(info.st_mode) and info.st_uid == os.geteuid()
            if is_own_folder and owner.isdecimal() and not process_exists(int(owner)):
                remove(path)


def process_exists(pid: int) -> bool:
    """Return True if there is a process with this id, of any user."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


def try_remove(path: Path) -> bool:
    """Call `remove` and return True; on failure log a warning and return False."""
    try:
        remove(path)
    except OSError as error:
        log.warning("%s cannot be removed: %s", path, error)
        return False
    return True


def remove(path: Path) -> None:
    """Remove a folder with its content, a file or a link; ignore a path that does not exist.

    Errors do not stop the removal of the rest. Raises the first `OSError` after that.
    """
    try:
        top = _open_folder(os.fspath(path), None)
    except FileNotFoundError:
        return
    except OSError:
        if not path.is_symlink() and path.is_dir():
            raise
        path.unlink(missing_ok=True)
        return
    try:
        failure = _empty_folder(top)
    finally:
        os.close(top)
    if failure is not None:
        raise failure
    path.rmdir()


def _empty_folder(top: int) -> OSError | None:
    """Empty the folder and return the first error.

    Folders further down are moved to the top before they are emptied, so that neither the depth nor
    the length of a path matters.
    """
    failure: OSError | None = None
    # A random name cannot collide with the remains of a killed removal.
    label = f".removed-{secrets.token_hex(6)}"
    folders, failure = _remove_files(top)
    pending = list(folders)
    count = 0
    while pending:
        name = pending.pop()
        try:
            folder = _open_folder(name, top)
            try:
                subfolders, error = _remove_files(folder)
                for subfolder in subfolders:
                    count += 1
                    os.rename(subfolder, f"{label}-{count}", src_dir_fd=folder, dst_dir_fd=top)
                    pending.append(f"{label}-{count}")
            finally:
                os.close(folder)
            if error is not None:
                raise error
            os.rmdir(name, dir_fd=top)
        except FileNotFoundError:
            continue  # another process removes it as well
        except OSError as os_error:
            failure = failure or os_error
    return failure


def _remove_files(folder: int) -> tuple[list[str], OSError | None]:
    """Remove all but folders; return the names of the folders, and the first error."""
    folders: list[str] = []
    failure: OSError | None = None
    with os.scandir(folder) as listing:
        entries = list(listing)
    for entry in entries:
        try:
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
            else:
                os.unlink(entry.name, dir_fd=folder)
        except FileNotFoundError:
            continue
        except OSError as error:
            failure = failure or error
    return folders, failure


def _open_folder(name: str, parent: int | None) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    info = os.stat(name, dir_fd=parent, follow_symlinks=False)
    # Root needs no permission, and must not change the mode of a folder that another user swaps in.
    if os.geteuid() and stat.S_ISDIR(info.st_mode) and info.st_mode & 0o700 != 0o700:
        # The owner may have removed write permission.
        with contextlib.suppress(OSError):
            os.chmod(name, 0o700, dir_fd=parent)
    return os.open(name, flags, dir_fd=parent)


def total_size(folder: Path) -> int:
    """Return the total size of a folder's files; files that vanish meanwhile count as 0."""
    total, folders = 0, [str(folder)]
    while folders:
        with contextlib.suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_size
    return total
