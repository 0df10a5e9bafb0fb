"""Reap child processes.

The processor is a subreaper: a process whose parent has ended becomes its child. Workers forked by
a template are thus children like all others, and the remaining processes of a dead worker do not
stay zombies.
"""

import os
import signal
from contextlib import suppress
from typing import Callable, Optional, Tuple

_PR_SET_CHILD_SUBREAPER = 36
# Without it, as on PyPy, a process is reaped before its group is killed.
_HAS_WAITID = hasattr(os, "waitid")


class ChildProcess:
    """A child that is no worker. `pid` is 0 while it does not run."""

    pid = 0

    def reap(self) -> None:
        """Check whether the process has ended. Called on SIGCHLD."""


def become_subreaper() -> bool:
    """Make the kernel reparent orphaned descendants to this process; False if it cannot."""
    if not _HAS_WAITID:
        return False
    try:
        import ctypes

        return bool(ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)
    except (ImportError, OSError, AttributeError):
        return False


def reap_child(pid: int) -> Optional[int]:
    """Return the exit status of a child, negative for a signal, or None while it lives.

    The rest of its process group is killed.
    """
    if _HAS_WAITID:
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        if os.waitid(os.P_PID, pid, flags) is None:
            return None
        # Until the process is reaped, no other group can have its number.
        kill_group(pid)
    ended, status = os.waitpid(pid, os.WNOHANG)
    if not ended:
        return None
    if not _HAS_WAITID:
        kill_group(pid)
    return _exit_status(status)


def reap_orphan(is_own: Callable[[int], bool]) -> Optional[Tuple[int, int]]:
    """Reap a child that is not the caller's own; return its pid and status, or None."""
    if not _HAS_WAITID:
        return _reap_listed_orphan(is_own)
    try:
        child = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    # If an own child comes first, its SIGCHLD leads to another call.
    if child is None or is_own(child.si_pid):
        return None
    return child.si_pid, _exit_status(os.waitpid(child.si_pid, 0)[1])


def _reap_listed_orphan(is_own: Callable[[int], bool]) -> Optional[Tuple[int, int]]:
    try:
        with open("/proc/thread-self/children") as file:
            pids = [int(word) for word in file.read().split()]
    except OSError:
        return None
    for pid in pids:
        if not is_own(pid):
            # Nothing else in this process waits for it.
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                return pid, _exit_status(status)
    return None


def kill_group(pid: int) -> None:
    """Kill every process of the group, which may be empty or a zombie."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _exit_status(status: int) -> int:
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
