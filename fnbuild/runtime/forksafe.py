"""Whether this process can be copied by fork with everything in it still working in the copies."""

import os
import sys
import threading
import warnings
from contextlib import suppress
from typing import Dict

_DEVICE = "/dev/nvidia"
# What libraries may keep open without harm.
_HARMLESS = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")


def descriptors() -> Dict[int, str]:
    """All open descriptors and what they are open on; none where the kernel does not tell."""
    found: Dict[int, str] = {}
    try:
        numbers = os.listdir("/proc/self/fd")
    except OSError:
        return found
    for number in numbers:
        # The one that listed them is gone by now.
        with suppress(OSError):
            found[int(number)] = os.readlink("/proc/self/fd/" + number)
    return found


def obstacle(before: Dict[int, str]) -> str:
    """Why this process must not be copied, or nothing.

    `before` are the descriptors that were open before the handler was imported.
    """
    return _gpu() or _left_open(before) or _children() or _threads() or ""


def _threads() -> str:
    count = _count_threads()
    if count > 1 and threading.active_count() == 1:
        # Libraries that know about forks, as OpenBLAS does, end their threads at the first one.
        _fork_for_nothing()
        count = _count_threads()
    if count == 1:
        return ""
    if not count:
        return "the kernel does not tell how many threads there are"
    return "the handler's imports left %d threads running" % (count - 1)


def _count_threads() -> int:
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return 0


def _fork_for_nothing() -> None:
    with warnings.catch_warnings():
        # Python 3.12 and later warn of a fork with threads; this copy does nothing but end.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)


def _gpu() -> str:
    torch = sys.modules.get("torch")
    asked = getattr(getattr(torch, "cuda", None), "is_initialized", None)
    if asked is not None and asked():
        return "the handler's imports initialised CUDA"
    try:
        with open("/proc/self/maps", "rb") as file:
            mapped = _DEVICE.encode("ascii") in file.read()
    except OSError:
        mapped = False
    if mapped or any(target.startswith(_DEVICE) for target in descriptors().values()):
        return "the handler's imports opened a GPU"
    return ""


def _left_open(before: Dict[int, str]) -> str:
    targets = [
        target
        for number, target in sorted(descriptors().items())
        if before.get(number) != target and target not in _HARMLESS
    ]
    return "the handler's imports left open: " + ", ".join(targets) if targets else ""


def _children() -> str:
    try:
        if hasattr(os, "waitid"):
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        else:
            os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return ""
    return "the handler's imports started another process"
