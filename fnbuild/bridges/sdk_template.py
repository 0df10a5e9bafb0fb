"""A function as a module of cvat-sdk: a detector, interactor or tracker.

    cvat-cli task auto-annotate TASK --function-file THIS_FILE
    cvat-cli function create-native NAME --function-file THIS_FILE
    cvat-cli function run-agent ID --function-file THIS_FILE

The module calls a running function at its URL, or the handler in a folder in this process. The
parameters `url`, `token` and `folder` replace what was written here: -p url=str:http://host:8080

Written by `fnbuild package cvat-sdk`.
"""

from __future__ import annotations

import base64
import importlib
import io
import json
import logging
import os
import sys
import types
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any

DESCRIPTION: dict[str, Any] = {}

TIMEOUT_SECONDS = 300
TOKEN_VARIABLE = "FUNCTION_TOKEN"  # noqa: S105 - the name of a variable

Call = Callable[[dict[str, Any]], Any]
logger = logging.getLogger(__name__)


def create(url: str = "", token: str = "", folder: str = "") -> Any:
    """Return the function. `token` is for a function that requires one."""
    url = url or ("" if folder else DESCRIPTION["url"])
    folder = folder or DESCRIPTION["folder"]
    call = (
        call_url(url, token or os.environ.get(TOKEN_VARIABLE, "")) if url else LazyHandler(folder)
    )
    return FUNCTIONS[DESCRIPTION["kind"]](call)


def call_url(url: str, token: str) -> Call:
    """Return a function that sends requests to a URL."""
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"

    def call(body: dict[str, Any]) -> Any:
        request = urllib.request.Request(url, json.dumps(body).encode(), headers)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as reply:  # noqa: S310
                return json.loads(reply.read())
        except urllib.error.HTTPError as error:
            text = error.read(2000).decode("utf-8", "replace")
            raise RuntimeError(f"{url} answered {error.code}: {text}") from None
        except urllib.error.URLError as error:
            raise RuntimeError(f"{url} cannot be reached: {error.reason}") from None

    return call


class LazyHandler:
    """The handler in a folder, which is loaded at the first request."""

    def __init__(self, folder: str) -> None:
        self.folder = os.path.abspath(folder)
        self.handler: Any = None

    def __call__(self, body: dict[str, Any]) -> Any:
        if self.handler is None:
            self._load()
        event = types.SimpleNamespace(
            id="0", body=body, content_type="application/json", method="POST", path="/", headers={}
        )
        reply = self.handler(self.context, event)
        status, content = 200, reply
        if hasattr(reply, "body"):
            status, content = reply.status_code, reply.body
        elif isinstance(reply, tuple):
            status, content = reply
        if isinstance(content, str | bytes):
            content = json.loads(content)
        if status >= 300:
            raise RuntimeError(f"the function answered {status}: {content}")
        return content

    def _load(self) -> None:
        sys.path.insert(0, self.folder)
        # Handlers open files by relative names.
        os.chdir(self.folder)
        name, _, attribute = DESCRIPTION["handler"].partition(":")
        module = importlib.import_module(name.removesuffix(".py"))
        self.context = types.SimpleNamespace(
            user_data=types.SimpleNamespace(), logger=NuclioLogger(), Response=Response, worker_id=0
        )
        if hasattr(module, "init_context"):
            module.init_context(self.context)
        self.handler = getattr(module, attribute or "handler")


