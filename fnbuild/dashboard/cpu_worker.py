"""A worker process of `cpu_workers`, which examines bodies from stdin, one at a time.

Frames in both directions begin with two numbers. In a request they are the lengths of the
`Examination` as JSON and of the body, which follow. In an answer they are the HTTP status and the
length of the body.
"""

from __future__ import annotations

import contextlib
import os
import resource
import struct
import sys
from typing import BinaryIO

import msgspec

from fnbuild.dashboard import answers, examinations
from fnbuild.dashboard.examinations import Examination

HEAD = struct.Struct("!II")
_MEMORY_BYTES = 4 << 30
_NICENESS = 5


def main() -> None:
    """Answer requests until stdin ends, when the dashboard does."""
    # Invocations that the dashboard relays have priority.
    os.nice(_NICENESS)
    with contextlib.suppress(ValueError, OSError):  # a lower limit is there already
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    requests, replies = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # output of libraries must not mix with answers
    while head := requests.read(HEAD.size):
        examination_length, body_length = HEAD.unpack(head)
        examination = msgspec.json.decode(requests.read(examination_length), type=Examination)
        _reply(replies, *_answer(examination, requests.read(body_length)))


def _answer(examination: Examination, body: bytes) -> tuple[int, bytes]:
    try:
        return 200, examinations.examined(examination, body)
    except Exception as error:  # noqa: BLE001 - the edge of a process
        response = answers.of_error(error)
        return response.status_code, bytes(response.body)


def _reply(replies: BinaryIO, status: int, body: bytes) -> None:
    replies.write(HEAD.pack(status, len(body)) + body)
    replies.flush()


if __name__ == "__main__":
    main()
