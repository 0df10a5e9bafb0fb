"""An image request built from the flags of invoke."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fnbuild.cli.image_request import build_image_request
from fnbuild.function.types import Function, Metadata

_NOTHING: dict[str, Any] = {
    "draw": None, "image1": None, "threshold": None, "points": (), "neg_points": (), "box": (),
    "box1": (), "max_distance": None, "states": None,
}  # fmt: skip


def warned(folder: Path, capsys: pytest.CaptureFixture[str], **flags: Any) -> list[str]:
    image = folder / "in.png"
    Image.new("RGB", (40, 30)).save(image)
    function = Function(metadata=Metadata(name="f", annotations={"type": "interactor"}))
    build_image_request(function, {**_NOTHING, "image": image, **flags})
    return capsys.readouterr().err.splitlines()


def test_points_outside_the_image_have_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = warned(tmp_path, capsys, points=("9999,1 5,5",), neg_points=("3,-1",))
    assert output == [
        "warning: --points 9999,1 is outside the picture, which is 40x30 pixels",
        "warning: --neg-points 3,-1 is outside the picture, which is 40x30 pixels",
    ]


def test_points_inside_the_image_have_no_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert warned(tmp_path, capsys, points=("0,0 39.5,29", "40,30")) == []
