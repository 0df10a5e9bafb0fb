"""What tests of every part share."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def photo() -> Callable[[str], Path]:
    """The path of a real photograph by its name; fetched once, then kept in the cache."""

    def find(name: str) -> Path:
        cached = ROOT / ".cache" / "photos" / name
        if not cached.is_file():
            subprocess.run([sys.executable, ROOT / "scripts" / "photos", name], check=True)
        return cached

    return find
