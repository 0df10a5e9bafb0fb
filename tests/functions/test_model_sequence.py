"""A function that passes its input through three models in sequence."""

from __future__ import annotations

import base64
import io
import json
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.functions.conftest import ROOT, import_module_of

pytestmark = pytest.mark.system

FOLDER = ROOT / "tests/data/model-sequence"


def test_an_image_passes_three_models(fnbuild: Callable[..., str], tmp_path: Path) -> None:
    torch.manual_seed(3)
    networks = import_module_of(FOLDER, "networks").NETWORKS
    assert len(networks) == 3
    for name, network in networks.items():
        torch.save(network.state_dict(), tmp_path / f"{name}.pt")
    python = ("--env", f"NUCLIO_PYTHON_EXE_PATH={sys.executable}")
    fnbuild("deploy", "--path", FOLDER, *python, "--env", f"STORAGE_URI=file://{tmp_path}")

    instances, expected = [], []
    for pixels in np.random.default_rng(5).integers(0, 255, (2, 40, 60, 3), np.uint8):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        instances.append({"image": {"b64": base64.b64encode(file.getvalue()).decode()}})
        value = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
        with torch.no_grad():
            for network in networks.values():
                value = network(value)
        expected.append(pytest.approx(value[0].tolist(), abs=1e-5))

    status = json.loads(fnbuild("get", "function", "model-sequence", "-o", "json"))["status"]
    url = f"http://127.0.0.1:{status['httpPort']}/v1/models/model-sequence:predict"
    body = json.dumps({"instances": instances}).encode()
    with urllib.request.urlopen(url, body, timeout=60) as reply:
        assert json.load(reply) == {"predictions": expected}
