"""The handler's stack in tracebacks and faulthandler's dumps, without the runtime's own frames."""

import linecache
import os
import re
import traceback
from types import TracebackType
from typing import Any, List, Optional

_LIBRARY = re.compile(r"/(site-packages|dist-packages|lib/python\d[\d.]*)/")
_RUNTIME = os.path.dirname(os.path.abspath(__file__))
_EVENT_LOOP = re.compile(r"/lib/python\d[\d.]*t?/(asyncio/|selectors\.py$)")
_COROUTINES_FILE = os.path.join(_RUNTIME, "worker", "coroutines.py")

_FRAME = re.compile(r'  File "(.+)", line (\d+) in (.+)\Z')
# Headings of the stack of the failed thread; those of other threads have other headings.
_HEADINGS = ("Current thread ", "Stack (")
_DUMP_STARTS = ("Fatal Python error", "Thread 0x", *_HEADINGS)
_LAST_LINES = 20

_NO_ATTRIBUTE = re.compile(r"'([\w.]+)' object has no attribute '(\w+)'")


def handler_traceback(tb: Optional[TracebackType]) -> Optional[TracebackType]:
    """Return the traceback from the handler's first frame on.

    Frames of the runtime, the import system and the runtime's event loop precede it.
    """
    frames = []
    while tb is not None:
        frames.append(tb)
        tb = tb.tb_next
    outer = count_outer_frames([frame.tb_frame.f_code.co_filename for frame in frames])
    return frames[outer] if outer < len(frames) else None


def count_outer_frames(filenames: List[str]) -> int:
    """Return the number of outer frames before the handler's first frame."""
    in_event_loop = False
    for number, name in enumerate(filenames):
        in_event_loop = in_event_loop or name == _COROUTINES_FILE
        own = name.startswith((_RUNTIME, "<frozen importlib"))
        if not own and not (in_event_loop and _EVENT_LOOP.search(name)):
            return number
    return len(filenames)


def format_error(error: BaseException) -> str:
    """Return the traceback as Python prints it; never raises."""
    try:
        tb = handler_traceback(error.__traceback__)
        return "".join(traceback.format_exception(type(error), error, tb)).rstrip()
    except Exception as problem:  # noqa: BLE001 - the exception's own __str__ may raise anything
        return "%s (its traceback cannot be printed: %s)" % (type(error).__name__, type(problem))


def summarize_error(error: BaseException) -> str:
    """Return type, message and the innermost location in the handler's code, in one line."""
    text = type(error).__name__
    message = error_message(error)
    if message:
        text += ": " + message
    tb = handler_traceback(error.__traceback__)
    if tb is None:
        return text
    frame = _innermost_own(traceback.extract_tb(tb))
    return "%s (%s:%s, in %s)" % (text, os.path.basename(frame.filename), frame.lineno, frame.name)


def error_message(error: BaseException) -> str:
    """Return the exception's message in one line; never raises."""
    try:
        lines = (line.strip() for line in str(error).splitlines())
        return " ".join(line for line in lines if line)
    except Exception as problem:  # noqa: BLE001 - a broken __str__ must not end the worker
        return "<%s while printing it>" % type(problem).__name__


def _innermost_own(frames: List[traceback.FrameSummary]) -> traceback.FrameSummary:
    """Return the last frame outside libraries, or the last one."""
    for frame in reversed(frames):
        if is_handler_file(frame.filename):
            return frame
    return frames[-1]


def is_handler_file(filename: str) -> bool:
    """Return True for a file of the function, not of a library or the runtime."""
    return not filename.startswith((_RUNTIME, "<frozen")) and not _LIBRARY.search(filename)


def handler_frames(dump: List[str]) -> List[str]:
    """Return the frames of a dump in the order of a traceback, without the runtime's."""
    frames: List[str] = []
    for line in _current_thread_section(dump):
        if line.startswith("  File "):
            frames.append(line)
        elif frames and not line.startswith("  "):
            break
    frames.reverse()
    outer = count_outer_frames([line.partition('"')[2].partition('"')[0] for line in frames])
    return [line for line in frames[outer:] if _RUNTIME not in line]


def _current_thread_section(dump: List[str]) -> List[str]:
    for number, line in enumerate(dump):
        if line.startswith(_HEADINGS):
            return dump[number + 1 :]
    return dump


def handler_location(frames: List[str]) -> str:
    """Return the innermost location in the function's code, as `main.py:5, in init_context`.

    Empty if there is none.
    """
    matches = [match for match in map(_FRAME.match, frames) if match]
    for match in reversed(matches):
        if is_handler_file(match.group(1)):
            return "%s:%s, in %s" % (os.path.basename(match.group(1)), *match.groups()[1:])
    return ""


def last_output(lines: List[str]) -> str:
    """Return the last lines on stderr of a dead worker; of a dump, the handler's stack."""
    start = next((n for n, line in enumerate(lines) if line.startswith(_DUMP_STARTS)), len(lines))
    return "\n".join(lines[:start][-_LAST_LINES:] + handler_frames(lines[start:]))


def explain_missing_attribute(error: BaseException, user_data: Any) -> str:
    """Explain an error caused by an attribute of `context.user_data` that was never set.

    Return the cause and the remedy, or "" for other errors. From Python 3.10 on the error has the
    object; in older versions the failed line is examined.
    """
    match = _NO_ATTRIBUTE.search(str(error)) if type(error) is AttributeError else None
    if match is None or match.group(1) != type(user_data).__name__:
        return ""
    name = match.group(2)
    if hasattr(user_data, name) or not _is_about(error, user_data, name):
        return ""
    names = sorted(getattr(user_data, "__dict__", ()))
    attributes = "it sets %s" % ", ".join(names) if names else "it sets nothing"
    return (
        "context.user_data.%s was never set: init_context has to set it"
        " (context.user_data.%s = ...); %s" % (name, name, attributes)
    )


def _is_about(error: BaseException, user_data: Any, name: str) -> bool:
    if hasattr(error, "obj"):
        return error.obj is user_data
    frames = error.__traceback__
    while frames is not None and frames.tb_next is not None:
        frames = frames.tb_next
    if frames is None:
        return False
    line = linecache.getline(frames.tb_frame.f_code.co_filename, frames.tb_lineno)
    return re.search(r"\buser_data\s*\.\s*%s\b" % name, line) is not None
