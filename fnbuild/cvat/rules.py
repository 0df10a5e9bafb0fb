"""The catalogue of rules on functions and their replies.

An id never changes its meaning, since results in CI systems refer to it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from fnbuild.errors import Severity


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. An error is what CVAT rejects, crashes on or draws incorrectly.

    `effect` is what an annotator sees in CVAT; `remedy` is for the author of the function.
    """

    id: str
    severity: Severity
    title: str
    effect: str
    remedy: str


_DROPPED = "The shape is missing, without a message."
_REJECTED = "A message with status 400 instead of shapes; a batch job stops at this frame."
_CRASH = "CVAT answers 500; a batch job stops at this frame."
_UI_CRASH = "An error of the page instead of a mask."
_WRONG_MASK = "A mask of other pixels: stripes, or a shifted object. There is no message."
_LOST_VALUE = "The shape appears with the attribute's default value."
_CLIPPED = "A shape that lies partly or wholly beside the picture."
_FAILED = "A message with the status alone: CVAT discards the text of the error."

_TABLE: dict[str, tuple[Severity, str, str, str]] = {
    # The whole reply.
    "reply-json": ("error", "The reply is JSON", _CRASH, "return `json.dumps(...)`"),
    "reply-kind": ("error", "The kind is one of CVAT's", "The function is not listed.",
        "set the annotation `type`"),
    "reply-type": ("error", "The reply has the type of its kind: a list or an object", _CRASH,
        "detectors and reid reply with a list, interactors and trackers with an object"),
    "item-type": ("error", "Shapes are objects", _CRASH, 'write `{"type": …, "label": …}`'),
    "missing-key": ("error", "A shape has the keys of its type", _CRASH, "add the key"),
    # Labels and attributes.
    "no-labels": ("warning", "A detector declares labels", "No shape at all, without a message.",
        "list the labels in the annotation `spec`"),
    "label-name": ("error", "A label is a name", _CRASH, "return the names of the spec"),
    "label-unknown": ("warning", "The spec declares the label", _DROPPED,
        "add the label to the annotation `spec`, or correct its name"),
    "label-shape": ("warning", "A shape has the type of its label",
        "The shape has another type than the label's declaration promises.",
        "change the type in the spec, or leave it out for any type"),
    "shape-type": ("error", "The shape's type exists", _REJECTED, "use a type of CVAT"),
    "attributes-list": ("error", "Attributes are a list", _CRASH, "omit the key instead of null"),
    "attribute-item": ("error", "An attribute has a name and a value", _CRASH,
        'write `{"name": …, "value": …}`'),
    "attribute-unknown": ("warning", "The spec declares the attribute", _LOST_VALUE,
        "add the attribute to the label in the spec"),
    "attribute-choice": ("error", "The value of a choice is a string", _CRASH,
        "write the value as a string"),
    "attribute-value": ("warning", "The value is valid for its attribute", _LOST_VALUE,
        "return a value that the spec allows, as a string"),
    # Points.
    "points-list": ("error", "Points are a list", _REJECTED, "write `[x1, y1, x2, y2]`"),
    "points-nested": ("error", "Points are a flat list", _REJECTED, "write `[x1, y1, x2, y2]`"),
    "points-string": ("error", "Coordinates are numbers, not strings", _REJECTED,
        "write 12.5, not \"12.5\""),
    "points-finite": ("error", "Coordinates are finite", _CRASH,
        "drop shapes with NaN or Infinity; such values often come from a division by zero"),
    "points-number": ("error", "Coordinates are numbers", _REJECTED, "return numbers alone"),
    "points-count": ("error", "A shape has the number of points of its type", _REJECTED,
        "return as many numbers as the type needs"),
    "points-outside": ("warning", "Points are inside the picture", _CLIPPED,
        "scale from the model's input to the picture, and clip"),
    "coordinates-normalized": ("warning", "Coordinates are pixels, not parts of the picture",
        "A tiny shape in the upper left corner.", "multiply by the picture's width and height"),
    "rectangle-area": ("warning", "A rectangle is left, top, right, bottom",
        "A rectangle without an area, or at another place.",
        "convert x, y, width, height to left, top, right, bottom"),
    "rotation": ("error", "A rotation is 0 to 360 degrees", _REJECTED, "take it modulo 360"),
    "group-id": ("error", "The id of a group is a whole number", _REJECTED,
        "number the groups of shapes from 1 on; 0 is no group"),
    "interval-shape": ("warning", "Intervals are not for pictures", _DROPPED, "return shapes"),
    "confidence-number": ("warning", "A confidence is a number, or a string with one",
        "The confidence is not shown.", "write `str(score)`"),
    "confidence-range": ("warning", "A confidence is 0 to 1",
        "The threshold of the page keeps or drops the wrong shapes.", "divide percentages by 100"),
    # Masks.
    "mask-type": ("error", "A mask is a flat list", _CRASH, "send pixels, then the box"),
    "mask-rows": ("error", "A mask has the layout of its kind", _CRASH,
        "detectors send a flat list of the box, older interactors rows of the picture"),
    "mask-length": ("error", "A mask has pixels and a box", _CRASH,
        "append left, top, right, bottom to the pixels"),
    "mask-size": ("error", "The pixels fill the mask's box", _WRONG_MASK,
        "the box is inclusive: right = left + width - 1"),
    "mask-box": ("error", "The mask's box is four whole numbers in order", _WRONG_MASK,
        "append left, top, right, bottom as whole numbers"),
    "mask-outside": ("error", "The mask's box is inside the picture", _CLIPPED,
        "the box is inclusive: right is at most the width - 1"),
    "mask-pixels": ("error", "Pixels are numbers", _CRASH, "send 0 and 1"),
    "mask-levels": ("error", "A mask has two values", _WRONG_MASK,
        "apply the threshold, and send 0 and 1"),
    "mask-runs": ("error", "Run lengths are whole numbers from 0 on", _WRONG_MASK,
        "count pixels; the first run counts zeros"),
    "mask-empty": ("warning", "A mask has a pixel", "A shape that cannot be seen or selected.",
        "leave the shape out"),
    # Skeletons.
    "skeleton-points": ("error", "A skeleton has no points of its own", _REJECTED,
        "return the points in `elements`"),
    "skeleton-elements": ("error", "A skeleton has elements", _CRASH,
        "return a list with one element for each visible sublabel"),
    "skeleton-repeated": ("warning", "A sublabel occurs once in a skeleton",
        "One of the points is missing.", "return each sublabel once"),
    "skeleton-hidden": ("warning", "A skeleton has a visible element",
        "The skeleton is missing, without a message.", "leave the skeleton out"),
    "element-type": ("error", "An element has the type points", _REJECTED, 'write "points"'),
    "element-point": ("error", "An element is one point", _REJECTED, "write `[x, y]`"),
    # Interactors.
    "interactor-keys": ("error", "An interactor returns shapes or a mask", _UI_CRASH,
        'return `{"shapes": […]}`'),
    "shapes-list": ("error", "Shapes are a list", _UI_CRASH, "return a list"),
    "interactor-shape": ("warning", "Interactors return masks", _DROPPED, "return masks"),
    "interactor-confidence": ("error", "An interactor's confidence is a string",
        "The page's threshold does not work.", "write `str(score)`"),
    "embedding": ("error", "An embedding is float32 data of 256 x 64 x 64", _UI_CRASH,
        "encode the array's bytes in base64"),
    "embedding-name": ("warning", "Embeddings need the name of CVAT's own model", _UI_CRASH,
        "return `shapes`"),
    # Trackers.
    "tracker-states": ("error", "A tracker returns states", _CRASH,
        "return one state for each shape"),
    "tracker-count": ("error", "States and shapes have one entry for each shape",
        "Tracks are lost, or get the shapes of others.", "return the entries in the same order"),
    "tracker-shape": ("error", "The shape's type can be tracked", _REJECTED,
        "return the type of the shape that the request has"),
    "tracker-lost": ("warning", "Lost shapes are not null for the older interface",
        "An error of the page; the other tracks stop, too.",
        "declare `supported_shape_types`, or return the last shape"),
    "state-json": ("error", "States survive JSON", "Tracking ends with an error.",
        "return states without NaN and Infinity"),
    "state-size": ("warning", "A state is small",
        "Each frame takes longer: states travel through the browser twice.",
        "keep what the next frame needs, and compress it"),
    "state-worker": ("error", "A state holds all that the next worker needs",
        "Tracking fails or jumps, but only sometimes: any worker gets the next frame.",
        "put everything into the state, nothing into variables of the worker"),
    # Re-identification.
    "reid-length": ("error", "The reply has one entry for each box of the first picture",
        _CRASH, "return -1 for boxes without a match"),
    "reid-index": ("error", "An entry is an index of the second picture's boxes, or -1",
        "A job that fails, or joins unrelated objects.", "return whole numbers"),
    "reid-repeated": ("warning", "A box is matched once", "Two tracks join in one object.",
        "assign each box of the second picture to at most one of the first"),
    # Behaviour.
    "status": ("error", "A valid request is answered with status 200", _FAILED,
        "`fnbuild logs` shows the traceback; convert every picture to the model's mode"),
    "no-answer": ("error", "The function answers",
        "A message with status 503: the connection ended.",
        "the log has the reason; often the memory was not enough"),
    "slow": ("error", "The function answers within CVAT's timeout", "A message with status 504.",
        "reduce large pictures before the model, or raise CVAT_NUCLIO_DEFAULT_TIMEOUT"),
    "bad-request-status": ("error", "An invalid request is answered with a status from 400 to 499",
        _FAILED, "catch the error, and reply with status 400 and a message"),
    "bad-request-accepted": ("warning", "An invalid request is refused",
        "A picture that cannot be read looks like one without objects.",
        "reply with status 400 and a message"),
    "bad-request-message": ("warning", "A refusal has a message",
        "Nothing tells why; the log has only a status.", 'reply with `{"error": "…"}`'),
    "threshold": ("warning", "Results are at least as confident as the threshold",
        "The threshold in CVAT's dialog has no effect.", "drop results below `threshold`"),
    "repeatable": ("warning", "The same request has the same reply",
        "Two clicks on the same place give different results.",
        "set seeds, and the model to evaluation mode"),
    "independent": ("warning", "A reply does not depend on earlier requests",
        "Results of another picture or user appear.",
        "keep nothing of a request in `context.user_data`"),
    "picture-mode": ("warning", "Equal pixels give equal results in every picture mode",
        "Grey or transparent pictures get other results.", "convert each picture to RGB first"),
}  # fmt: skip

RULES: dict[str, Rule] = {name: Rule(name, *columns) for name, columns in _TABLE.items()}


def catalogue() -> str:
    """Return the catalogue as a table in Markdown."""
    head = "| Rule | Severity | What holds | Otherwise, in CVAT | Remedy |\n|---|---|---|---|---|"
    rows = [
        f"| `{rule.id}` | {rule.severity} | {rule.title} | {rule.effect} | {rule.remedy} |"
        for rule in RULES.values()
    ]
    return "\n".join([head, *rows])


def _write_catalogue(page: Path) -> None:
    """Replace the table at the end of a page."""
    text = page.read_text()
    page.write_text(text[: text.index("| Rule |")] + catalogue() + "\n")


if __name__ == "__main__":
    _write_catalogue(Path(sys.argv[1]))
