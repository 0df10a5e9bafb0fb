"""A bounded cache of embeddings in shared memory, for all workers of a function.

Each embedding is a file of a folder that belongs to the parent of the workers, the processor. The
folder is removed when its last worker ends; folders of killed workers are removed by the next user.
Without shared memory, the folder is one for temporary files.
"""

import atexit
import fcntl
import mmap
import os
import shutil
import stat
import tempfile
from typing import Any, Optional

SHARED_MEMORY = "/dev/shm"  # noqa: S108 - the folder is private
_PREFIX = "fnbuild-embeddings-"
_LOCK_NAME = ".lock"
_PUT_LOCK_NAME = ".put"
# Other programs need shared memory, too: containers have 64 MiB by default.
_MAX_SHARE = 0.75


class EmbeddingCache:
    """Embeddings of the function `name`, together at most `limit` bytes."""

    def __init__(self, name: str, limit: int, root: str = SHARED_MEMORY) -> None:
        self._root = root if os.access(root, os.W_OK) else tempfile.gettempdir()
        self._name = name
        self._limit = limit
        self._lock: Optional[int] = None
        self.folder = ""

    def get(self, key: str) -> Optional[mmap.mmap]:
        """Return the bytes of an embedding, which may be changed in private; None if unknown."""
        if not self._open():
            return None
        path = os.path.join(self.folder, key)
        try:
            with open(path, "rb") as file:
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            # The oldest times are removed first.
            os.utime(path)
        except (OSError, ValueError):
            return None
        return data

    def put(self, key: str, data: bytes) -> None:
        """Store an embedding, unless it is too large or there is no memory left."""
        if not self._open():
            return
        draft = os.path.join(self.folder, ".%s-%d" % (key, os.getpid()))
        try:
            # One worker at a time, so that the limit holds for all of them.
            with open(os.path.join(self.folder, _PUT_LOCK_NAME), "wb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not self._make_room(len(data)):
                    return
                with open(draft, "wb") as file:
                    file.write(data)
                os.rename(draft, os.path.join(self.folder, key))
        except OSError:
            if os.path.exists(draft):
                os.unlink(draft)

    def close(self) -> None:
        """Remove the folder if no other worker uses it."""
        if self._lock is not None:
            _remove_unused(self.folder, self._lock)
            os.close(self._lock)
            self._lock = None

    def _open(self) -> bool:
        """Create and lock the folder; return False if that is impossible."""
        if self._lock is not None:
            return True
        prefix = "%s%d-" % (_PREFIX, os.getuid())
        self.folder = os.path.join(self._root, "%s%s-%s" % (prefix, _parent(), self._name))
        try:
            _remove_stale(self._root, prefix)
            self._lock = _lock_folder(self.folder)
        except OSError:
            return False
        if self._lock is not None:
            atexit.register(self.close)
        return self._lock is not None

    def _make_room(self, size: int) -> bool:
        """Remove the oldest embeddings; return False if so many bytes never fit."""
        filesystem = os.statvfs(self.folder)
        capacity = int(_MAX_SHARE * filesystem.f_blocks * filesystem.f_frsize)
        limit = min(self._limit, capacity)
        if size > limit:
            return False
        entries = []
        for entry in os.scandir(self.folder):
            if entry.name not in (_LOCK_NAME, _PUT_LOCK_NAME):
                facts = entry.stat()
                entries.append((facts.st_mtime, facts.st_size, entry.path))
        used = sum(entry[1] for entry in entries) + size
        for _, entry_size, path in sorted(entries):
            if used <= limit:
                break
            os.unlink(path)
            used -= entry_size
        return True


def _parent() -> str:
    """Return the process id of this process's parent, and the time at which it was started."""
    parent = os.getppid()
    try:
        with open("/proc/%d/stat" % parent) as file:
            return "%d-%s" % (parent, file.read().rpartition(")")[2].split()[19])
    except (OSError, IndexError):
        return "%d-0" % parent


def _lock_folder(folder: str) -> Optional[int]:
    """Create a private folder; return the descriptor of its lock, or None if others own it."""
    for _ in range(10):
        os.makedirs(folder, 0o700, exist_ok=True)
        if not _is_private(folder):
            return None
        path = os.path.join(folder, _LOCK_NAME)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:
            continue
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        if os.path.exists(path) and os.stat(path).st_ino == os.fstat(descriptor).st_ino:
            return descriptor
        # Its last user has removed the folder meanwhile.
        os.close(descriptor)
    return None


def _is_private(folder: str) -> bool:
    """Return True for a folder that no other user can have made or can enter."""
    facts = os.lstat(folder)
    is_own = stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.getuid()
    return is_own and not stat.S_IMODE(facts.st_mode) & 0o077


def _remove_stale(root: str, prefix: str) -> None:
    for name in os.listdir(root):
        if not name.startswith(prefix):
            continue
        folder = os.path.join(root, name)
        try:
            if not _is_private(folder):
                continue
            descriptor = os.open(os.path.join(folder, _LOCK_NAME), os.O_RDWR)
        except OSError:
            continue
        _remove_unused(folder, descriptor)
        os.close(descriptor)


def _remove_unused(folder: str, descriptor: Any) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return
    shutil.rmtree(folder, ignore_errors=True)
