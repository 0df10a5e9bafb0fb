"""The handler's own tracebacks: what people read when their code fails, without our frames."""

import os
import re
import traceback
from types import TracebackType
from typing import List, Optional

_LIBRARY = re.compile(r"/(site-packages|dist-packages|lib/python\d[\d.]*)/")
_HERE = os.path.dirname(os.path.abspath(__file__))
_EVENT_LOOP = re.compile(r"/lib/python\d[\d.]*t?/(asyncio/|selectors\.py$)")
_OF_COROUTINES = os.path.join(_HERE, "coroutines.py")


def handler_frames(tb: Optional[TracebackType]) -> Optional[TracebackType]:
    """The traceback from the first frame on that is not the runtime's or the import system's.

    The event loop's frames are the runtime's as well, where it is the runtime that runs it.
    """
    frames = []
    while tb is not None:
        frames.append(tb)
        tb = tb.tb_next
    outer = outer_frames([one.tb_frame.f_code.co_filename for one in frames])
    return frames[outer] if outer < len(frames) else None


def outer_frames(filenames: List[str]) -> int:
    """How many frames, from the outermost on, lead to the handler's first."""
    looping = False
    for number, name in enumerate(filenames):
        looping = looping or name == _OF_COROUTINES
        ours = name.startswith((_HERE, "<frozen importlib"))
        if not ours and not (looping and _EVENT_LOOP.search(name)):
            return number
    return len(filenames)


def render(error: BaseException) -> str:
    """The whole traceback as Python prints it; never raises."""
    try:
        frames = handler_frames(error.__traceback__)
        return "".join(traceback.format_exception(type(error), error, frames)).rstrip()
    except Exception as problem:  # noqa: BLE001 - the exception's own __str__ may raise anything
        return "%s (its traceback cannot be printed: %s)" % (type(error).__name__, type(problem))


def last_line(error: BaseException) -> str:
    """Type, message and the innermost place in the handler's code, in one line."""
    text = type(error).__name__
    message = words(error)
    if message:
        text += ": " + message
    frames = handler_frames(error.__traceback__)
    if frames is None:
        return text
    place = _innermost_own(traceback.extract_tb(frames))
    return "%s (%s:%s, in %s)" % (text, os.path.basename(place.filename), place.lineno, place.name)


def words(error: BaseException) -> str:
    """The exception's message in one line; never raises."""
    try:
        lines = (line.strip() for line in str(error).splitlines())
        return " ".join(line for line in lines if line)
    except Exception as problem:  # noqa: BLE001 - a broken __str__ must not end the worker
        return "<%s while printing it>" % type(problem).__name__


def _innermost_own(frames: List[traceback.FrameSummary]) -> traceback.FrameSummary:
    """The last frame outside libraries, or the last of all."""
    for frame in reversed(frames):
        if is_own(frame.filename):
            return frame
    return frames[-1]


def is_own(filename: str) -> bool:
    """Whether the file is the function's own: neither a library's nor the runtime's."""
    return not filename.startswith((_HERE, "<frozen")) and not _LIBRARY.search(filename)
