"""Shows the function's folder as /opt/nuclio where the kernel allows no mount namespace.

Python's own ways to open and look at files are wrapped, so that paths below the place lead to the
folder. Libraries that open files in C do not see it; the processor warns of that once.
"""

import builtins
import io
import os
from typing import Any, Callable

_NAMES = ("open", "stat", "lstat", "access", "listdir", "scandir", "chdir", "readlink")
# Functions that os lists as able to do more than usual are looked up there by identity.
_TABLES = ("supports_dir_fd", "supports_fd", "supports_follow_symlinks", "supports_effective_ids")


class Prefix:
    """Turns paths at or below `place` into paths at or below `folder`."""

    def __init__(self, folder: str, place: str) -> None:
        self._place = place.rstrip("/")
        self._folder = folder

    def lead(self, path: Any) -> Any:
        if hasattr(path, "__fspath__"):
            path = path.__fspath__()
        if isinstance(path, bytes):
            moved = self.lead(os.fsdecode(path))
            return os.fsencode(moved)
        if isinstance(path, str) and (path + "/").startswith(self._place + "/"):
            return self._folder + path[len(self._place) :]
        return path


class Led:
    """A function whose first argument is a path that is led first.

    No Python function, since pathlib keeps these as attributes of a class, where a function would
    become a method.
    """

    def __init__(self, prefix: Prefix, original: Callable[..., Any]) -> None:
        self._prefix = prefix
        self._original = original
        self.__name__ = getattr(original, "__name__", "led")
        self.__doc__ = original.__doc__

    def __call__(self, path: Any = ".", *args: Any, **kwargs: Any) -> Any:
        return self._original(self._prefix.lead(path), *args, **kwargs)


def install(folder: str, place: str) -> None:
    """Wrap the functions of this process."""
    prefix = Prefix(folder, place)
    opener: Any = Led(prefix, io.open)
    io.open = builtins.open = opener
    for name in _NAMES:
        original = getattr(os, name)
        wrapper = Led(prefix, original)
        for table in _TABLES:
            if original in getattr(os, table):
                getattr(os, table).add(wrapper)
        setattr(os, name, wrapper)
