"""Tune glibc's allocator to keep the memory of freed images in the process.

By default glibc returns large freed buffers to the kernel at once and faults them in again for the
next image. That costs a worker more time than decoding the image, and the processor more than
passing its bytes on. Other C libraries (musl) are left alone.
"""

import os
from typing import Mapping

# The value `default` leaves glibc as it is.
VARIABLE = "FNBUILD_MALLOC"

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_MIB = 1024 * 1024

# A parameter of mallopt, its value, and the variable with which a user may set it.
_SETTINGS = (
    (_M_MMAP_THRESHOLD, 32 * _MIB, "MALLOC_MMAP_THRESHOLD_"),
    (_M_TRIM_THRESHOLD, 256 * _MIB, "MALLOC_TRIM_THRESHOLD_"),
)


def tune(environ: Mapping[str, str] = os.environ) -> bool:
    """Set glibc's thresholds for this process; return False if there is nothing to set."""
    if environ.get(VARIABLE) == "default":
        return False
    try:
        import ctypes

        mallopt = ctypes.CDLL(None).mallopt
    except (ImportError, OSError, AttributeError):
        return False
    settings = [pair for *pair, variable in _SETTINGS if not environ.get(variable)]
    return bool(settings) and all(mallopt(*pair) == 1 for pair in settings)
