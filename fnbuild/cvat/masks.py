"""Read the three encodings of masks: a detector's flat crop, run lengths, and rows of the image."""

from __future__ import annotations

from typing import Any

from fnbuild.cvat.reply_report import ReplyReport, is_number, json_excerpt, json_type
from fnbuild.cvat.shapes import Mask, Size, crop_mask, runs_to_bits

GREY_HINT = "CVAT sees every change of value as an edge: send 0 and 1 only"


def from_crop(value: Any, path: str, size: Size, report: ReplyReport) -> Mask | None:
    """Read a detector's mask: the pixels of the box by rows, then left, top, right, bottom."""
    if not isinstance(value, list):
        report.add(
            "mask-type", path, f"must be a flat list of pixels and a box, not {json_type(value)}"
        )
        return None
    if value and isinstance(value[0], list):
        report.add(
            "mask-rows",
            path,
            "is a list of rows; a detector sends the pixels of the box as one flat list",
            "crop to the box, flatten row by row, append [left, top, right, bottom]",
        )
        return None
    if len(value) < 5:
        report.add(
            "mask-length", path, f"has {len(value)} numbers: pixels and a box of 4 are needed"
        )
        return None
    box = _read_box(value[-4:], path, size, report)
    bits = _read_bits(value[:-4], path, report)
    if box is None or bits is None:
        return None
    left, top, right, bottom = box
    width, height = right - left + 1, bottom - top + 1
    if len(bits) != width * height:
        report.add(
            "mask-size",
            path,
            f"has {len(bits)} pixels for a box of {width} x {height} = {width * height}",
            "the box is inclusive: right = left + width - 1, bottom = top + height - 1",
        )
        return None
    if 1 not in bits:
        report.add("mask-empty", path, "has no pixel set")
    return Mask(left, top, right, bottom, bits)


def from_runs(points: tuple[float, ...], path: str, size: Size, report: ReplyReport) -> Mask | None:
    """Read an interactor's mask: run lengths, zeros first, then left, top, right, bottom."""
    if len(points) < 5:
        report.add(
            "mask-length", path, f"has {len(points)} numbers: run lengths and a box of 4 are needed"
        )
        return None
    box = _read_box(list(points[-4:]), path, size, report)
    if box is None:
        return None
    runs = points[:-4]
    for i, run in enumerate(runs):
        if run < 0 or run != int(run):
            report.add(
                "mask-runs", path, f"[{i}] is {run:g}: a run length is a whole number from 0 on"
            )
            return None
    left, top, right, bottom = box
    width, height = right - left + 1, bottom - top + 1
    total = int(sum(runs))
    if total != width * height:
        report.add(
            "mask-size",
            path,
            f"the runs cover {total} pixels of a box of {width} x {height} = {width * height}",
            "the first run counts zeros; a detector's flat pixels are not run lengths",
        )
        return None
    return Mask(left, top, right, bottom, runs_to_bits(int(run) for run in runs))


def from_rows(value: Any, path: str, size: Size, report: ReplyReport) -> Mask | None:
    """Read an older interactor's mask: one list of pixels for each row of the whole image."""
    if not isinstance(value, list) or not value or not isinstance(value[0], list):
        report.add(
            "mask-rows",
            path,
            "must be a list of rows, one for each row of the image",
            "CVAT's page breaks on an empty list",
        )
        return None
    widths = {len(row) if isinstance(row, list) else -1 for row in value}
    if len(widths) != 1 or widths == {-1}:
        report.add("mask-rows", path, "its rows must be lists of one length")
        return None
    mask_size = widths.pop(), len(value)
    if mask_size != size:
        report.add(
            "mask-size",
            path,
            f"is {mask_size[0]} x {mask_size[1]}, the image is {size[0]} x {size[1]}",
            "a mask has one value for each pixel of the image: enlarge it, do not crop it",
        )
        return None
    rows = []
    for y, row in enumerate(value):
        bits = _read_bits(row, f"{path}[{y}]", report)
        if bits is None:
            return None
        rows.append(bits)
    levels = {pixel for row in value for pixel in set(row) if pixel}
    if len(levels) > 1:
        report.add("mask-levels", path, f"has {len(levels)} levels of grey", GREY_HINT)
    mask = crop_mask(rows)
    if mask is None:
        report.add("mask-empty", path, "has no pixel set")
    return mask


def _read_box(
    values: list[Any], path: str, size: Size, report: ReplyReport
) -> tuple[int, int, int, int] | None:
    if not all(is_number(value) and value == int(value) for value in values):
        report.add("mask-box", path, f"the box {values} at the end must be four whole numbers")
        return None
    left, top, right, bottom = (int(value) for value in values)
    if right < left or bottom < top:
        report.add(
            "mask-box",
            path,
            f"the box {values} at the end has right below left or bottom above top",
        )
        return None
    width, height = size
    if left < 0 or top < 0 or right >= width or bottom >= height:
        report.add(
            "mask-outside",
            path,
            f"the box {values} at the end leaves the image ({width} x {height})",
            f"the box is inclusive: right is at most {width - 1}, bottom {height - 1}",
        )
        return None
    return left, top, right, bottom


def _read_bits(values: list[Any], path: str, report: ReplyReport) -> bytes | None:
    invalid_types = {type(value) for value in values} - {int, float, bool}
    if invalid_types:
        example = next(value for value in values if type(value) in invalid_types)
        report.add("mask-pixels", path, f"pixels must be 0 or 1; one is {json_type(example)}")
        return None
    levels = {value for value in values if value}
    infinite = next((level for level in levels if level is not True and not is_number(level)), None)
    if infinite is not None:
        report.add("mask-pixels", path, f"pixels must be 0 or 1; one is {json_excerpt(infinite)}")
        return None
    if len(levels) > 1:
        examples = ", ".join(f"{level:g}" for level in sorted(levels)[:3])
        report.add(
            "mask-levels", path, f"has {len(levels)} levels of grey ({examples} …)", GREY_HINT
        )
        return None
    return bytes(1 if value else 0 for value in values)
