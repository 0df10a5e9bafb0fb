"""Keeps the memory of freed frames in the process.

glibc gives large freed buffers back to the kernel at once and faults them in again for the next
image, which costs a worker more time than the decoding of it, and the processor more than passing
its bytes on. Elsewhere (musl) nothing is done.
"""

import os
from typing import Mapping

# Set to `default`, glibc is left as it is.
VARIABLE = "FNBUILD_MALLOC"

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_MIB = 1024 * 1024

# mallopt's parameter, its value, and the variable by which a user may have chosen another one.
_SETTINGS = (
    (_M_MMAP_THRESHOLD, 32 * _MIB, "MALLOC_MMAP_THRESHOLD_"),
    (_M_TRIM_THRESHOLD, 256 * _MIB, "MALLOC_TRIM_THRESHOLD_"),
)


def tune(environ: Mapping[str, str] = os.environ) -> bool:
    """Set glibc's thresholds for this process; False where there is nothing to set."""
    if environ.get(VARIABLE) == "default":
        return False
    try:
        import ctypes

        mallopt = ctypes.CDLL(None).mallopt
    except (ImportError, OSError, AttributeError):
        return False
    wanted = [pair for *pair, variable in _SETTINGS if not environ.get(variable)]
    return bool(wanted) and all(mallopt(*pair) == 1 for pair in wanted)
