"""Masks as run lengths: the form of CVAT's interactors and trackers.

The numbers are the lengths of runs in the mask's box row by row, zeros first, and then the box:
left, top, right, bottom, inclusive.
"""

from typing import Any, List, Sequence

from .arrays import Size, to_array
from .optional_libraries import numpy


def encode_mask(mask: Any) -> List[int]:
    """Return run lengths and the box of a mask of the image; raise ValueError if it is empty."""
    pixels = to_array(mask) != 0
    rows, columns = numpy.flatnonzero(pixels.any(1)), numpy.flatnonzero(pixels.any(0))
    if not len(rows):
        raise ValueError("the mask has no pixel")
    left, top, right, bottom = (int(x) for x in (columns[0], rows[0], columns[-1], rows[-1]))
    flat = pixels[top : bottom + 1, left : right + 1].ravel()
    changes = numpy.flatnonzero(flat[1:] != flat[:-1]) + 1
    # Zeros come first: a mask that begins with a pixel has a run of none.
    starts = [0, 0] if flat[0] else [0]
    runs = numpy.diff(numpy.concatenate([starts, changes, [len(flat)]]))
    return [*runs.tolist(), left, top, right, bottom]


def decode_mask(numbers: Sequence[float], size: Size) -> Any:
    """Return the mask (H x W of bool) of an image of `size` (width, height).

    Raises ValueError if the numbers are not those of `encode_mask`.
    """
    values = numpy.asarray(numbers, "float64")
    if len(values) < 5 or (values != values.round()).any():
        raise ValueError("a mask has run lengths and a box, all whole numbers")
    *runs, left, top, right, bottom = values.astype(int).tolist()
    width, height = right - left + 1, bottom - top + 1
    fits = 0 <= left <= right < size[0] and 0 <= top <= bottom < size[1]
    if not fits or min(runs) < 0 or sum(runs) != width * height:
        raise ValueError("the runs of the mask do not fill its box, or it is outside the image")
    mask = numpy.zeros((size[1], size[0]), bool)
    flat = numpy.repeat(numpy.arange(len(runs)) % 2 == 1, runs)
    mask[top : bottom + 1, left : right + 1] = flat.reshape(height, width)
    return mask
