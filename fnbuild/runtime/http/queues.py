"""What the kernel holds for a connection, on its way in and on its way out."""

import fcntl
import sys
import termios

from ..stream import Stream


def arrived(stream: Stream) -> int:
    """How many bytes have arrived that were not read yet."""
    return _ask(stream, termios.FIONREAD)


def unsent(stream: Stream) -> int:
    """How many bytes the peer has still to take, those held back here included."""
    return stream.unsent + _ask(stream, termios.TIOCOUTQ)


def _ask(stream: Stream, question: int) -> int:
    if stream.closed:
        return 0
    return int.from_bytes(fcntl.ioctl(stream.fd, question, bytes(4)), sys.byteorder)
