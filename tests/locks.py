"""Locks among the test processes of one user."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def exclusive(name: str) -> Iterator[None]:
    """Let one test process at a time use a resource, such as the BuildKit of an engine.

    The files of other users cannot be opened: each user has files of their own.
    """
    path = Path(tempfile.gettempdir(), f"fnbuild-test-{name}-{os.getuid()}.lock")
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
