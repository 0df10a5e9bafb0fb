"""Random weights of the mobilenet function, and labels for its classes."""

from __future__ import annotations

from pathlib import Path

from tests.functions.conftest import write_mobilenet_weights


def write(folder: Path) -> None:
    write_mobilenet_weights(folder)
