"""Waiting for something to be so, with an end."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(so: Callable[[], object], what: str, seconds: float = 120.0) -> None:
    """Ask until it is so; a failure that says what was waited for after that many seconds."""
    ends = time.monotonic() + seconds
    while not so():
        assert time.monotonic() < ends, f"after {seconds:.0f} s not yet: {what}"
        time.sleep(0.02)
