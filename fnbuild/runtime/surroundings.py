"""What a worker has around the handler: the folder at /opt/nuclio, memory, paths, the SDK."""

import importlib
import os
import re
import signal
import sys
from contextlib import suppress
from typing import Any, Dict, List, Tuple

from . import allocator, redirect, wire
from .loader import LoadError

_RESTRICTED = (
    "%s is shown to Python alone, since this machine allows no mount namespace (%s); "
    "libraries that open files by themselves will not find it"
)


def settle(setup: wire.Meta) -> Dict[str, Any]:
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
        refusal = (mount.show(folder, place, setup["immutable"]) or "") if place else ""
    # Entering a user namespace would have cleared it, so it comes second.
    tie_to(setup["parent"])
    if place and not refusal:
        facts["mount"] = "namespace"
        setup["place"] = place
    elif place:
        facts["mount"] = "patched-open"
        facts["warnings"] = [_RESTRICTED % (place, refusal)]
        redirect.install(folder, place)
    allocator.tune()
    return facts


def tie_to(parent: int) -> None:
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
    path = _release(setup["sdk_path"]) if setup["sdk_path"] else ""
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


def _release(folder: str) -> str:
    """The folder itself, or the one in it whose release of nuclio_sdk is best for this Python."""
    releases = {}
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        number = tuple(map(int, re.findall("[0-9]+", name)))
        # From 0.6 on it needs Python 3.7.
        fits = number < (0, 6) or sys.version_info >= (3, 7)
        if fits and os.path.isdir(os.path.join(folder, name, "nuclio_sdk")):
            releases[number] = name
    return os.path.join(folder, releases[max(releases)]) if releases else folder


def enter(setup: wire.Meta) -> str:
    """Go to the handler's folder and put it first on the path, as Nuclio's wrapper has it."""
    place = setup["place"]
    os.chdir(place)
    first: List[str] = [place]
    asked = os.environ.get("NUCLIO_PYTHON_PATH")
    for path in asked.split(os.pathsep) if asked else []:
        moved = _moved(path, setup)
        if moved and moved not in first:
            first.append(moved)
    inherited = [_moved(path, setup) for path in sys.path]
    sys.path[:] = first + [path for path in inherited if path not in first]
    # Folders that were not there before the mount may be remembered as missing.
    sys.path_importer_cache.clear()
    importlib.invalidate_caches()
    below = [os.environ.get("PYTHONPATH")] if os.environ.get("PYTHONPATH") else []
    os.environ["PYTHONPATH"] = os.pathsep.join((first[1:] or first) + [p for p in below if p])
    return str(place)


def _moved(path: str, setup: wire.Meta) -> str:
    """A path below the wanted place, where the folder could not be shown there."""
    wanted, place = setup["mount"], setup["place"]
    if wanted and wanted != place and (path == wanted or path.startswith(wanted + "/")):
        return str(place) + path[len(wanted) :]
    return path
