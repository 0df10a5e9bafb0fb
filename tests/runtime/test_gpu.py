"""GPU memory of the workers, with a substitute for the driver's library.

There is no GPU and no compiler here, so the library is an object with its functions; what they fill
are the structures that the real one gets.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from fnbuild.runtime.nvml import Nvml, NvmlError
from fnbuild.runtime.processor.gpu_memory import (
    GPU_MEMORY_HELP,
    GPU_MEMORY_LABELS,
    GPU_MEMORY_METRIC,
    GpuMemory,
    used_memory,
)
from fnbuild.runtime.processor.metrics import MetricsRegistry

MIB = 1 << 20


class Library:
    """libnvidia-ml with these processes on each GPU: (process id, bytes)."""

    def __init__(self, *gpus: list[tuple[int, int]], version: str = "_v3") -> None:
        self.gpus = gpus
        self.failing = ""
        self.calls: list[str] = []
        setattr(self, "nvmlDeviceGetComputeRunningProcesses" + version, self._processes)

    def _called(self, name: str) -> int:
        self.calls.append(name)
        return 999 if self.failing == name else 0

    def nvmlInit_v2(self) -> int:  # noqa: N802 - the library's names
        return self._called("init")

    def nvmlDeviceGetCount_v2(self, count: Any) -> int:  # noqa: N802
        count._obj.value = len(self.gpus)
        return self._called("count")

    def nvmlDeviceGetHandleByIndex_v2(self, index: Any, handle: Any) -> int:  # noqa: N802
        handle._obj.value = index.value + 1
        return self._called("handle")

    def nvmlDeviceGetUUID(self, handle: Any, buffer: Any, size: Any) -> int:  # noqa: N802
        assert ctypes.sizeof(buffer) == size.value
        buffer.value = b"GPU-%d" % handle.value
        return self._called("uuid")

    def _processes(self, handle: Any, count: Any, entries: Any) -> int:
        here = self.gpus[handle.value - 1]
        room, count._obj.value = count._obj.value, len(here)
        if room < len(here):
            return 7
        for entry, (pid, used) in zip(entries, here, strict=False):
            entry.pid, entry.used = pid, used
        return self._called("processes")


@pytest.fixture
def worker() -> Iterator[int]:
    """A process that leads its own process group."""
    command = [sys.executable, "-c", "input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as process:
        yield process.pid
        process.communicate(b"\n")


def text(memory: GpuMemory) -> str:
    registry = MetricsRegistry({"function": "f"})
    registry.gauge(GPU_MEMORY_METRIC, GPU_MEMORY_HELP, GPU_MEMORY_LABELS, memory.read)
    return registry.text()


def test_the_workers_memory_by_gpu(worker: int) -> None:
    library = Library([(worker, 300 * MIB), (os.getpid(), 5 * MIB), (worker, MIB)], [])
    memory = GpuMemory(lambda: [worker, 0], lambda: library)
    lines = text(memory).splitlines()
    assert lines[1] == f"# TYPE {GPU_MEMORY_METRIC} gauge"
    assert lines[2:] == [
        f'{GPU_MEMORY_METRIC}{{function="f",gpu="0",uuid="GPU-1"}} {301 * MIB}',
        f'{GPU_MEMORY_METRIC}{{function="f",gpu="1",uuid="GPU-2"}} 0',
    ]


def test_the_library_is_called_only_for_metrics(worker: int) -> None:
    library = Library([(worker, MIB)])
    memory = GpuMemory(lambda: [worker], lambda: library)
    assert library.calls == []
    for _ in range(3):
        text(memory)
    assert library.calls.count("init") == 1
    assert library.calls.count("processes") == 3


def test_an_older_driver(worker: int) -> None:
    memory = GpuMemory(lambda: [worker], lambda: Library([(worker, MIB)], version="_v2"))
    assert memory.read() == {("0", "GPU-1"): MIB}


def test_many_processes(worker: int) -> None:
    library = Library([(1, 1)] * 300 + [(worker, MIB)])
    assert dict(Nvml(library).memory_by_process()[0][1]) == {1: 300, worker: MIB}
    with pytest.raises(NvmlError):
        Nvml(Library([(1, 1)] * 5000)).memory_by_process()


def test_without_a_driver() -> None:
    calls = []

    def load() -> Any:
        calls.append(1)
        return ctypes.CDLL("libnvidia-ml-that-is-not-there.so.1")

    memory = GpuMemory(lambda: [1], load)
    assert text(memory) == ""
    assert text(memory) == ""
    assert calls == [1]


@pytest.mark.parametrize("function", ["init", "count", "handle", "uuid", "processes"])
def test_a_driver_that_returns_errors(function: str, worker: int) -> None:
    library = Library([(worker, MIB)])
    library.failing = function
    assert text(GpuMemory(lambda: [worker], lambda: library)) == ""


def test_a_library_without_the_functions() -> None:
    assert text(GpuMemory(lambda: [1], object)) == ""


def test_processes_outside_this_container(worker: int) -> None:
    # NVML uses the host's process ids: no value is better than a wrong zero.
    foreign = Library([(2**22 + 5, 300 * MIB)])
    assert text(GpuMemory(lambda: [worker], lambda: foreign)) == ""


def test_memory_that_the_driver_does_not_report(worker: int) -> None:
    memory = GpuMemory(lambda: [worker], lambda: Library([(worker, 2**64 - 1)]))
    assert memory.read() == {}


def test_the_memory_of_a_member_of_a_gpu_group(worker: int, soon: Any) -> None:
    library = Library([(worker, 300 * MIB), (os.getpid(), 5 * MIB)], [(worker, MIB)])
    assert used_memory(GpuMemory(lambda: [worker], lambda: library), [worker]) == 301 * MIB
    foreign = Library([(2**22 + 5, 300 * MIB)])
    assert used_memory(GpuMemory(lambda: [worker], lambda: foreign), [worker]) is None
    silent = Library([(worker, 2**64 - 1)])
    assert used_memory(GpuMemory(lambda: [worker], lambda: silent), [worker]) is None
    without = GpuMemory(lambda: [worker], lambda: ctypes.CDLL("libnvidia-ml-that-is-not-there"))
    # The interpreter has just been started: its memory grows.
    soon(lambda: (used_memory(without, [worker]) or 0) > MIB)
    host = used_memory(without, [worker])
    assert host
    assert MIB < host < 100 * MIB


def test_a_slow_driver(worker: int, soon: Any) -> None:
    library, gate = Library([(worker, MIB)]), threading.Event()

    def load() -> Any:
        gate.wait(30)
        return library

    memory = GpuMemory(lambda: [worker], load)
    assert memory.read() == {}
    gate.set()
    assert soon(memory.read) == {("0", "GPU-1"): MIB}
