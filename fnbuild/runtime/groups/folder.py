"""The folder of a GPU group, which the processors of its members share, also in containers.

    group.json    the members, see `group`; replaced as a whole
    lock          held by a process that reads and replaces group.json
    ID.lock       held by a member's processor and by its workers as long as one of them lives
    ID.sock       a datagram here says that group.json has changed

Members may run as different users. So every file is open to all users, and the folder's parent only
to its owner.
"""

import fcntl
import os
import socket
from contextlib import contextmanager, suppress
from typing import Iterable, Iterator, Optional

from ..file_locks import is_locked
from .group import Group

FILE_NAME = "group.json"
_LOCK_NAME = "lock"


class Change:
    """A change of the group while its lock is held. `saved` is True if it was written."""

    def __init__(self, group: Group) -> None:
        self.group = group
        self.saved = False


class GroupFolder:
    """The folder as one process sees it. Raises OSError if it cannot be used.

    The folder stays open, so its path may be one that this process cannot open again.
    """

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        self._path = "/proc/self/fd/%d/" % self._descriptor
        self._lock = self._open(_LOCK_NAME)

    def close(self) -> None:
        """Close the folder."""
        os.close(self._lock)
        os.close(self._descriptor)

    def read(self) -> Group:
        """Return the group with its living members, without a lock."""
        group = self._read()
        for name in list(group.members):
            if not self.is_alive(name):
                del group.members[name]
        return group

    @contextmanager
    def change(self, own: str) -> Iterator[Optional[Change]]:
        """Lock the group for a change, which is written at the end. None if another process has it.

        Members that have ended are removed, except the member `own`.
        """
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        try:
            change = Change(self._read())
            before = change.group.to_json()
            for name in list(change.group.members):
                if name != own and not self.is_alive(name):
                    del change.group.members[name]
                    self.remove_member(name)
            yield change
            text = change.group.to_json()
            if text != before:
                self._write(text)
                change.saved = True
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def is_alive(self, name: str) -> bool:
        """Return True if a process holds the member's lock."""
        return is_locked(self._path + name + ".lock")

    def add_member(self) -> "Membership":
        """Create the files of a new member."""
        name = os.urandom(6).hex()
        lock = self._open(name + ".lock")
        fcntl.flock(lock, fcntl.LOCK_EX)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.bind(self._path + name + ".sock")
        os.chmod(self._path + name + ".sock", 0o666)  # noqa: S103 - see above
        return Membership(name, lock, sock)

    def notify(self, members: Iterable[str], sender: socket.socket) -> None:
        """Tell the members to read group.json again."""
        for name in members:
            # A full queue has messages that are not read yet; a member that ended has none.
            with suppress(OSError):
                sender.sendto(b"\n", self._path + name + ".sock")

    def remove_member(self, name: str) -> None:
        """Remove the files of a member that has ended."""
        for suffix in (".lock", ".sock"):
            with suppress(OSError):
                os.unlink(self._path + name + suffix)

    def _open(self, name: str) -> int:
        descriptor = os.open(self._path + name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        with suppress(PermissionError):
            # The umask may have removed bits; only the owner can set them.
            os.fchmod(descriptor, 0o666)
        return descriptor

    def _read(self) -> Group:
        try:
            with open(self._path + FILE_NAME, encoding="utf-8") as file:
                return Group(file.read())
        except FileNotFoundError:
            return Group()
        except (ValueError, TypeError, AttributeError):
            # Of no version known here: the living members enter themselves again.
            return Group()

    def _write(self, text: str) -> None:
        draft = self._path + FILE_NAME + ".new"
        with suppress(FileNotFoundError):
            os.unlink(draft)
        # Never through a link that another member made.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with os.fdopen(os.open(draft, flags, 0o666), "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o666)
            file.write(text)
        os.replace(draft, self._path + FILE_NAME)


class Membership:
    """The files of a member: its id, its locked file and its socket."""

    def __init__(self, name: str, lock: int, sock: socket.socket) -> None:
        self.name = name
        self.lock = lock
        self.socket = sock

    def close(self) -> None:
        """End the membership, once the workers have ended as well."""
        self.socket.close()
        os.close(self.lock)
