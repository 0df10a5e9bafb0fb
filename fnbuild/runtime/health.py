"""Asks the processor of this container how it is: `processor --health`.

A container engine starts this every few seconds while the function lives. So it imports next
to nothing, and speaks as little HTTP as the processor takes.
"""

import os
import sys
from _socket import socket

# `typing` would take as long as all the rest.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import List, Tuple

# As in Nuclio's images, whose health check asks the same (pkg/processor/build/builder.go).
HOST, PORT = "127.0.0.1", 8082
# What the health check of an image allows.
_SECONDS = 3.0


def get(path: str) -> "Tuple[int, bytes]":
    """Status and body of GET `path` at the admin listener; OSError when nobody answers."""
    connection = socket()
    try:
        connection.settimeout(_SECONDS)
        connection.connect((HOST, PORT))
        connection.sendall(b"GET %s HTTP/1.0\r\n\r\n" % path.encode("ascii"))
        parts: "List[bytes]" = []
        while not parts or parts[-1]:
            parts.append(connection.recv(65536))
    finally:
        connection.close()
    head, _, body = b"".join(parts).partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    if len(words) < 3 or not words[1].isdigit():
        raise OSError("no whole HTTP answer from %s:%d" % (HOST, PORT))
    return int(words[1]), body


def main() -> int:
    """0 when every worker is ready. What the processor says is printed, for the engine's record."""
    try:
        status, body = get("/ready")
    except OSError as problem:
        sys.stdout.write("nothing answers at %s:%d: %s\n" % (HOST, PORT, problem))
        return 1
    os.write(1, body + b"\n")
    return 0 if status == 200 else 1
