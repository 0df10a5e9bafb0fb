"""Prepare a worker process for the handler: its folder at /opt/nuclio, memory, sys.path, the SDK.

Where the kernel allows no mount namespace, Python's functions that open and inspect files are
wrapped so that paths below /opt/nuclio lead to the folder. Libraries that open files in C do not
see it; the processor logs one warning about that.
"""

import builtins
import importlib
import io
import os
import re
import signal
import sys
from contextlib import suppress
from typing import Any, Callable, Dict, List, Tuple

from .. import allocator, wire
from .loader import LoadError

_REDIRECTED = ("open", "stat", "lstat", "access", "listdir", "scandir", "chdir", "readlink")
# Functions that os lists as able to do more than usual are looked up there by identity.
_SUPPORT_SETS = (
    "supports_dir_fd",
    "supports_fd",
    "supports_follow_symlinks",
    "supports_effective_ids",
)


class PathRedirect:
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


class RedirectedFunction:
    """A function whose first argument is a path that is led first.

    No Python function, since pathlib keeps these as attributes of a class, where a function would
    become a method.
    """

    def __init__(self, prefix: PathRedirect, original: Callable[..., Any]) -> None:
        self._prefix = prefix
        self._original = original
        self.__name__ = getattr(original, "__name__", "led")
        self.__doc__ = original.__doc__

    def __call__(self, path: Any = ".", *args: Any, **kwargs: Any) -> Any:
        return self._original(self._prefix.lead(path), *args, **kwargs)


def redirect_paths(folder: str, place: str) -> None:
    """Wrap the functions of this process."""
    prefix = PathRedirect(folder, place)
    opener: Any = RedirectedFunction(prefix, io.open)
    io.open = builtins.open = opener
    for name in _REDIRECTED:
        original = getattr(os, name)
        wrapper = RedirectedFunction(prefix, original)
        for table in _SUPPORT_SETS:
            if original in getattr(os, table):
                getattr(os, table).add(wrapper)
        setattr(os, name, wrapper)


_REDIRECT_WARNING = (
    "%s is shown to Python alone, since this machine allows no mount namespace (%s); "
    "libraries that open files by themselves will not find it"
)


def prepare_process(setup: wire.Meta) -> Dict[str, Any]:
    """Show the folder at its place, tie this process to its parent, tune its memory.

    Returns what the processor reports: `mount` and `warnings`. `setup["place"]` is set to where the
    handler finds its folder.
    """
    folder, place = setup["code"], setup["mount"]
    setup["place"] = folder
    facts: Dict[str, Any] = {"mount": "none", "warnings": []}
    try:
        from . import mount
    except (ImportError, OSError, AttributeError) as problem:
        refusal = "this Python has no ctypes: %s" % problem
    else:
        refusal = (mount.mount_folder(folder, place, setup["immutable"]) or "") if place else ""
    # Entering a user namespace would have cleared it, so it comes second.
    end_with_parent(setup["parent"])
    if place and not refusal:
        facts["mount"] = "namespace"
        setup["place"] = place
    elif place:
        facts["mount"] = "patched-open"
        facts["warnings"] = [_REDIRECT_WARNING % (place, refusal)]
        redirect_paths(folder, place)
    allocator.tune()
    return facts


def end_with_parent(parent: int) -> None:
    """End when the processor ends. Copies of this process have to be tied again."""
    with suppress(ImportError, OSError, AttributeError):
        from . import mount

        mount.die_with_parent(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def import_sdk(setup: wire.Meta) -> Tuple[Any, Any]:
    """nuclio_sdk and its JSON encoder class, before the handler's folder is on the path.

    So a handler's `http.py` or `logging.py` cannot break the SDK's own imports.
    """
    path = _sdk_folder(setup["sdk_path"]) if setup["sdk_path"] else ""
    if path and path not in sys.path:
        sys.path.append(path)
    try:
        sdk = importlib.import_module("nuclio_sdk")
        encoder = importlib.import_module("nuclio_sdk.json_encoder")
    except ImportError as problem:
        raise LoadError(
            "nuclio_sdk cannot be imported by %s (Python %s): %s"
            % (sys.executable, sys.version.split()[0], problem)
        ) from None
    return sdk, encoder.Encoder


def _sdk_folder(folder: str) -> str:
    """The folder itself, or the one in it whose release of nuclio_sdk is best for this Python."""
    releases = {}
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        number = tuple(map(int, re.findall("[0-9]+", name)))
        # From 0.6 on it needs Python 3.7.
        fits = number < (0, 6) or sys.version_info >= (3, 7)
        if fits and os.path.isdir(os.path.join(folder, name, "nuclio_sdk")):
            releases[number] = name
    return os.path.join(folder, releases[max(releases)]) if releases else folder


def enter_folder(setup: wire.Meta) -> str:
    """Go to the handler's folder and put it first on the path, as Nuclio's wrapper has it."""
    place = setup["place"]
    os.chdir(place)
    first: List[str] = [place]
    asked = os.environ.get("NUCLIO_PYTHON_PATH")
    for path in asked.split(os.pathsep) if asked else []:
        moved = _redirected_path(path, setup)
        if moved and moved not in first:
            first.append(moved)
    inherited = [_redirected_path(path, setup) for path in sys.path]
    sys.path[:] = first + [path for path in inherited if path not in first]
    # Folders that were not there before the mount may be remembered as missing.
    sys.path_importer_cache.clear()
    importlib.invalidate_caches()
    below = [os.environ.get("PYTHONPATH")] if os.environ.get("PYTHONPATH") else []
    os.environ["PYTHONPATH"] = os.pathsep.join((first[1:] or first) + [p for p in below if p])
    return str(place)


def _redirected_path(path: str, setup: wire.Meta) -> str:
    """A path below the wanted place, where the folder could not be shown there."""
    wanted, place = setup["mount"], setup["place"]
    if wanted and wanted != place and (path == wanted or path.startswith(wanted + "/")):
        return str(place) + path[len(wanted) :]
    return path
