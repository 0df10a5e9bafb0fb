"""Waiting for a condition, with a time limit."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.engine import poll_interval


def until(condition: Callable[[], object], description: str, seconds: float = 120.0) -> None:
    """Wait until a condition is true; fail with its description after that many seconds."""
    start = time.monotonic()
    while not condition():
        waited = time.monotonic() - start
        assert waited < seconds, f"after {seconds:.0f} s not yet: {description}"
        time.sleep(poll_interval(waited))
