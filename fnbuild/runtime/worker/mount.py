"""Mount the function's folder at /opt/nuclio for one worker.

The worker gets its own mount namespace (inside a user namespace unless it is root), in which the
folder is bound to the mount point. The machine's mount table does not change, and all mounts end
with the process.
"""

import ctypes
import os
import stat
from typing import Callable, List, Optional, Tuple

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
MS_RDONLY = 1
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_SLAVE = 1 << 19
MNT_DETACH = 2
PR_SET_PDEATHSIG = 1
O_PATH = 0o10000000

_libc = ctypes.CDLL(None, use_errno=True)


def set_parent_death_signal(signal_number: int) -> None:
    """Make the kernel send this process the signal when its parent ends."""
    _libc.prctl(PR_SET_PDEATHSIG, signal_number, 0, 0, 0)


def mount_folder(folder: str, mount_point: str, immutable: bool = False) -> Optional[str]:
    """Mount `folder` at `mount_point`; return None, or the reason why the kernel refused.

    With `immutable`, writes do not reach the folder. After a refusal the file system is as before.
    """
    try:
        if os.geteuid() == 0:
            _unshare(CLONE_NEWNS)
        else:
            _try_in_child(folder, mount_point, immutable)
            _enter_user_namespace()
        _mount_all(folder, mount_point, immutable)
    except OSError as problem:
        return "%s: %s" % (problem.filename or "mount", problem.strerror)
    return None


def _try_in_child(folder: str, mount_point: str, immutable: bool) -> None:
    # A process cannot leave a user namespace, in which it may have lost its user. So a child
    # process tries first.
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            _enter_user_namespace()
            _mount_all(folder, mount_point, immutable)
            code = 0
        except OSError as problem:
            code = problem.errno or 1
        finally:
            os._exit(code)
    _pid, status = os.waitpid(pid, 0)
    code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 1
    if code:
        raise OSError(code, os.strerror(code), "user namespace")


def _enter_user_namespace() -> None:
    uid, gid = os.geteuid(), os.getegid()
    _unshare(CLONE_NEWUSER | CLONE_NEWNS)
    # An unprivileged user has to deny setgroups before mapping groups.
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", "%d %d 1" % (uid, uid)),
        ("gid_map", "%d %d 1" % (gid, gid)),
    ):
        with open("/proc/self/" + name, "w") as file:
            file.write(text)


def _mount_all(folder: str, mount_point: str, immutable: bool) -> None:
    source = os.open(folder, O_PATH)
    try:
        # A slave receives later mounts of the machine and propagates none.
        _mount(None, "/", None, MS_REC | MS_SLAVE)
        mount = _overlay if immutable else _bind
        if os.path.isdir(mount_point):
            mount(source, mount_point)
        else:
            _mount_missing(source, mount_point, mount)
    finally:
        os.close(source)


def _mount_missing(source: int, mount_point: str, mount: Callable[[int, str], None]) -> None:
    """Mount at a path that does not exist, without creating it on the real file system.

    A tmpfs covers the parent folder, whose entries are bound back into it.
    """
    parent = os.path.dirname(mount_point)
    if not os.path.isdir(parent):
        raise OSError(2, os.strerror(2), parent)
    entries, links = _open_entries(parent)
    covered = False
    try:
        _mount("fnbuild", parent, "tmpfs", 0, "mode=0755")
        covered = True
        for name, target in links:
            os.symlink(target, os.path.join(parent, name))
        for name, fd, is_folder in entries:
            path = os.path.join(parent, name)
            if is_folder:
                os.mkdir(path)
            else:
                os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
            _bind(fd, path)
        os.mkdir(mount_point)
        mount(source, mount_point)
    except OSError:
        if covered:
            _libc.umount2(os.fsencode(parent), MNT_DETACH)
        raise
    finally:
        for _name, fd, _is_folder in entries:
            os.close(fd)


def _open_entries(parent: str) -> Tuple[List[Tuple[str, int, bool]], List[Tuple[str, str]]]:
    """Return the entries as descriptors, which work after the folder is covered, and the links."""
    entries: List[Tuple[str, int, bool]] = []
    links: List[Tuple[str, str]] = []
    for name in os.listdir(parent):
        path = os.path.join(parent, name)
        mode = os.lstat(path).st_mode
        if stat.S_ISLNK(mode):
            links.append((name, os.readlink(path)))
        else:
            entries.append((name, os.open(path, O_PATH | os.O_NOFOLLOW), stat.S_ISDIR(mode)))
    return entries, links


def _bind(fd: int, target: str) -> None:
    _mount("/proc/self/fd/%d" % fd, target, None, MS_BIND | MS_REC)


def _overlay(source: int, mount_point: str) -> None:
    """Mount the folder below a writable layer in memory.

    If the kernel does not allow that for this user, the folder is read-only.
    """
    _mount("fnbuild", mount_point, "tmpfs", 0, "mode=0755")
    upper, work = os.path.join(mount_point, "upper"), os.path.join(mount_point, "work")
    for path in (upper, work):
        os.mkdir(path)
    os.chmod(upper, stat.S_IMODE(os.fstat(source).st_mode))
    fds = [source, os.open(upper, O_PATH), os.open(work, O_PATH)]
    data = "lowerdir=/proc/self/fd/%d,upperdir=/proc/self/fd/%d,workdir=/proc/self/fd/%d" % tuple(
        fds
    )
    try:
        # Layers of an unprivileged user need user attributes for their marks.
        for options in ("",) if os.geteuid() == 0 else (",userxattr", ""):
            try:
                _mount("fnbuild", mount_point, "overlay", 0, data + options)
                return
            except OSError:
                continue
        _bind(source, mount_point)
        _mount(None, mount_point, None, MS_REMOUNT | MS_BIND | MS_RDONLY)
    except OSError:
        _libc.umount2(os.fsencode(mount_point), MNT_DETACH)
        raise
    finally:
        for fd in fds[1:]:
            os.close(fd)


def _unshare(flags: int) -> None:
    if _libc.unshare(flags) != 0:
        _raise_errno("unshare")


def _mount(
    source: Optional[str], target: str, kind: Optional[str], flags: int, data: str = ""
) -> None:
    result = _libc.mount(
        os.fsencode(source) if source else None,
        os.fsencode(target),
        kind.encode("ascii") if kind else None,
        ctypes.c_ulong(flags),
        data.encode("ascii") if data else None,
    )
    if result != 0:
        _raise_errno("mount on " + target)


def _raise_errno(operation: str) -> None:
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number), operation)
