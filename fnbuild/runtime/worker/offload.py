"""The handler's `sleep(context)` and `wake(context)`, at the sleep level `offload`.

Either function may fail. The process then ends, so that its memory is free; the next wake starts
another.
"""

import os
from types import FunctionType, MethodType
from typing import Any, Callable

from .. import wire
from ..load_error import LoadError
from .channel import Channel
from .loader import HandlerLoader, run_guarded, signature_problem
from .logger import flush_output

_MISSING = (
    "the sleep level offload needs %s(context) in the module %s; "
    "define sleep(context), which releases memory, and wake(context), which acquires it again, "
    "or use the level exit"
)


def check_functions(loader: HandlerLoader) -> None:
    """Raise LoadError unless the handler has both functions."""
    for name in ("sleep", "wake"):
        _find_function(loader, name)


def _find_function(loader: HandlerLoader, name: str) -> Any:
    function = getattr(loader.model or loader.module, name, None)
    # A module may have imported `time.sleep`.
    if not isinstance(function, (FunctionType, MethodType)):
        raise LoadError(_MISSING % (name, loader.module_name))
    problem = signature_problem(function, name, ("context",))
    if problem:
        raise LoadError(problem)
    return function


def run_function(
    name: str, loader: HandlerLoader, call: Callable[[Any], None], channel: Channel
) -> None:
    """Call `sleep` or `wake`; report a failure, and end this process."""
    problem = run_guarded(lambda: call(_find_function(loader, name)))
    flush_output()
    if problem:
        channel.send(wire.FAILED, problem)
        os._exit(1)
