"""Pictures of the differences of replies: the old shapes on the left, the new ones on the right."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from fnbuild.cvat.drawing import draw_shapes
from fnbuild.cvat.replay import ReplayResult
from fnbuild.errors import InputError
from fnbuild.function.labels import function_labels
from fnbuild.function.types import Function

_GAP = 8


def draw_differences(
    results: Sequence[ReplayResult], function: Function, folder: Path
) -> list[Path]:
    """Write a picture for each result that has one; return their paths. Raises `InputError`."""
    labels = function_labels(function)
    written = []
    for result in results:
        if result.image is None:
            continue
        comparison = result.comparison
        left, right = (
            draw_shapes(result.image.data, shapes, labels).image
            for shapes in (comparison.before, comparison.after)
        )
        both = Image.new("RGB", (left.width + right.width + _GAP, left.height), "white")
        both.paste(left, (0, 0))
        both.paste(right, (left.width + _GAP, 0))
        path = folder / (re.sub(r"[^\w.-]", "_", result.request.name) + ".png")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            both.save(path)
        except OSError as error:
            raise InputError(f"cannot write the picture {path}: {error.strerror}") from error
        written.append(path)
    return written
