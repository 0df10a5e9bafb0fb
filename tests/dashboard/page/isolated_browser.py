"""Start a browser in a separate network namespace, whose only interface is loopback.

Chromium aborts requests (net::ERR_NETWORK_CHANGED) whenever a network interface appears or
disappears, for example those of containers of other tests. The namespace prevents this. It also
shows that the page needs no network except its dashboard.

`launcher` writes the program that a test passes as the browser. Run by it, this file listens in
the new namespace, passes the listening socket to a child that stays outside, and becomes the
browser. The child serves SOCKS 5 (RFC 1928) and connects only to loopback; it ends with the
browser. Only the browser has the pipes of --remote-debugging-pipe.
"""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import os
import shlex
import signal
import socket
import struct
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

# From Linux's sched.h, prctl.h, sockios.h and if.h.
CLONE_NEWNET = 0x4000_0000
CLONE_NEWUSER = 0x1000_0000
PR_SET_PDEATHSIG = 1
SIOCSIFFLAGS = 0x8914
IFF_UP = 1

OUTSIDE = ("127.0.0.1", "localhost", "::1")
PORT = 1080
# Without the second one, Chromium uses no proxy for loopback.
FLAGS = (f"--proxy-server=socks5://127.0.0.1:{PORT}", "--proxy-bypass-list=<-loopback>")

libc = ctypes.CDLL(None, use_errno=True)


def launcher(browser: Path, folder: Path) -> Path:
    """Write a program to `folder` that starts the browser, if possible in its own network."""
    path = folder / "isolated-browser"
    command = [sys.executable, "-I", __file__, str(browser)]
    path.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    path.chmod(0o755)
    return path


def can_isolate() -> bool:
    """Return True if this user may create a network namespace."""
    return subprocess.run([sys.executable, "-I", __file__], check=False).returncode == 0


def start(browser: str, *arguments: str) -> None:
    """Become the browser."""
    near, far = socket.socketpair()
    parent = os.getpid()
    child = os.fork()
    if not child:
        stay_outside(parent, far)
    far.close()
    flags: tuple[str, ...] = ()
    with near, suppress(OSError):
        isolate()
        with socket.create_server(("127.0.0.1", PORT)) as listening:
            socket.send_fds(near, [b"."], [listening.fileno()])
        flags = FLAGS
    os.execv(browser, [browser, *flags, *arguments])


def isolate() -> None:
    """Enter a new namespace, where loopback is up; raise OSError if that is forbidden."""
    user, group = os.getuid(), os.getgid()
    if libc.unshare(CLONE_NEWNET):
        if libc.unshare(CLONE_NEWNET | CLONE_NEWUSER):
            raise OSError(ctypes.get_errno(), "unshare")
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", IFF_UP))


def stay_outside(parent: int, channel: socket.socket) -> None:
    """Connect what the browser requests, in the child process that ends with the browser."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(nowhere, descriptor)
    channel_number = channel.fileno()
    # The pipes must close when the browser ends, so no other process may hold them.
    os.closerange(3, channel_number)
    os.closerange(channel_number + 1, os.sysconf("SC_OPEN_MAX"))
    _, sockets, _, _ = socket.recv_fds(channel, 1, 1)
    if sockets and os.getppid() == parent:
        loop = asyncio.new_event_loop()
        server = asyncio.start_server(connected, sock=socket.socket(fileno=sockets[0]))
        loop.run_until_complete(server)
        loop.run_forever()
    os._exit(0)


async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve one connection of the browser until either side ends it."""
    with closing(writer), suppress(OSError, asyncio.IncompleteReadError):
        host, port = await requested_address(reader, writer)
        try:
            if host not in OUTSIDE:
                raise ConnectionRefusedError(host)
            there, to_there = await asyncio.open_connection(host, port)
        except OSError:
            writer.write(b"\x05\x05\x00\x01" + bytes(6))
            await writer.drain()
            return
        with closing(to_there):
            writer.write(b"\x05\x00\x00\x01" + bytes(6))
            both = pump(reader, to_there), pump(there, writer)
            ways = [asyncio.create_task(way) for way in both]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()


async def requested_address(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> tuple[str, int]:
    """Return the host and port that a client requests."""
    _, methods = await reader.readexactly(2)
    await reader.readexactly(methods)
    writer.write(b"\x05\x00")
    _, _, _, kind = await reader.readexactly(4)
    if kind == 3:
        host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
    else:
        family, length = (socket.AF_INET, 4) if kind == 1 else (socket.AF_INET6, 16)
        host = socket.inet_ntop(family, await reader.readexactly(length))
    return host, int.from_bytes(await reader.readexactly(2), "big")


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()


if __name__ == "__main__":
    if sys.argv[1:]:
        start(*sys.argv[1:])
    try:
        isolate()
    except OSError:
        sys.exit(1)
