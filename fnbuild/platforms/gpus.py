"""The NVIDIA GPUs of this machine: what is on its bus, and what the driver gives to programs."""

from __future__ import annotations

from pathlib import Path

from fnbuild.platforms.model import Finding
from fnbuild.runtime import nvml

_BUS = Path("/sys/bus/pci/devices")
_NVIDIA = "0x10de"
_DISPLAY_CLASS = "0x03"


def on_the_bus(bus: Path = _BUS) -> list[str]:
    """The addresses of NVIDIA's GPUs, whether a driver serves them or not."""
    return sorted(
        device.name
        for device in (bus.iterdir() if bus.is_dir() else ())
        if _text(device / "vendor") == _NVIDIA
        and _text(device / "class").startswith(_DISPLAY_CLASS)
    )


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""


def usable() -> list[str]:
    """The UUIDs of the GPUs that the driver offers.

    `OSError` where there is no driver, `NvmlError` where it does not work.
    """
    return [uuid for (_, uuid), _ in nvml.Nvml(nvml.load()).processes()]


def finding() -> Finding:
    """Whether functions on this machine get its GPUs."""
    try:
        found = usable()
    except OSError:
        lost = on_the_bus()
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