class NuclioLogger:
    """The logger of a handler: `info`, `info_with`, and the same for the other levels."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        level = logging.getLevelName(name.removesuffix("_with").upper())
        if not isinstance(level, int):
            raise AttributeError(name)

        def log(message: str, *arguments: Any, **values: Any) -> None:
            text = message % arguments if arguments else message
            logger.log(level, "%s", f"{text} {values}" if values else text)

        return log


class Response:
    """The response of a handler, as in Nuclio."""

    def __init__(
        self,
        headers: Mapping[str, str] | None = None,
        body: Any = "",
        content_type: str = "text/plain",
        status_code: int = 200,
    ) -> None:
        self.headers = headers
        self.body = body
        self.content_type = content_type
        self.status_code = status_code


class Function:
    """The part that all kinds share. An image is prepared once for all requests about it."""

    def __init__(self, call: Call) -> None:
        self.call = call

    def preprocess_image(self, context: Any, image: Any) -> dict[str, Any]:  # noqa: ARG002
        return {"image": encode_image(image), "size": image.size}


class Detector(Function):
    """A detection function. Shapes whose label is not in the spec are left out, as by CVAT."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        from cvat_sdk.attributes import attribute_value_validator
        from cvat_sdk.auto_annotation import DetectionFunctionSpec
        from cvat_sdk.models import AttributeRequest, PatchedLabelRequest, SublabelRequest

        def with_objects(label: dict[str, Any], label_class: Any) -> Any:
            values = dict(label)
            values["attributes"] = [AttributeRequest(**item) for item in label["attributes"]]
            for item in values["attributes"]:
                self.validators[label["name"], item.name] = attribute_value_validator(item)
            if "sublabels" in label:
                values["sublabels"] = [
                    with_objects(item, SublabelRequest) for item in label["sublabels"]
                ]
            return label_class(**values)

        self.validators: dict[tuple[str, str], Callable[[str], bool]] = {}
        self.labels = {label["name"]: label for label in DESCRIPTION["labels"]}
        self.spec = DetectionFunctionSpec(
            labels=[with_objects(label, PatchedLabelRequest) for label in DESCRIPTION["labels"]]
        )

    def detect(self, context: Any, image: Any) -> list[Any]:
        body = {"image": encode_image(image)}
        if context.conf_threshold is not None:
            body["threshold"] = context.conf_threshold
        shapes = self.call(body)
        results = [self.annotations(shape, context.conv_mask_to_poly) for shape in shapes]
        return [annotation for group in results for annotation in group]

    def annotations(self, shape: dict[str, Any], polygons: bool) -> list[Any]:
        """Return the annotations for a shape: none, one, or the polygons of a mask."""
        import cvat_sdk.auto_annotation as sdk

        label = self.labels.get(shape["label"])
        if label is None:
            logger.warning("the label %r is not in the function's spec", shape["label"])
            return []
        kind, number = shape["type"], label["id"]
        values = {"attributes": self.attributes(shape, label)}
        if kind.lower() == "tag":
            return [sdk.tag(number, **values)]
        if kind == "skeleton":
            return [sdk.skeleton(number, self.elements(shape, label), **values)]
        for key, name in (("rotation", "rotation"), ("group_id", "group")):
            if shape.get(key):
                values[name] = shape[key]
        if kind != "mask":
            return [sdk.shape(number, type=kind, points=shape["points"], **values)]
        if not polygons:
            return [sdk.mask(number, mask_runs(shape["mask"]), **values)]
        outlines = [shape["points"]] if shape.get("points") else mask_outlines(shape["mask"])
        return [sdk.polygon(number, outline, **values) for outline in outlines]

    def attributes(self, shape: dict[str, Any], label: dict[str, Any]) -> list[Any]:
        """Return the valid attributes; CVAT drops the others, too."""
        from cvat_sdk.models import AttributeValRequest

        numbers = {item["name"]: item["id"] for item in label["attributes"]}
        return [
            AttributeValRequest(spec_id=numbers[item["name"]], value=item["value"])
            for item in shape.get("attributes") or ()
            if item["name"] in numbers
            and self.validators[label["name"], item["name"]](item["value"])
        ]

    def elements(self, shape: dict[str, Any], label: dict[str, Any]) -> list[Any]:
        """Return a point for each sublabel; a missing one is hidden, amid the others."""
        import cvat_sdk.auto_annotation as sdk

        points = {item["label"]: item for item in shape["elements"]}
        visible = [points[part["name"]] for part in label["sublabels"] if part["name"] in points]
        middle = [
            sum(item["points"][axis] for item in visible) / max(1, len(visible)) for axis in (0, 1)
        ]
        missing = {"points": middle, "outside": True}
        elements = []
        for part in label["sublabels"]:
            item = points.get(part["name"], missing)
            attributes = self.attributes(item, part)
            hidden = {"outside": True} if item.get("outside") else {}
            elements.append(
                sdk.keypoint(part["id"], item["points"], attributes=attributes, **hidden)
            )
        return elements


class Interactor(Function):
    """An interaction function."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        from cvat_sdk.auto_annotation import InteractionFunctionSpec

        keys = ("min_pos_points", "min_neg_points", "min_bounding_boxes")
        self.spec = InteractionFunctionSpec(**{key: DESCRIPTION[key] for key in keys})

    def detect(self, context: Any, pp_image: dict[str, Any], prompts: Any) -> list[Any]:  # noqa: ARG002
        from cvat_sdk.auto_annotation import InteractionResultShape
        from cvat_sdk.models import AttributeValRequest

        reply = self.call(
            {
                "image": pp_image["image"],
                "pos_points": [list(point) for point in prompts.pos_points],
                "neg_points": [list(point) for point in prompts.neg_points],
                "obj_bbox": [list(point) for point in prompts.bounding_box or ()],
            }
        )
        if "shapes" in reply:
            return [
                InteractionResultShape(
                    type=shape["type"],
                    points=shape["points"],
                    attributes=[
                        AttributeValRequest(spec_id=item["spec_id"], value=str(item["value"]))
                        for item in shape.get("attributes") or ()
                    ],
                )
                for shape in reply["shapes"]
            ]
        if "mask" not in reply:
            raise RuntimeError("the function returned neither `shapes` nor `mask`")
        pixels = crop_rows(reply["mask"])
        return [InteractionResultShape(type="mask", points=mask_runs(pixels))] if pixels else []


class Tracker(Function):
    """A tracking function. The function's own state is in the tracking state of cvat-sdk."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        from cvat_sdk.auto_annotation import TrackingFunctionSpec

        types_ = DESCRIPTION["supported_shape_types"]
        self.spec = TrackingFunctionSpec(supported_shape_types=types_)

    def init_tracking_state(self, context: Any, pp_image: dict[str, Any], shape: Any) -> Any:  # noqa: ARG002
        points = list(shape.points)
        sent = {"type": shape.type, "points": points} if DESCRIPTION["typed_shapes"] else points
        reply = self.call({"image": pp_image["image"], "shapes": [sent], "states": []})
        return {"state": reply["states"][0]}

    def track(self, context: Any, pp_image: dict[str, Any], state: dict[str, Any]) -> Any:
        from cvat_sdk.auto_annotation import TrackableShape

        body = {"image": pp_image["image"], "shapes": [None], "states": [state["state"]]}
        reply = self.call(body)
        state["state"] = reply["states"][0]
        shape = reply["shapes"][0]
        if shape is None:
            return None
        if isinstance(shape, list):
            shape = {"type": context.original_shape_type, "points": box_around(shape)}
        return TrackableShape(type=shape["type"], points=shape["points"])


