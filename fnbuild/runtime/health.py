"""`processor --health`: ask the processor of this container whether it is ready.

A container engine runs this every few seconds, so it imports next to nothing and sends the
shortest HTTP request that the processor accepts.
"""

import os
import sys
from _socket import socket

# Importing `typing` would take as long as all the rest.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import List, Tuple

# As in Nuclio's images, whose health check is the same (pkg/processor/build/builder.go).
HOST, PORT = "127.0.0.1", 8082
# The timeout of an image's health check.
_TIMEOUT = 3.0


def get(path: str) -> "Tuple[int, bytes]":
    """Return status and body of GET `path` from the admin listener; OSError without an answer."""
    connection = socket()
    try:
        connection.settimeout(_TIMEOUT)
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
        raise OSError("no complete HTTP response from %s:%d" % (HOST, PORT))
    return int(words[1]), body


def main() -> int:
    """Return 0 if every worker is ready; print the processor's answer for the engine's log."""
    try:
        status, body = get("/ready")
    except OSError as problem:
        sys.stdout.write("no answer from %s:%d: %s\n" % (HOST, PORT, problem))
        return 1
    os.write(1, body + b"\n")
    return 0 if status == 200 else 1
