"""Checks for `fnbuild doctor`: the runner, and the checks that several platforms share.

A check is a function that yields findings. It runs in a thread of its own with a time limit, so
that a check that hangs or fails ends in a finding and the others still run.
"""

from __future__ import annotations

import queue
import shutil
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fnbuild.errors import FnbuildError
from fnbuild.platforms.base import Finding
from fnbuild.runtime import nvml

AREAS = {
    "clock": "the time here, on the API server and on the nodes",
    "disk": "room for code, environments and images",
    "engine": "the container engine that builds",
    "registry": "pushing an image, and pulling it from the cluster",
    "process": "Python, the supervisor, ports and /opt/nuclio on this machine",
    "docker": "the container engine that runs functions",
    "gpu": "GPUs here, in containers and on nodes",
    "kubeconfig": "which cluster, and whether it answers",
    "rights": "what this user may do in the namespace",
    "nodes": "whether nodes are ready, and fit the images",
    "node-ports": "reaching functions from this machine",
    "storage": "storage classes for volumes",
    "nuclio": "the Nuclio dashboard",
}
"""What can be looked at, and in a few words what that is."""

TIMEOUT_SECONDS = 20.0
"""How long a check may take unless it says otherwise."""

_CLEANUP_SECONDS = 8.0
_LOW_DISK = 5 << 30
_FULL_DISK = 512 << 20
_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Check:
    """Looks at one area. A check that makes something removes it in the end of its generator."""

    area: str
    run: Callable[[], Iterable[Finding]]
    seconds: float = TIMEOUT_SECONDS


def is_selected(areas: Collection[str], *some: str) -> bool:
    """Whether any of these is among the areas asked for; with none asked for, all are."""
    return not areas or not set(some).isdisjoint(areas)


def run_checks(
    checks: Iterable[Check],
    areas: Collection[str] = (),
    over: threading.Event | None = None,
) -> Iterator[Finding]:
    """The findings of the checks, in their order.

    `over` is set when nobody wants to hear more; checks that wait for something look at it, and get
    a moment to clear up.
    """
    for check in checks:
        if is_selected(areas, check.area):
            yield from _run_check(check, over or threading.Event())


def _run_check(check: Check, over: threading.Event) -> Iterator[Finding]:
    told: queue.SimpleQueue[Finding | None] = queue.SimpleQueue()

    def work() -> None:
        try:
            for finding in check.run():
                told.put(finding)
        except Exception as error:  # noqa: BLE001 - one check that breaks must not end the others
            told.put(finding_from_error(check.area, error))
        finally:
            told.put(None)

    worker = threading.Thread(target=work, name=f"check-{check.area}", daemon=True)
    worker.start()
    deadline = time.monotonic() + check.seconds
    try:
        while True:
            try:
                finding = told.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                yield Finding(
                    check.area,
                    "failure",
                    f"there was no answer within {check.seconds:g} s",
                    "see what keeps it busy, then try again",
                )
                return
            if finding is None:
                return
            yield finding
    except BaseException:
        over.set()
        worker.join(_CLEANUP_SECONDS)
        raise


def finding_from_error(area: str, error: Exception) -> Finding:
    """The finding for a check that could not be made."""
    if isinstance(error, FnbuildError):
        message = error.message
        if error.detail and "\n" not in error.detail.strip():
            message = f"{message}: {error.detail.strip()}"
        return Finding(area, "failure", message, error.hint or "")
    summary = f"{type(error).__name__}: {error}".splitlines()[0]
    return Finding(area, "failure", f"this could not be looked at: {summary}")


def check_disk_space(
    what: str,
    folder: Path | str,
    remedy: str,
    usage: Callable[[Path | str], tuple[int, int, int]] = shutil.disk_usage,
) -> Finding:
    """Whether the disk of a folder has room. `usage` gives total, used and free bytes."""
    try:
        total, _, free = usage(folder)
    except OSError as error:
        return Finding("disk", "warning", f"{what}: {folder}: {error.strerror}")
    text = f"{what}: {free / _GIB:.1f} of {total / _GIB:.1f} GiB free in {folder}"
    if free < _FULL_DISK:
        return Finding("disk", "failure", text, remedy)
    return (
        Finding("disk", "warning", text, remedy)
        if free < _LOW_DISK
        else Finding("disk", "ok", text)
    )


_PCI_DEVICES = Path("/sys/bus/pci/devices")
_NVIDIA = "0x10de"
_DISPLAY_CLASS = "0x03"


def pci_gpus(bus: Path = _PCI_DEVICES) -> list[str]:
    """The addresses of NVIDIA's GPUs, whether a driver serves them or not."""
    return sorted(
        device.name
        for device in (bus.iterdir() if bus.is_dir() else ())
        if _read_text(device / "vendor") == _NVIDIA
        and _read_text(device / "class").startswith(_DISPLAY_CLASS)
    )


def _read_text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""


def usable_gpus() -> list[str]:
    """The UUIDs of the GPUs that the driver offers.

    `OSError` where there is no driver, `NvmlError` where it does not work.
    """
    return [uuid for (_, uuid), _ in nvml.Nvml(nvml.load()).processes()]


def check_gpus() -> Finding:
    """Whether functions on this machine get its GPUs."""
    try:
        found = usable_gpus()
    except OSError:
        lost = pci_gpus()
        if not lost:
            return Finding("gpu", "ok", "this machine has no NVIDIA GPU: functions run on the CPU")
        return Finding(
            "gpu",
            "warning",
            f"a GPU is on the bus ({', '.join(lost)}), and its driver ({nvml.LIBRARY}) is not here",
            "install NVIDIA's driver; `nvidia-smi` shows the GPU when it works",
        )
    except nvml.NvmlError as error:
        return Finding(
            "gpu",
            "warning",
            f"NVIDIA's driver does not work: {error}",
            "`nvidia-smi` says more; after an update of the driver the machine has to be restarted",
        )
    return Finding("gpu", "ok", f"{len(found)} GPU on this machine: {', '.join(found)}")
