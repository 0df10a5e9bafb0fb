"""A process that has imported the handler and is forked for every worker.

A copy starts in milliseconds and shares the memory of everything imported. Where a fork would not
be safe (threads, a GPU, open descriptors, other processes) the template reports the reason and
becomes a worker itself.
"""

import gc
import os
import socket
import sys
import threading
import warnings
from contextlib import suppress
from typing import Any, Dict, List, Tuple

from .. import wire
from .channel import Channel

_DEVICE = "/dev/nvidia"
# Files that libraries may keep open.
_HARMLESS = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")


def open_descriptors() -> Dict[int, str]:
    """Return the open descriptors and their targets; empty if the kernel does not list them."""
    targets: Dict[int, str] = {}
    try:
        numbers = os.listdir("/proc/self/fd")
    except OSError:
        return targets
    for number in numbers:
        # The descriptor of the listing is closed by now.
        with suppress(OSError):
            targets[int(number)] = os.readlink("/proc/self/fd/" + number)
    return targets


def fork_obstacle(before: Dict[int, str]) -> str:
    """Return the reason why this process cannot be forked safely; empty if it can.

    `before` are the descriptors that were open before the import of the handler.
    """
    return (
        _gpu_obstacle() or _descriptor_obstacle(before) or _child_obstacle() or _thread_obstacle()
    )


def _thread_obstacle() -> str:
    count = _count_threads()
    if count > 1 and threading.active_count() == 1:
        # Libraries with fork handlers, such as OpenBLAS, end their threads at the first fork.
        _fork_once()
        count = _count_threads()
    if count == 1:
        return ""
    if not count:
        return "the kernel does not report the number of threads"
    return "the handler's imports left %d threads running" % (count - 1)


def _count_threads() -> int:
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return 0


def _fork_once() -> None:
    with warnings.catch_warnings():
        # Python 3.12 and later warn about a fork with threads; this one ends at once.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)


def _gpu_obstacle() -> str:
    torch = sys.modules.get("torch")
    is_initialized = getattr(getattr(torch, "cuda", None), "is_initialized", None)
    if is_initialized is not None and is_initialized():
        return "the handler's imports initialised CUDA"
    try:
        with open("/proc/self/maps", "rb") as file:
            mapped = _DEVICE.encode("ascii") in file.read()
    except OSError:
        mapped = False
    if mapped or any(target.startswith(_DEVICE) for target in open_descriptors().values()):
        return "the handler's imports opened a GPU"
    return ""


def _descriptor_obstacle(before: Dict[int, str]) -> str:
    targets = [
        target
        for number, target in sorted(open_descriptors().items())
        if before.get(number) != target and target not in _HARMLESS
    ]
    return "the handler's imports left open: " + ", ".join(targets) if targets else ""


def _child_obstacle() -> str:
    try:
        if hasattr(os, "waitid"):
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        else:
            os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return ""
    return "the handler's imports started another process"


class ForkTemplate:
    """The template process. `opened` are the descriptors from before the import of the handler."""

    def __init__(self, channel: Channel, folder: str, opened: Dict[int, str]) -> None:
        self._channel = channel
        self._opened = opened
        self._folder = folder
        self._files = _imported_files(folder)

    def serve(self) -> Channel:
        """Fork on request. Return in each process that becomes a worker, with its channel."""
        channel = self._channel
        reason = fork_obstacle(self._opened)
        if reason:
            channel.send(wire.UNFORKABLE, {"reason": reason})
            return channel
        if hasattr(gc, "freeze"):
            # The collector would write to the pages that the workers share.
            gc.freeze()
        channel.send(wire.FORKABLE, {})
        while True:
            message = channel.receive()
            if message is None or message.kind != wire.FORK:
                os._exit(0)
            if _imported_files(self._folder) != self._files:
                # The processor starts another template, which imports the current code.
                os._exit(0)
            ends = [channel.fds.popleft() for _ in range(3)]
            if self._fork_child():
                channel.sock.close()
                return _adopt_descriptors(ends)
            for fd in ends:
                os.close(fd)

    def _fork_child(self) -> bool:
        """Fork a child of the processor and report its pid; return True in the child."""
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        reader, writer = os.pipe()
        pid = 0
        problem = "the fork ended at once"
        try:
            intermediate = os.fork()
        except OSError as error:
            problem = str(error.strerror)
            os.close(writer)
        else:
            if not intermediate:
                _become_orphan(writer)
                os.close(reader)
                os.close(writer)
                return True
            os.close(writer)
            pid = int(os.read(reader, 32) or 0)
            os.waitpid(intermediate, 0)
        os.close(reader)
        self._channel.send(wire.FORKED, {"pid": pid, "problem": problem})
        return False


def _become_orphan(writer: int) -> None:
    # When the intermediate process ends, the kernel makes the processor the parent.
    try:
        if os.fork():
            os._exit(0)
    except OSError:
        os._exit(1)
    os.setsid()
    os.write(writer, b"%d" % os.getpid())


def _adopt_descriptors(ends: List[int]) -> Channel:
    sock, out, err = ends
    os.dup2(out, 1)
    os.dup2(err, 2)
    os.close(out)
    os.close(err)
    # Or all workers would generate the same random numbers.
    for name in ("random", "numpy.random"):
        seed = getattr(sys.modules.get(name), "seed", None)
        if seed is not None:
            seed()
    return Channel(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=sock))


def _imported_files(folder: str) -> Dict[str, Tuple[Any, ...]]:
    """Return the imported files of the function with the values that change when one is written."""
    files: Dict[str, Tuple[Any, ...]] = {}
    for module in list(sys.modules.values()):
        # Attribute access could trigger the import of a lazy module.
        path = getattr(module, "__dict__", {}).get("__file__")
        if isinstance(path, str) and path.startswith(folder + os.sep):
            try:
                status = os.stat(path)
            except OSError:
                files[path] = ()
            else:
                files[path] = (status.st_mtime_ns, status.st_size, status.st_ino)
    return files
