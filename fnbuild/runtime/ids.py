"""Random identifiers of events and requests, and the identifier of this machine."""

import os
import socket
import zlib

INSTANCE_HEADER = "X-Fnbuild-Instance"
"""Header of replies to health checks; its value is the `instance_id` of the replica."""

# Identifiers whose random bytes are read from the kernel at once.
_BATCH = 128
_VARIANT = dict(zip("0123456789abcdef", "89ab" * 4))  # noqa: B905 - zip has no strict in 3.6

_random = ""
_offset = 0


def new_id() -> str:
    """Return a random UUID (version 4), without the uuid module, which runs programs on 3.6."""
    global _random, _offset  # noqa: PLW0603 - one supply for the process
    if _offset >= len(_random):
        _random = os.urandom(16 * _BATCH).hex()
        _offset = 0
    text = _random[_offset : _offset + 32]
    _offset += 32
    return "%s-%s-4%s-%s%s-%s" % (
        text[:8],
        text[8:12],
        text[13:16],
        _VARIANT[text[16]],
        text[17:20],
        text[20:],
    )


def instance_id(host: str = "") -> str:
    """Return a hash that identifies a machine or pod, by default this one, without its name."""
    return "%08x" % zlib.crc32((host or socket.gethostname()).encode("utf-8"))
