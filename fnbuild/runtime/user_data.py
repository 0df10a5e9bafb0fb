"""Explain errors that come from an attribute of `context.user_data` that was never set."""

import linecache
import re
from typing import Any, List

_MESSAGE = re.compile(r"'([\w.]+)' object has no attribute '(\w+)'")


def explain(error: BaseException, user_data: Any) -> str:
    """Return a message with the cause and the remedy, "" if the error has another cause.

    From Python 3.10 on the error has the object; in older versions the failed line is examined.
    """
    match = _MESSAGE.search(str(error)) if type(error) is AttributeError else None
    if match is None or match.group(1) != type(user_data).__name__:
        return ""
    name = match.group(2)
    if hasattr(user_data, name) or not _is_about(error, user_data, name):
        return ""
    names = _attributes(user_data)
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


def _attributes(user_data: Any) -> List[str]:
    return sorted(vars(user_data)) if hasattr(user_data, "__dict__") else []