FUNCTIONS: dict[str, type[Function]] = {
    "detector": Detector,
    "interactor": Interactor,
    "tracker": Tracker,
}


def encode_image(image: Any) -> str:
    """Return a PNG file of the image in base64, as CVAT sends images."""
    if image.mode not in ("L", "RGB", "RGBA", "P", "1"):
        image = image.convert("RGB")
    out = io.BytesIO()
    image.save(out, "PNG", compress_level=1)
    return base64.b64encode(out.getvalue()).decode("ascii")


def box_around(points: Sequence[float]) -> list[float]:
    """Return the box around corners, as CVAT shows the polygons of older trackers."""
    xs, ys = points[::2], points[1::2]
    return [min(xs), min(ys), max(xs), max(ys)]


def mask_runs(mask: Sequence[int]) -> list[int]:
    """Return run lengths, zeros first, for the pixels of a box; both end with the box."""
    *pixels, left, top, right, bottom = mask
    runs = [(value, len(list(group))) for value, group in groupby(map(bool, pixels))]
    zeros = [0] if runs and runs[0][0] else []
    return [*zeros, *(length for _, length in runs), left, top, right, bottom]


def crop_rows(rows: Sequence[Sequence[int]]) -> list[int]:
    """Return the pixels of the box around a mask and the box; empty without a pixel."""
    used = [y for y, row in enumerate(rows) if any(row)]
    if not used:
        return []
    columns = [x for x, column in enumerate(zip(*rows, strict=True)) if any(column)]
    left, top, right, bottom = columns[0], used[0], columns[-1], used[-1]
    pixels = [int(bool(v)) for row in rows[top : bottom + 1] for v in row[left : right + 1]]
    return [*pixels, left, top, right, bottom]


def mask_outlines(mask: Sequence[int]) -> list[list[int]]:
    """Return the outer outline of each connected area of a mask, along the edges of its pixels."""
    *pixels, left, top, right, _ = mask
    width = right - left + 1
    empty = [0] * (width + 2)
    rows = [[0, *pixels[i : i + width], 0] for i in range(0, len(pixels), width)]
    # The edges of set pixels, clockwise, by their start. An outline turns into a diagonal pixel.
    edges: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for y, (above, row) in enumerate(zip([empty, *rows], [*rows, empty], strict=True)):
        for x in range(width + 2):
            if row[x] and not above[x]:
                edges.setdefault((x, y), []).append((x + 1, y))
            elif above[x] and not row[x]:
                edges.setdefault((x + 1, y), []).append((x, y))
            if x and row[x] and not row[x - 1]:
                edges.setdefault((x, y + 1), []).append((x, y))
            elif x and row[x - 1] and not row[x]:
                edges.setdefault((x, y), []).append((x, y + 1))
    outlines = []
    while edges:
        outline, area = _closed_line(edges)
        # The lines around holes turn left.
        if area > 0:
            outlines.append(outline)
    return [
        [value for x, y in outline for value in (x - 1 + left, y + top)] for outline in outlines
    ]


def _closed_line(
    edges: dict[tuple[int, int], list[tuple[int, int]]],
) -> tuple[list[tuple[int, int]], int]:
    """Remove a closed line from the edges; return its corners and its area with sign, doubled."""
    start = place = next(iter(edges))
    line: list[tuple[int, int]] = []
    step, area = (0, 0), 0
    while True:
        following = edges[place]
        # Where two lines touch, keep to the right, which separates areas that touch by a corner.
        right = (place[0] - step[1], place[1] + step[0])
        target = following.pop(following.index(right) if right in following else 0)
        if not following:
            del edges[place]
        direction = (target[0] - place[0], target[1] - place[1])
        if direction != step:
            line.append(place)
        area += place[0] * target[1] - target[0] * place[1]
        place, step = target, direction
        if place == start:
            return line, area
