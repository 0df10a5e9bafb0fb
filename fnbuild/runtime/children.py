"""The processor's child processes: how they are waited for, and those that come to it unasked.

A process whose parent ended comes to the processor when that is the reaper of its descendants. So
workers that a template forked are children of the processor like all others, and nothing that a
dead worker leaves behind stays a zombie.
"""

import os
import signal
from contextlib import suppress
from typing import Callable, Optional, Tuple

_PR_SET_CHILD_SUBREAPER = 36
# PyPy has none; there a process is reaped before its group is killed.
_CAN_PEEK = hasattr(os, "waitid")


def become_reaper() -> bool:
    """Have the kernel give this process its orphaned descendants; False where it cannot."""
    if not _CAN_PEEK:
        return False
    try:
        import ctypes

        return bool(ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)
    except (ImportError, OSError, AttributeError):
        return False


def reap(pid: int) -> Optional[int]:
    """How the child ended, negative for a signal; None while it lives.

    What is left of its process group ends with it.
    """
    if _CAN_PEEK:
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        if os.waitid(os.P_PID, pid, flags) is None:
            return None
        # Before the process is reaped its group's number cannot belong to anybody else.
        kill_group(pid)
    found, status = os.waitpid(pid, os.WNOHANG)
    if not found:
        return None
    if not _CAN_PEEK:
        kill_group(pid)
    return _exit_status(status)


def reap_stray(known: Callable[[int], bool]) -> Optional[Tuple[int, int]]:
    """Reap one child that is not `known`: its pid and how it ended; None when there is none."""
    if not _CAN_PEEK:
        return _reap_listed(known)
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    # A known one that comes first brings another SIGCHLD, behind which the strays have their turn.
    if found is None or known(found.si_pid):
        return None
    return found.si_pid, _exit_status(os.waitpid(found.si_pid, 0)[1])


def _reap_listed(known: Callable[[int], bool]) -> Optional[Tuple[int, int]]:
    try:
        with open("/proc/thread-self/children") as file:
            pids = [int(word) for word in file.read().split()]
    except OSError:
        return None
    for pid in pids:
        if not known(pid):
            # It is a child of this process alone, which nobody else waits for.
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                return pid, _exit_status(status)
    return None


def kill_group(pid: int) -> None:
    """End every process of the group at once; it may be empty, or a zombie already."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _exit_status(status: int) -> int:
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
