"""Random weights of the zero-shot-detector function."""

from __future__ import annotations

from pathlib import Path

from tests.functions import transformers_models


def write(folder: Path) -> None:
    transformers_models.save_zero_shot("grounding_dino", folder)
