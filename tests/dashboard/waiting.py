"""Waiting for a condition, with a time limit."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(so: Callable[[], object], what: str, seconds: float = 120.0) -> None:
    """Wait until a condition is true; fail with its description after that many seconds."""
    ends = time.monotonic() + seconds
    while not so():
        assert time.monotonic() < ends, f"after {seconds:.0f} s not yet: {what}"
        time.sleep(0.02)
