"""Whether the handler's functions take what they are called with: known before the first event."""

import os
from types import FunctionType
from typing import Any, Tuple


def complaint(function: Any, name: str, given: Tuple[str, ...]) -> str:
    """Why the function cannot be called with these arguments, and where it is; or nothing."""
    if type(function) is FunctionType:
        code = function.__code__
        if code.co_argcount == len(given) and not code.co_kwonlyargcount:
            return ""
    # Slow to import, and hardly ever needed.
    import inspect

    try:
        # A decorator is called itself, whatever it passes on to what it wraps.
        signature = inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):
        # A callable made in C may not tell; calling it will.
        return ""
    try:
        signature.bind(*given)
    except TypeError as problem:
        words = "%s%s%s cannot be called as %s(%s): %s"
        return words % (_place(function), name, signature, name, ", ".join(given), problem)
    return ""


def _place(function: Any) -> str:
    code = getattr(function, "__code__", None)
    if code is None:
        return ""
    return "%s:%d: " % (os.path.basename(code.co_filename), code.co_firstlineno)
