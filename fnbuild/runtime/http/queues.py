"""What the kernel holds for a connection, on its way in and on its way out."""

import fcntl
import sys
import termios
from typing import Any


def arrived(transport: Any) -> int:
    """How many bytes have arrived that were not read yet."""
    return _ask(transport, termios.FIONREAD)


def unsent(transport: Any) -> int:
    """How many bytes the peer has still to take, those in the transport's own buffer included."""
    return int(transport.get_write_buffer_size()) + _ask(transport, termios.TIOCOUTQ)


def _ask(transport: Any, question: int) -> int:
    number = transport.get_extra_info("socket").fileno()
    if number < 0:
        return 0
    return int.from_bytes(fcntl.ioctl(number, question, bytes(4)), sys.byteorder)
