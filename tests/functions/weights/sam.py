"""Random weights of the sam function."""

from __future__ import annotations

from pathlib import Path

from tests.functions import transformers_models


def write(folder: Path) -> None:
    transformers_models.export_sam(transformers_models.sam(), folder)
