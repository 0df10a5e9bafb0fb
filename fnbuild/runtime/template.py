"""A process that has imported the handler and is copied for every worker.

A copy starts in milliseconds and shares the memory of everything imported. Where copies would not
be safe (`forksafe`) the process says why not, and becomes a worker itself.
"""

import gc
import os
import socket
import sys
from typing import Any, Dict, List, Tuple

from . import forksafe, wire
from .channel import Channel


class Template:
    """`opened` are the descriptors that were open before the handler was imported."""

    def __init__(self, channel: Channel, folder: str, opened: Dict[int, str]) -> None:
        self._channel = channel
        self._opened = opened
        self._folder = folder
        self._files = _imported_files(folder)

    def serve(self) -> Channel:
        """Copy on demand; returns in a process that is to be a worker, with that one's channel."""
        channel = self._channel
        reason = forksafe.obstacle(self._opened)
        if reason:
            channel.send(wire.UNFORKABLE, {"reason": reason})
            return channel
        if hasattr(gc, "freeze"):
            # The collector would write to every page that the copies share.
            gc.freeze()
        channel.send(wire.FORKABLE, {})
        while True:
            message = channel.receive()
            if message is None or message.kind != wire.FORK:
                os._exit(0)
            if _imported_files(self._folder) != self._files:
                # The processor starts another one, which imports the code as it is now.
                os._exit(0)
            ends = [channel.fds.popleft() for _ in range(3)]
            if self._copy():
                channel.sock.close()
                return _take_ends(ends)
            for fd in ends:
                os.close(fd)

    def _copy(self) -> bool:
        """Make a copy whose parent is the processor, and tell its pid; True in the copy."""
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        reader, writer = os.pipe()
        pid = 0
        problem = "the copy ended at once"
        try:
            between = os.fork()
        except OSError as error:
            problem = str(error.strerror)
            os.close(writer)
        else:
            if not between:
                _become_orphan(writer)
                os.close(reader)
                os.close(writer)
                return True
            os.close(writer)
            pid = int(os.read(reader, 32) or 0)
            os.waitpid(between, 0)
        os.close(reader)
        self._channel.send(wire.FORKED, {"pid": pid, "problem": problem})
        return False


def _become_orphan(writer: int) -> None:
    # When the process between them ends, the kernel gives the copy to the processor.
    try:
        if os.fork():
            os._exit(0)
    except OSError:
        os._exit(1)
    os.setsid()
    os.write(writer, b"%d" % os.getpid())


def _take_ends(ends: List[int]) -> Channel:
    sock, out, err = ends
    os.dup2(out, 1)
    os.dup2(err, 2)
    os.close(out)
    os.close(err)
    # Or all copies would draw the same numbers.
    for name in ("random", "numpy.random"):
        seed = getattr(sys.modules.get(name), "seed", None)
        if seed is not None:
            seed()
    return Channel(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=sock))


def _imported_files(folder: str) -> Dict[str, Tuple[Any, ...]]:
    """The function's own files that were imported, and what changes when one is written."""
    found: Dict[str, Tuple[Any, ...]] = {}
    for module in list(sys.modules.values()):
        # Asked for by name, a module that loads itself lazily might do so.
        path = getattr(module, "__dict__", {}).get("__file__")
        if isinstance(path, str) and path.startswith(folder + os.sep):
            try:
                facts = os.stat(path)
            except OSError:
                found[path] = ()
            else:
                found[path] = (facts.st_mtime_ns, facts.st_size, facts.st_ino)
    return found
