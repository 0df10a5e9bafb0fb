"""Whether a function that asked for a GPU uses one: what its processes have open tells."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from fnbuild.errors import FnbuildError
from fnbuild.platforms.docker.engine import Engine
from fnbuild.platforms.docker.inventory import Container
from fnbuild.platforms.settings import gpu_limit

_DEVICES = "/dev/nvidia"
_CONTROL = "/dev/nvidiactl"


def warnings_of(engine: Engine, container: Container | None) -> tuple[str, ...]:
    """A warning when the function of a container asked for a GPU and runs on the CPU."""
    if container is None or not container.running or not gpu_limit(container.function):
        return ()
    if _lacks_device(engine, container):
        return ("it asks for a GPU and has none, so it runs on the CPU",)
    if engine.local and uses_device(engine.processes(container.id)) is False:
        return ("it asks for a GPU and has opened none so far, so it runs on the CPU",)
    return ()


def _lacks_device(engine: Engine, container: Container) -> bool:
    try:
        ran = engine.execute(container.id, ["test", "-e", _CONTROL])
    except FnbuildError:  # an image without `test`
        return False
    return ran is not None and ran.status == 1


def uses_device(processes: Iterable[int], devices: str = _DEVICES) -> bool | None:
    """Whether any of these processes of this machine has such a file open; None when this user
    may not look into them.
    """
    seen = False
    for pid in processes:
        try:
            links = list(Path(f"/proc/{pid}/fd").iterdir())
        except OSError:  # it has ended, or is another user's
            continue
        seen = True
        if any(_target(link).startswith(devices) for link in links):
            return True
    return False if seen else None


def _target(link: Path) -> str:
    try:
        return os.readlink(link)
    except OSError:  # closed meanwhile
        return ""
