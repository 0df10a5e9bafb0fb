"""Requests with an image as CVAT sends them, and their replies as a drawing or a table."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fnbuild.cli import invocation, output
from fnbuild.cli.console import count_text, note, warn
from fnbuild.cli.invocation import InvocationRequest
from fnbuild.cli.output import escape_control_characters
from fnbuild.cvat import drawing, replies
from fnbuild.cvat.replies import ParsedReply
from fnbuild.cvat.request import CvatRequest, build_request, parse_box, parse_points, read_image
from fnbuild.cvat.shapes import table_rows
from fnbuild.errors import InputError, NotFoundError, PlatformError, UsageError
from fnbuild.function import labels
from fnbuild.function.labels import Label
from fnbuild.function.types import Function
from fnbuild.platforms.access import token_headers


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """A request with an image, and the labels that the reply may have."""

    request: CvatRequest
    labels: list[Label]


def _checked_threshold(value: float | None) -> float | None:
    if value is None:
        return None
    if not math.isfinite(value):
        raise UsageError(f"--threshold {value} is no number to compare with")
    if not 0 <= value <= 1:
        warn(f"--threshold {value:g}: confidences are from 0 to 1, so few functions understand it")
    return value


def build_image_request(function: Function, flags: dict[str, Any]) -> ImageRequest:
    """Build the request that CVAT would send for these flags of `fnbuild invoke`."""
    if flags["draw"] is not None:
        drawing.output_format(flags["draw"])
    kind = labels.function_kind(function)
    if kind is None:
        declared = function.metadata.annotations.get("type")
        cause = (
            f'the annotation type is "{declared}"' if declared else "there is no annotation type"
        )
        warn(f"{cause}, so CVAT would not list this function; asked as a detector")
        kind = "detector"
    second = flags["image1"]
    request = build_request(
        kind,
        read_image(flags["image"]),
        threshold=_checked_threshold(flags["threshold"]),
        pos_points=[point for text in flags["points"] for point in parse_points(text)],
        neg_points=[point for text in flags["neg_points"] for point in parse_points(text)],
        boxes=[parse_box(text) for text in flags["box"]],
        image1=read_image(second) if second else None,
        boxes1=[parse_box(text) for text in flags["box1"]],
        max_distance=flags["max_distance"],
        shape_types=labels.tracked_shape_types(function),
        states=_read_states(flags["states"]) if flags["states"] else (),
    )
    _warn_outside(request)
    return ImageRequest(request, labels.function_labels(function))


def _warn_outside(request: CvatRequest) -> None:
    """Warn about points outside the image, which CVAT cannot send."""
    width, height = request.image.size
    for flag, points in (("--points", request.pos_points), ("--neg-points", request.neg_points)):
        for x, y in points:
            if not (0 <= x <= width and 0 <= y <= height):
                warn(f"{flag} {x:g},{y:g} is outside the picture, which is {width}x{height} pixels")


def read_reply(image_request: ImageRequest, body: bytes) -> ParsedReply:
    """Read the shapes of a reply and the problems that CVAT would have with it."""
    request = image_request.request
    return replies.read_reply(request.kind, body, image_request.labels, request.image.size, request)


def draw_reply(image_request: ImageRequest, parsed: ParsedReply, out: Path) -> None:
    """Write the image with the shapes of the reply and the prompts of the request."""
    request = image_request.request
    missing = drawing.draw_to_file(
        request.image.data, parsed.shapes, image_request.labels, out, request
    )
    if missing:
        warn(
            f"no font on this machine has the letters {missing}, so the picture shows boxes;"
            " a package such as fonts-noto-cjk or unifont brings them"
        )


def shapes_table(parsed: ParsedReply) -> str:
    """Format the shapes of a reply as a table; for re-identification, the pairs."""
    if parsed.matches:
        pairs = [[first, "-" if match < 0 else match] for first, match in enumerate(parsed.matches)]
        return output.format_table(["box", "match"], pairs)
    return output.format_table(["label", "type", "confidence", "points"], table_rows(parsed.shapes))


def _read_states(path: Path) -> list[Any]:
    try:
        reply = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise NotFoundError(f"no such file: {path}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"--states {path} cannot be read: {error}") from None
    states = reply.get("states") if isinstance(reply, dict) else reply
    if not isinstance(states, list):
        raise InputError(f"--states {path} holds no list of states")
    return states


_TIMEOUT = 600.0
_UNSET_FLAGS: dict[str, Any] = {
    "threshold": None,
    "points": (),
    "neg_points": (),
    "box": (),
    "image1": None,
    "box1": (),
    "max_distance": None,
    "states": None,
}


@dataclass(frozen=True, slots=True)
class ReplyPreview:
    """The reply to an image, which `fnbuild run` shows after each change.

    `out` is the file for a drawing of it.
    """

    image: Path
    out: Path | None

    def without_drawing(self, changed: set[Path]) -> set[Path]:
        """Return the changed files without the drawing, which is not part of the function."""
        if self.out is None:
            return changed
        own = self.out.resolve()
        return {path for path in changed if path.resolve() != own}

    def show(self, function: Function, url: str) -> None:
        """Send the image, print what the reply has, and draw it if there is a file for that.

        Raises `FnbuildError` if the function fails.
        """
        image_request = build_image_request(
            function, {**_UNSET_FLAGS, "image": self.image, "draw": self.out}
        )
        headers = {"Content-Type": image_request.request.content_type, **token_headers(function)}
        reply = invocation.send_request(
            url, InvocationRequest("POST", "", image_request.request.body, headers, _TIMEOUT)
        )
        if not reply.ok:
            text = reply.body.decode("utf-8", "replace").strip()
            raise PlatformError(
                f"the function answered {reply.status} {reply.reason}: {text or '(no body)'}"
            )
        parsed = read_reply(image_request, reply.body)
        for problem in parsed.diagnostics:
            note(escape_control_characters(str(problem)))
        where = ""
        if self.out is not None:
            draw_reply(image_request, parsed, self.out)
            where = f", drawn to {self.out}"
        note(f"{count_text(len(parsed.shapes), 'shape')} in {reply.seconds * 1000:.0f} ms{where}")


def reply_preview(image: Path | None, out: Path | None) -> ReplyPreview | None:
    """Return the preview that the flags ask for, None without an image."""
    if image is None:
        if out is not None:
            raise UsageError("--draw needs a picture", hint="`--image FILE` gives it")
        return None
    if not image.is_file():
        raise UsageError(f"--image {image}: there is no such file")
    return ReplyPreview(image, out)
