"""Functions with annotations of a GPU group."""

from __future__ import annotations

import json
from pathlib import Path

from fnbuild.platforms import Deployment


def annotate(folder: Path, **values: str) -> Path:
    """Add the annotations `fnbuild.io/KEY` to the function in the folder; `_` stands for `-`."""
    path = folder / "function.yaml"
    annotations = {
        f"fnbuild.io/{key.replace('_', '-')}": value
        for key, value in ({"gpu_group": "models"} | values).items()
    }
    text = f"metadata:\n  annotations: {json.dumps(annotations)}\n"
    path.write_text(path.read_text().replace("metadata:\n", text, 1))
    return folder


def sleep_state(deployment: Deployment) -> str:
    assert deployment.sleep is not None
    return deployment.sleep.state
