"""What faulthandler prints of a worker, read back: the handler's frames without the runtime's."""

import os
import re
from typing import List

from .tracebacks import is_own, outer_frames

_HERE = os.path.dirname(os.path.abspath(__file__))
_FRAME = re.compile(r'  File "(.+)", line (\d+) in (.+)\Z')
# Above the stack of the thread that matters; those of other threads have a heading of their own.
_HEADINGS = ("Current thread ", "Stack (")
_BEGINS = ("Fatal Python error", "Thread 0x", *_HEADINGS)
_LAST_LINES = 20


def stack_of(dump: List[str]) -> List[str]:
    """The frames in the order of a traceback, without the runtime's."""
    frames: List[str] = []
    for line in _section(dump):
        if line.startswith("  File "):
            frames.append(line)
        elif frames and not line.startswith("  "):
            break
    frames.reverse()
    outer = outer_frames([line.partition('"')[2].partition('"')[0] for line in frames])
    return [line for line in frames[outer:] if _HERE not in line]


def _section(dump: List[str]) -> List[str]:
    for number, line in enumerate(dump):
        if line.startswith(_HEADINGS):
            return dump[number + 1 :]
    return dump


def place(frames: List[str]) -> str:
    """Where in the handler's own code a stack ends, as `main.py:5, in init_context`; or nothing."""
    found = [match for match in map(_FRAME.match, frames) if match]
    for match in reversed(found):
        if is_own(match.group(1)):
            return "%s:%s, in %s" % (os.path.basename(match.group(1)), *match.groups()[1:])
    return ""


def last_words(lines: List[str]) -> str:
    """What a worker that died left on stderr; of a crash dump, the handler's stack alone."""
    begin = next((n for n, line in enumerate(lines) if line.startswith(_BEGINS)), len(lines))
    return "\n".join(lines[:begin][-_LAST_LINES:] + stack_of(lines[begin:]))
