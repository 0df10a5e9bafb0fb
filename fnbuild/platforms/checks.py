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
    "kserve": "KServe, its configuration and serving runtimes",
    "torchserve": "TorchServe and Java on this machine",
}
"""The areas of checks, each with a short description."""

TIMEOUT_SECONDS = 20.0
"""The default time limit of a check."""

_CLEANUP_SECONDS = 8.0
_LOW_DISK = 5 << 30
_FULL_DISK = 512 << 20
_GIB = 1 << 30


_PCI_DEVICES = Path("/sys/bus/pci/devices")
_NVIDIA = "0x10de"
_DISPLAY_CLASS = "0x03"


@dataclass(frozen=True, slots=True)
class Check:
    """A check of one area. A check that creates objects removes them when its generator ends."""

    area: str
    run: Callable[[], Iterable[Finding]]
    seconds: float = TIMEOUT_SECONDS


def is_selected(selection: Collection[str], *areas: str) -> bool:
    """Return True if one of the areas is selected; an empty selection selects all."""
    return not selection or not set(areas).isdisjoint(selection)


def run_checks(
    checks: Iterable[Check],
    areas: Collection[str] = (),
    cancelled: threading.Event | None = None,
) -> Iterator[Finding]:
    """Run the checks one after the other and yield their findings.

    `cancelled` is set when the caller stops; checks that wait look at it, and get some seconds to
    clean up.
    """
    for check in checks:
        if is_selected(areas, check.area):
            yield from _run_check(check, cancelled or threading.Event())


def _run_check(check: Check, cancelled: threading.Event) -> Iterator[Finding]:
    findings: queue.SimpleQueue[Finding | None] = queue.SimpleQueue()

    def work() -> None:
        try:
            for finding in check.run():
                findings.put(finding)
        except Exception as error:  # noqa: BLE001 - the other checks still run
            findings.put(finding_from_error(check.area, error))
        finally:
            findings.put(None)

    worker = threading.Thread(target=work, name=f"check-{check.area}", daemon=True)
    worker.start()
    deadline = time.monotonic() + check.seconds
    try:
        while True:
            try:
                finding = findings.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                yield Finding(
                    check.area,
                    "failure",
                    f"there was no answer within {check.seconds:g} s",
                    "find out what keeps it busy, then try again",
                )
                return
            if finding is None:
                return
            yield finding
    except BaseException:
        cancelled.set()
        worker.join(_CLEANUP_SECONDS)
        raise


def finding_from_error(area: str, error: Exception) -> Finding:
    """Return the finding for a check that raised an error."""
    if isinstance(error, FnbuildError):
        message = error.message
        if error.detail and "\n" not in error.detail.strip():
            message = f"{message}: {error.detail.strip()}"
        return Finding(area, "failure", message, error.hint or "")
    summary = f"{type(error).__name__}: {error}".splitlines()[0]
    return Finding(area, "failure", f"the check failed: {summary}")


def check_disk_space(
    label: str,
    folder: Path | str,
    remedy: str,
    usage: Callable[[Path | str], tuple[int, int, int]] = shutil.disk_usage,
) -> Finding:
    """Check the free space on the disk of a folder. `usage` returns total, used and free bytes."""
    try:
        total, _, free = usage(folder)
    except OSError as error:
        return Finding("disk", "warning", f"{label}: {folder}: {error.strerror}")
    text = f"{label}: {free / _GIB:.1f} of {total / _GIB:.1f} GiB free in {folder}"
    if free < _FULL_DISK:
        return Finding("disk", "failure", text, remedy)
    return (
        Finding("disk", "warning", text, remedy)
        if free < _LOW_DISK
        else Finding("disk", "ok", text)
    )


def pci_gpus(bus: Path = _PCI_DEVICES) -> list[str]:
    """Return the PCI addresses of NVIDIA GPUs, with or without a driver."""
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
    """Return the UUIDs of the GPUs that the driver provides.

    Raises `OSError` without a driver, and `NvmlError` if the driver does not work.
    """
    return [uuid for (_, uuid), _ in nvml.Nvml(nvml.load_library()).memory_by_process()]


def check_gpus() -> Finding:
    """Check that functions on this machine can use its GPUs."""
    try:
        uuids = usable_gpus()
    except OSError:
        addresses = pci_gpus()
        if not addresses:
            return Finding("gpu", "ok", "this machine has no NVIDIA GPU: functions run on the CPU")
        return Finding(
            "gpu",
            "warning",
            f"the GPU at {', '.join(addresses)} has no driver ({nvml.LIBRARY} is missing)",
            "install NVIDIA's driver; then `nvidia-smi` shows the GPU",
        )
    except nvml.NvmlError as error:
        return Finding(
            "gpu",
            "warning",
            f"NVIDIA's driver does not work: {error}",
            "`nvidia-smi` shows details; restart the machine after an update of the driver",
        )
    return Finding("gpu", "ok", f"{len(uuids)} GPU on this machine: {', '.join(uuids)}")
