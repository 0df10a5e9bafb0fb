"""Random weights of the sam2 function."""

from __future__ import annotations

from pathlib import Path

from tests.functions import transformers_models


def write(folder: Path) -> None:
    transformers_models.save_sam2(folder)
