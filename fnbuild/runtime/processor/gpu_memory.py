"""The memory of GPUs that the function's workers use."""

import os
import threading
from typing import Any, Callable, Dict, Iterable, Optional, Set, Tuple

GPU_MEMORY_METRIC = "nuclio_processor_gpu_memory_bytes"
GPU_MEMORY_LABELS = ("gpu", "uuid")
GPU_MEMORY_HELP = "Memory of a GPU that the function's workers use"

# The first call of a process may wait for the driver. A scrape does not, it gets the last values.
_GPU_WAIT = 0.2

GpuMemoryValues = Dict[Tuple[str, ...], int]


class GpuMemory:
    """The memory used on each GPU by processes of the groups from `groups()`.

    A worker and the processes that its handler starts are one group. A GPU that none of them uses
    shows zero, which reveals a model that fell back to the CPU. If NVML does not see the processes
    of this container, nothing is shown.
    """

    def __init__(
        self, groups: Callable[[], Iterable[int]], load: Optional[Callable[[], Any]] = None
    ) -> None:
        self._groups = groups
        self._load = load
        self._nvml: Any = None
        self._absent = False
        self._values: GpuMemoryValues = {}
        self._thread: Optional[threading.Thread] = None

    def read(self) -> GpuMemoryValues:
        """Return bytes by index and UUID of the GPUs; empty without GPUs or NVML."""
        if self._absent:
            return {}
        if self._thread is None or not self._thread.is_alive():
            groups = {group for group in self._groups() if group > 0}
            self._thread = threading.Thread(target=self._refresh, args=(groups,), daemon=True)
            self._thread.start()
        self._thread.join(_GPU_WAIT)
        return self._values

    def _refresh(self, groups: Set[int]) -> None:
        try:
            # Not every Python has ctypes.
            from .. import nvml
        except ImportError:
            self._absent = True
            return
        try:
            if self._nvml is None:
                self._nvml = nvml.Nvml((self._load or nvml.load_library)())
            devices = self._nvml.memory_by_process()
        except (nvml.NvmlError, OSError):
            # A driver that is installed or replaced later needs a new processor.
            self._absent, self._values = True, {}
            return
        own = {names: _used_by_groups(groups, used) for names, used in devices}
        foreign = any(used and not _any_visible(used) for _, used in devices)
        self._values = {} if foreign and not any(own.values()) else dict(own)


def _used_by_groups(groups: Set[int], used: Dict[int, int]) -> int:
    return sum(count for pid, count in used.items() if _process_group(pid) in groups)


def _any_visible(used: Dict[int, int]) -> bool:
    """Return True if a process is in this PID namespace."""
    return any(_process_group(pid) for pid in used)


def _process_group(pid: int) -> int:
    try:
        return os.getpgid(pid) if pid > 0 else 0
    except (OSError, OverflowError):
        return 0
