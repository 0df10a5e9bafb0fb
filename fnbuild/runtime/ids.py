"""Identifiers: random ones of events and requests, and that of the processor's machine."""

import os
import socket
import zlib

INSTANCE_HEADER = "X-Fnbuild-Instance"
"""Tells which of many answers a health check; `instance` says what is in it."""

# The random bytes of this many identifiers are asked from the kernel at once.
_BATCH = 128
_VARIANT = dict(zip("0123456789abcdef", "89ab" * 4))  # noqa: B905 - zip has no strict in 3.6

_random = ""
_at = 0


def new_id() -> str:
    """A random UUID (version 4); the uuid module starts other programs when 3.6 imports it."""
    global _random, _at  # noqa: PLW0603 - one supply for the whole process
    if _at >= len(_random):
        _random = os.urandom(16 * _BATCH).hex()
        _at = 0
    text = _random[_at : _at + 32]
    _at += 32
    return "%s-%s-4%s-%s%s-%s" % (
        text[:8],
        text[8:12],
        text[13:16],
        _VARIANT[text[16]],
        text[17:20],
        text[20:],
    )


def instance_id(host: str = "") -> str:
    """What tells machines and pods apart without naming them; by default this one."""
    return "%08x" % zlib.crc32((host or socket.gethostname()).encode("utf-8"))
