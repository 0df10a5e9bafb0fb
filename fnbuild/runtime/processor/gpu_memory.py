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
        self._has_driver = True
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

    @property
    def has_driver(self) -> bool:
        """False if this machine has no driver of a GPU, as far as it is known yet."""
        return self._has_driver

    def _refresh(self, groups: Set[int]) -> None:
        try:
            # Not every Python has ctypes.
            from .. import nvml
        except ImportError:
            self._absent, self._has_driver = True, False
            return
        try:
            if self._nvml is None:
                self._nvml = nvml.Nvml((self._load or nvml.load_library)())
            devices = self._nvml.memory_by_process()
        except (nvml.NvmlError, OSError) as error:
            # A driver that is installed or replaced later needs a new processor.
            self._absent, self._values = True, {}
            self._has_driver = isinstance(error, nvml.NvmlError)
            return
        own = {names: _used_by_groups(groups, used) for names, used in devices}
        foreign = any(used and not _any_visible(used) for _, used in devices)
        self._values = {} if foreign and not any(own.values()) else dict(own)


def used_memory(gpus: GpuMemory, pids: Iterable[int]) -> Optional[int]:
    """Return the GPU memory that the processes use, on a machine without a GPU their host memory.

    The result is None if a GPU's memory cannot be attributed to processes, as in a container.
    """
    values = gpus.read()
    if gpus.has_driver:
        return sum(values.values()) if values else None
    return sum(_host_memory(pid) for pid in pids)


def _host_memory(pid: int) -> int:
    """Return the proportional set size of a process in bytes, 0 if it has ended."""
    try:
        with open("/proc/%d/smaps_rollup" % pid, "rb") as file:
            sizes = [line.split()[1] for line in file if line.startswith(b"Pss:")]
    except OSError:
        return 0
    return sum(int(size) for size in sizes) * 1024


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
