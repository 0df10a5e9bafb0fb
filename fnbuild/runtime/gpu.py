"""How much memory of each GPU the workers use, where the driver's library (NVML) is there to tell.

It is loaded when the metrics are asked for, and not before.
"""

import os
import threading
from typing import Any, Callable, Dict, Iterable, Optional, Set, Tuple

METRIC = "nuclio_processor_gpu_memory_bytes"
LABELS = ("gpu", "uuid")
TEXT = "Memory of a GPU that the function's workers use"

# The first call of a process may wait for the driver; a scrape does not, it gets the last values.
_PATIENCE = 0.2

Values = Dict[Tuple[str, ...], int]


class GpuMemory:
    """What a scrape shows: bytes by GPU, for the processes whose group is one of `groups()`.

    Workers lead groups of their own, with whatever processes a handler starts. A GPU that none of
    them uses shows zero, so that a model that fell back to the CPU can be told; where NVML does not
    know this container's processes, nothing is shown.
    """

    def __init__(
        self, groups: Callable[[], Iterable[int]], load: Optional[Callable[[], Any]] = None
    ) -> None:
        self._groups = groups
        self._load = load
        self._nvml: Any = None
        self._absent = False
        self._values: Values = {}
        self._thread: Optional[threading.Thread] = None

    def read(self) -> Values:
        """The values by GPU and UUID; none where there is no GPU or no way to know."""
        if self._absent:
            return {}
        if self._thread is None or not self._thread.is_alive():
            groups = {group for group in self._groups() if group > 0}
            self._thread = threading.Thread(target=self._refresh, args=(groups,), daemon=True)
            self._thread.start()
        self._thread.join(_PATIENCE)
        return self._values

    def _refresh(self, groups: Set[int]) -> None:
        try:
            # Not every Python has ctypes.
            from . import nvml
        except ImportError:
            self._absent = True
            return
        try:
            if self._nvml is None:
                self._nvml = nvml.Nvml((self._load or nvml.load)())
            found = self._nvml.processes()
        except (nvml.NvmlError, OSError):
            # Without the driver it stays so; a driver that was exchanged needs a new processor.
            self._absent, self._values = True, {}
            return
        mine = {names: _of(groups, used) for names, used in found}
        foreign = any(used and not _known(used) for _, used in found)
        self._values = {} if foreign and not any(mine.values()) else dict(mine)


def _of(groups: Set[int], used: Dict[int, int]) -> int:
    return sum(count for pid, count in used.items() if _group(pid) in groups)


def _known(used: Dict[int, int]) -> bool:
    """Whether any process is one of this PID namespace."""
    return any(_group(pid) for pid in used)


def _group(pid: int) -> int:
    try:
        return os.getpgid(pid) if pid > 0 else 0
    except (OSError, OverflowError):
        return 0
