"""How many processor cores there are for this process and its children."""

import math
import os
from typing import List

# A container sees its own control group as the root of the hierarchy.
_GROUPS = "/sys/fs/cgroup"


def available(groups: str = _GROUPS) -> int:
    """Those that it may run on, or fewer where a container engine allows less time (`--cpus`)."""
    # PyPy cannot tell which cores this process may use.
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    share = _share(groups)
    return max(1, min(count, math.ceil(share))) if share > 0 else count


def _share(groups: str) -> float:
    """How many cores' time the control group may use; 0 where nothing is said."""
    time = _words(os.path.join(groups, "cpu.max"))
    if not time:
        # Of the first version, each controller is a hierarchy of its own.
        files = ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")
        time = [word for name in files for word in _words(os.path.join(groups, name))]
    try:
        quota, period = map(int, time)
        return quota / period
    except (ValueError, ZeroDivisionError):
        return 0.0


def _words(path: str) -> List[str]:
    try:
        with open(path) as file:
            return file.read().split()
    except OSError:
        return []
