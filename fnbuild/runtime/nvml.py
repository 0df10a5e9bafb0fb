"""Memory usage of NVIDIA GPUs, read with the driver's library NVML.

Structures and functions are those of nvml.h.
"""

import ctypes
from typing import Any, Dict, List, Tuple

LIBRARY = "libnvidia-ml.so.1"

_OK = 0
_TOO_SMALL = 7
_UNKNOWN_USAGE = 2**64 - 1
_UUID_BYTES = 96
_MAX_PROCESSES = 4096


class _ProcessInfo(ctypes.Structure):
    """nvmlProcessInfo_t since its second version."""

    _fields_ = [
        ("pid", ctypes.c_uint),
        ("used", ctypes.c_ulonglong),
        ("gpu_instance", ctypes.c_uint),
        ("compute_instance", ctypes.c_uint),
    ]


class NvmlError(Exception):
    """The library is missing, or a call failed."""


class Nvml:
    """The calls of NVML that the runtime needs. `library` is the loaded libnvidia-ml."""

    def __init__(self, library: Any) -> None:
        self._library = library
        self._call("nvmlInit_v2")
        count = ctypes.c_uint()
        self._call("nvmlDeviceGetCount_v2", ctypes.byref(count))
        self._devices = [self._device(index) for index in range(count.value)]

    @property
    def count(self) -> int:
        """The number of GPUs."""
        return len(self._devices)

    @property
    def uuids(self) -> "List[str]":
        """The unique names of the GPUs, which CUDA knows as well."""
        return [names[1] for names, _ in self._devices]

    def memory_by_process(self) -> "List[Tuple[Tuple[str, str], Dict[int, int]]]":
        """Return index and UUID of each GPU, and the bytes that each process uses there."""
        return [(names, self._used(handle)) for names, handle in self._devices]

    def _device(self, index: int) -> Tuple[Tuple[str, str], Any]:
        handle = ctypes.c_void_p()
        self._call("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(handle))
        uuid = ctypes.create_string_buffer(_UUID_BYTES)
        self._call("nvmlDeviceGetUUID", handle, uuid, ctypes.c_uint(_UUID_BYTES))
        return (str(index), uuid.value.decode("ascii", "replace")), handle

    def _used(self, handle: Any) -> Dict[int, int]:
        capacity = 64
        while capacity <= _MAX_PROCESSES:
            count = ctypes.c_uint(capacity)
            processes = (_ProcessInfo * capacity)()
            status = self._status(
                "nvmlDeviceGetComputeRunningProcesses", handle, ctypes.byref(count), processes
            )
            if status == _OK:
                used: Dict[int, int] = {}
                for process in processes[: count.value]:
                    if process.used == _UNKNOWN_USAGE:
                        raise NvmlError("the driver does not report the memory of a process")
                    used[process.pid] = used.get(process.pid, 0) + process.used
                return used
            if status != _TOO_SMALL:
                break
            capacity *= 4
        raise NvmlError("the processes of a GPU cannot be listed")

    def _status(self, name: str, *arguments: Any) -> int:
        # Version 3 came with driver 470, version 2 with 450; both fill the same structure.
        for suffix in ("_v3", "_v2"):
            function = getattr(self._library, name + suffix, None)
            if function is not None:
                return int(function(*arguments))
        raise NvmlError("%s is not in the library" % name)

    def _call(self, name: str, *arguments: Any) -> None:
        function = getattr(self._library, name, None)
        status = -1 if function is None else int(function(*arguments))
        if status != _OK:
            raise NvmlError("%s returned %d" % (name, status))


def load_library() -> Any:
    """Load the library; raise OSError without a driver."""
    return ctypes.CDLL(LIBRARY)
