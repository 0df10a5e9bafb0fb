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
from typing import Any, Callable, Dict, Optional, Tuple

from .. import allocator, wire
from ..load_error import LoadError

_REDIRECTED = ("open", "stat", "lstat", "access", "listdir", "scandir", "chdir", "readlink")
# Sets in which os looks up functions by identity.
_SUPPORT_SETS = (
    "supports_dir_fd",
    "supports_fd",
    "supports_follow_symlinks",
    "supports_effective_ids",
)

_REDIRECT_WARNING = (
    "%s is visible to Python only, since this machine does not allow mount namespaces (%s); "
    "libraries that open files themselves do not find it"
)


class PathRedirect:
    """A mapping of paths at or below `mount_point` to paths at or below `folder`."""

    def __init__(self, folder: str, mount_point: str) -> None:
        self._mount_point = mount_point.rstrip("/")
        self._folder = folder

    def map(self, path: Any) -> Any:
        """Return the path to use; anything but a path stays as it is."""
        if hasattr(path, "__fspath__"):
            path = path.__fspath__()
        if isinstance(path, bytes):
            return os.fsencode(self.map(os.fsdecode(path)))
        if isinstance(path, str) and (path + "/").startswith(self._mount_point + "/"):
            return self._folder + path[len(self._mount_point) :]
        return path


class RedirectedFunction:
    """A callable that redirects the path in its first argument.

    Not a function, since pathlib stores these as class attributes, where a function would become a
    method.
    """

    def __init__(self, redirect: PathRedirect, original: Callable[..., Any]) -> None:
        self._redirect = redirect
        self._original = original
        self.__name__ = getattr(original, "__name__", "redirected")
        self.__doc__ = original.__doc__

    def __call__(self, path: Any = ".", *args: Any, **kwargs: Any) -> Any:
        return self._original(self._redirect.map(path), *args, **kwargs)


def redirect_paths(folder: str, mount_point: str) -> None:
    """Redirect paths of Python's file functions in this process."""
    redirect = PathRedirect(folder, mount_point)
    opener: Any = RedirectedFunction(redirect, io.open)
    io.open = builtins.open = opener
    for name in _REDIRECTED:
        original = getattr(os, name)
        wrapper = RedirectedFunction(redirect, original)
        for table in _SUPPORT_SETS:
            if original in getattr(os, table):
                getattr(os, table).add(wrapper)
        setattr(os, name, wrapper)


def prepare_process(setup: wire.Meta) -> Tuple[str, wire.Meta]:
    """Mount the folder, tie this process to its parent, tune its allocator.

    Return the path at which the handler finds its folder, and the report for the processor: `mount`
    and `warnings`.
    """
    folder, report = mount_folder(setup["code"], setup["mount"], setup["immutable"])
    # Entering a user namespace clears this setting, so it comes second.
    end_with_parent(setup["parent"])
    allocator.tune()
    return folder, report


def mount_folder(folder: str, mount_point: str, immutable: bool) -> Tuple[str, wire.Meta]:
    """Make the folder visible at the mount point, if there is one.

    Return the path at which the handler finds it, and the report of `prepare_process`.
    """
    report: wire.Meta = {"mount": "none", "warnings": []}
    if not mount_point:
        return folder, report
    try:
        from . import mount
    except (ImportError, OSError, AttributeError) as problem:
        refusal = "this Python has no ctypes: %s" % problem
    else:
        refusal = mount.mount_folder(folder, mount_point, immutable) or ""
    if not refusal:
        report["mount"] = "namespace"
        return mount_point, report
    report["mount"] = "patched-open"
    report["warnings"] = [_REDIRECT_WARNING % (mount_point, refusal)]
    redirect_paths(folder, mount_point)
    return folder, report


def function_variables(function: wire.Meta, handler: str) -> Dict[str, str]:
    """Return the variables that describe the function to its handler.

    They are those of Nuclio (pkg/processor/runtime/python/runtime.go and
    pkg/processor/runtime/rpc/abstract.go).
    """
    return {
        "NUCLIO_FUNCTION_NAME": str(function.get("name", "")),
        "NUCLIO_FUNCTION_DESCRIPTION": str(function.get("description") or ""),
        "NUCLIO_FUNCTION_VERSION": str(function.get("version") or "latest"),
        "NUCLIO_FUNCTION_HANDLER": handler,
        "NUCLIO_HANDLER": handler,
    }


def end_with_parent(parent: int) -> None:
    """End this process with its parent. A forked process has to call this again."""
    with suppress(ImportError, OSError, AttributeError):
        from . import mount

        mount.set_parent_death_signal(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def import_sdk(setup: wire.Meta) -> Tuple[Any, Any]:
    """Import nuclio_sdk and its JSON encoder class before the handler's folder is on sys.path.

    So a handler's `http.py` or `logging.py` cannot break the SDK's imports.
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
    """Return the folder, or its subfolder with the newest nuclio_sdk that fits this Python."""
    releases = {}
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        number = tuple(map(int, re.findall("[0-9]+", name)))
        # From 0.6 on it needs Python 3.7.
        fits = number < (0, 6) or sys.version_info >= (3, 7)
        if fits and os.path.isdir(os.path.join(folder, name, "nuclio_sdk")):
            releases[number] = name
    return os.path.join(folder, releases[max(releases)]) if releases else folder


def enter_folder(folder: str, mount_point: Optional[str]) -> None:
    """Change to the handler's folder and put it first on sys.path, as Nuclio's wrapper does."""
    os.chdir(folder)
    # Without a mount, paths below the mount point lead to the folder.
    redirect = PathRedirect(folder, mount_point or folder)
    first = [folder]
    for path in os.environ.get("NUCLIO_PYTHON_PATH", "").split(os.pathsep):
        redirected = redirect.map(path)
        if redirected and redirected not in first:
            first.append(redirected)
    inherited = [redirect.map(path) for path in sys.path]
    sys.path[:] = first + [path for path in inherited if path not in first]
    # Folders that did not exist before the mount may be cached as missing.
    sys.path_importer_cache.clear()
    importlib.invalidate_caches()
    pythonpath = [*(first[1:] or first), os.environ.get("PYTHONPATH")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, pythonpath))
