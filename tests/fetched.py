"""The parts of a data directory that all tests of a process share."""

from __future__ import annotations

import shutil
from pathlib import Path


def copy_fetched(fetched: Path, data_dir: Path) -> None:
    """Copy what every deploy would download, and what is known about base images.

    `fetched` is the folder `sdk` of a data directory.
    """
    shutil.copytree(fetched, data_dir / "sdk")
    # Otherwise each test would start a container to find the Python of the same base image.
    pythons = fetched.parent / "pythons.json"
    if pythons.exists():
        shutil.copy(pythons, data_dir)
