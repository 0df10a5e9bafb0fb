"""The GPU of each worker: with `workers_per_device` N, the first N get the first GPU, and so on.

A worker sees its GPU only, by CUDA_VISIBLE_DEVICES, which is set before CUDA is initialised: in the
environment of a new interpreter, or in a fork of a template that has not used a GPU.
"""

from typing import Dict, List, Optional

VARIABLE = "CUDA_VISIBLE_DEVICES"


def list_devices(env: Dict[str, str]) -> List[str]:
    """Return the GPUs that workers with this environment see, as CUDA names them."""
    if VARIABLE in env:
        return [name.strip() for name in env[VARIABLE].split(",") if name.strip()]
    try:
        # Not every Python has ctypes.
        from .. import nvml
    except ImportError:
        return []
    try:
        return nvml.Nvml(nvml.load_library()).uuids
    except (nvml.NvmlError, OSError):
        return []


def device_variables(
    workers_per_device: Optional[int], devices: List[str], worker: int
) -> Dict[str, str]:
    """Return the variables that assign a GPU to a worker; none without GPUs.

    With more workers than places, the GPUs are assigned in turn again.
    """
    if not workers_per_device or not devices:
        return {}
    return {VARIABLE: devices[worker // workers_per_device % len(devices)]}
