"""The comparison of two source trees."""

from __future__ import annotations

import base64
import io
import json

import pytest
from PIL import Image

from bench import pairs
from bench.catalog import ROOT


def test_comparing_a_tree_with_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def picture(size: tuple[int, int]) -> bytes:
        stream = io.BytesIO()
        Image.linear_gradient("L").resize(size).save(stream, "JPEG")
        return json.dumps({"image": base64.b64encode(stream.getvalue()).decode()}).encode()

    monkeypatch.setattr(pairs, "picture", picture)
    rows = [row.split(" | ") for row in pairs.compare((ROOT, ROOT), "detector", 1, 2)]
    assert [row[:2] for row in rows] == [["detector", "640x480"], ["detector", "1920x1080"]]
    assert all(" -> " in cell for row in rows for cell in row[3:])
