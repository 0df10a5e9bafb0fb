"""Waiting for a condition, with a time limit."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(condition: Callable[[], object], description: str, seconds: float = 120.0) -> None:
    """Wait until a condition is true; fail with its description after that many seconds."""
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, f"after {seconds:.0f} s not yet: {description}"
        time.sleep(0.02)
