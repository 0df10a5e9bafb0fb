"""A client that behaves like CVAT 2.64: its requests, and its interpretation of the replies.

It is based on CVAT's server and page, not on fnbuild's code. Like CVAT it opens a new connection
without credentials for each call; a failure is a `CvatError` with CVAT's status.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import requests

Json = Any
KINDS = ("detector", "interactor", "reid", "tracker")
_COUNTS: dict[str, Callable[[int], bool]] = {
    "rectangle": lambda n: n == 4,
    "ellipse": lambda n: n == 4,
    "polygon": lambda n: n >= 6 and n % 2 == 0,
    "polyline": lambda n: n >= 4 and n % 2 == 0,
    "points": lambda n: n >= 2 and n % 2 == 0,
    "cuboid": lambda n: n == 16,
    "mask": lambda n: n >= 5,
}
_STATE_SECONDS = 8 * 3600
_SAVED_EVERY = 100


class CvatError(Exception):
    """An error that CVAT shows to the user: an HTTP status and a text."""

    def __init__(self, status: int, text: str):
        super().__init__(f"{status}: {text}")
        self.status = status
        self.text = text


class InvalidMetadataError(Exception):
    """Metadata for which CVAT skips a function; other errors break the whole list."""


def _labels(value: Json) -> Json:
    """Return the labels of a model with attributes, as CVAT reads them from the annotation."""
    labels = []
    for item in value:
        label = {"name": item["name"], "type": item.get("type", "any"), "attributes": []}
        for attribute in item.get("attributes", []):
            label["attributes"].append(
                {key: attribute[key] for key in ("name", "input_type", "values")}
            )
        if len({attribute["name"] for attribute in label["attributes"]}) != len(
            label["attributes"]
        ):
            raise InvalidMetadataError(f"attributes of {item['name']} are not unique")
        if label["type"] == "skeleton":
            label["sublabels"], label["svg"] = _labels(item["sublabels"]), item["svg"]
        labels.append(label)
    if len({label["name"] for label in labels}) != len(labels):
        raise InvalidMetadataError("labels are not unique")
    return labels


class Function:
    """A model in CVAT's list, read from Nuclio's object with the same errors as in CVAT."""

    def __init__(self, data: Json):
        self.id: str = data["metadata"]["name"]
        annotations = data["metadata"]["annotations"]
        self.kind = annotations.get("type")
        if self.kind not in KINDS:
            raise InvalidMetadataError(f"{self.id} is of the kind {self.kind}")
        self.labels = _labels(json.loads(annotations.get("spec") or "[]"))
        self.port = data["status"].get("httpPort")
        self.description: str = data["spec"]["description"]
        self.name: str = annotations.get("name", self.id)
        self.version = int(annotations.get("version", 1))
        self.min_pos_points = int(annotations.get("min_pos_points", 1))
        self.min_neg_points = int(annotations.get("min_neg_points", -1))
        self.startswith_box = bool(annotations.get("startswith_box", False))
        self.startswith_box_optional = bool(annotations.get("startswith_box_optional", False))
        shapes = annotations.get("supported_shape_types")
        self.declares_shapes = self.kind == "tracker" and shapes is not None
        self.shape_types = ["rectangle"]
        if self.declares_shapes:
            self.shape_types = [part.strip() for part in shapes.split(",") if part.strip()]
            if not self.shape_types:
                raise InvalidMetadataError("no shape types")


@dataclass
class Task:
    """Encoded frames, and a mapping of labels to the task's; by default the model's labels."""

    frames: Sequence[bytes]
    labels: dict[str, str] | None = None


@dataclass
class Job:
    """A batch job: its saved shapes, and the error that ended it early."""

    state: Literal["finished", "failed"] = "finished"
    error: str = ""
    saved: dict[int, list[Json]] = field(default_factory=dict)


@dataclass
class Cvat:
    """CVAT's lambda manager. `direct_host` is the host of the ports of functions."""

    url: str
    invoke_method: Literal["dashboard", "direct"] = "dashboard"
    namespace: str = "nuclio"
    direct_host: str = "localhost"
    timeout: float = 120.0
    clock: Callable[[], float] = time.time
    _key: bytes = b"CVAT's secret key"

    # The gateway to Nuclio

    def _http(
        self, method: str, url: str, *, headers: dict[str, str] | None = None, body: Json = None
    ) -> Json:
        try:
            with requests.Session() as session:
                session.headers["User-Agent"] = f"CVAT/2.64.1 {requests.utils.default_user_agent()}"
                session.trust_env = False
                reply = session.request(
                    method, url, headers=headers, json=body, timeout=self.timeout
                )
                reply.raise_for_status()
                return reply.json()
        except requests.exceptions.HTTPError as error:
            reason = f"{error}: {error.response.text}"
            raise CvatError(error.response.status_code, reason) from None
        except requests.exceptions.JSONDecodeError as error:
            raise CvatError(500, f"the reply is not JSON: {error}") from None
        except requests.exceptions.ReadTimeout as error:
            raise CvatError(504, str(error)) from None
        except requests.exceptions.ConnectionError as error:
            raise CvatError(503, str(error)) from None

    def _nuclio(
        self,
        method: str,
        path: str,
        *,
        headers: dict[str, str] | None = None,
        body: Json = None,
    ) -> Json:
        default_headers = {
            "x-nuclio-project-name": "cvat",
            "x-nuclio-function-namespace": self.namespace,
            "x-nuclio-invoke-via": "domain-name",
            "X-Nuclio-Invoke-Timeout": f"{self.timeout:g}s",
        }
        return self._http(
            method, self.url + path, headers=default_headers | (headers or {}), body=body
        )

    def _invoke(self, function: Function, payload: Json) -> Json:
        if self.invoke_method == "dashboard":
            headers = {"x-nuclio-function-name": function.id, "x-nuclio-path": "/"}
            path = "/api/function_invocations"
            return self._nuclio("POST", path, headers=headers, body=payload)
        return self._http("POST", f"http://{self.direct_host}:{function.port}", body=payload)

    # Models

    def functions(self) -> dict[str, Function]:
        """Return the functions of the models page; an unreadable function is an error 500."""
        functions = {}
        for item in self._nuclio("GET", "/api/functions").values():
            try:
                function = Function(item)
            except InvalidMetadataError:
                continue
            except Exception as error:
                raise CvatError(500, f"{type(error).__name__}: {error}") from error
            functions[function.id] = function
        return functions

    def get(self, name: str) -> Function:
        data = self._nuclio("GET", f"/api/functions/{name}")
        try:
            return Function(data)
        except Exception as error:
            raise CvatError(500, f"{type(error).__name__}: {error}") from error

    # Interactive calls: POST /api/lambda/functions/{id}

    def detect(self, name: str, task: Task, frame: int, threshold: float = 0) -> list[Json]:
        """Return the shapes for the page, with the labels of the task."""
        function = self.get(name)
        payload: Json = {"image": _image(task, frame)}
        if threshold:
            payload["threshold"] = threshold
        return self._detections(function, task, self._invoke(function, payload))

    def interact(
        self,
        name: str,
        task: Task,
        frame: int,
        positive: list[list[float]],
        *,
        negative: list[list[float]] | None = None,
        box: list[list[float]] | None = None,
    ) -> list[Json]:
        """Return the masks for the page; each is an RLE with its box, as CVAT stores masks."""
        function = self.get(name)
        reply = self._invoke(
            function,
            {
                "image": _image(task, frame),
                "pos_points": positive,
                "neg_points": negative or [],
                "obj_bbox": box or [],
            },
        )
        return _interactor_shapes(reply)

    def reidentify(
        self, name: str, task: Task, frames: tuple[int, int], boxes: tuple[Json, Json]
    ) -> list[int]:
        function = self.get(name)
        reply = self._invoke(
            function,
            {
                "image0": _image(task, frames[0]),
                "image1": _image(task, frames[1]),
                "boxes0": boxes[0],
                "boxes1": boxes[1],
            },
        )
        if len(reply) != len(boxes[0]) or not all(-1 <= index < len(boxes[1]) for index in reply):
            raise CvatError(500, f"no pairs: {reply}")
        return list(reply)

    def init_tracking(self, name: str, task: Task, frame: int, shapes: Json) -> list[str]:
        """Return a signed state for each shape.

        Shapes are flat lists unless the model declares its types.
        """
        return self._track(self.get(name), task, frame, shapes, [])[0]

    def track(self, name: str, task: Task, frame: int, states: list[str]) -> tuple[list[str], Json]:
        """Return new signed states, and a shape for each state. States may be used repeatedly."""
        function = self.get(name)
        opened = [self._unsigned(function, state) for state in states]
        return self._track(function, task, frame, [None] * len(states), opened)

    def _track(
        self, function: Function, task: Task, frame: int, shapes: Json, states: Json
    ) -> tuple[list[str], Json]:
        image = _image(task, frame)
        reply = self._invoke(function, {"image": image, "shapes": shapes, "states": states})
        try:
            signed = [self._signed(function, state) for state in reply["states"]]
        except (KeyError, TypeError) as error:
            raise CvatError(500, f"{type(error).__name__}: {error}") from None
        tracked = reply.get("shapes")
        if not function.declares_shapes:
            tracked = [{"type": "rectangle", "points": points} for points in tracked or []]
        return signed, tracked

    def _signature(self, function: Function, text: str) -> str:
        salt = f"cvat-tracker-state:{function.id}".encode()
        key = hashlib.sha256(salt + self._key).digest()
        return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()

    def _signed(self, function: Function, state: Json) -> str:
        text = f"{json.dumps(state, separators=(',', ':'))}:{self.clock():.0f}"
        return f"{text}:{self._signature(function, text)}"

    def _unsigned(self, function: Function, signed: str) -> Json:
        text, _, signature = signed.rpartition(":")
        state, _, moment = text.rpartition(":")
        genuine = hmac.compare_digest(signature, self._signature(function, text))
        if not genuine or self.clock() - float(moment) > _STATE_SECONDS:
            raise CvatError(400, "Invalid or expired tracker state")
        return json.loads(state)

    # Batches: POST /api/lambda/requests

    def annotate(self, name: str, task: Task, threshold: float = 0) -> Job:
        """Annotate all frames in order. A failure ends the job; complete hundreds stay saved."""
        function, job, pending = self.get(name), Job(), {}
        for frame in range(len(task.frames)):
            payload: Json = {"image": _image(task, frame)}
            if threshold:
                payload["threshold"] = threshold
            try:
                reply = self._invoke(function, payload)
                pending[frame] = self._detections(function, task, reply)
            except CvatError as error:
                job.state, job.error = "failed", str(error)
                return job
            if len(pending) == _SAVED_EVERY:
                job.saved |= pending
                pending = {}
        job.saved |= pending
        return job

    def _detections(self, function: Function, task: Task, reply: Json) -> list[Json]:
        labels = {label["name"]: label for label in function.labels}
        mapping = task.labels or {name: name for name in labels}
        try:
            detections = [
                _detection(item, labels[item["label"]], mapping[item["label"]])
                for item in reply
                if item["label"] in mapping
            ]
        except CvatError:
            raise
        except Exception as error:
            raise CvatError(500, f"{type(error).__name__}: {error}") from error
        return [detection for detection in detections if detection is not None]


def _image(task: Task, frame: int) -> str:
    return base64.b64encode(task.frames[frame]).decode()


def _detection(item: Json, label: Json, task_label: str) -> Json:
    """Return the shape that CVAT saves for a detection; None for an invisible skeleton."""
    shape: Json = {
        "label": task_label,
        "type": item["type"].lower() if item["type"].lower() == "tag" else item["type"],
        "attributes": _attributes(item.get("attributes", []), label),
        "group": item.get("group_id"),
        "source": "auto",
    }
    if shape["type"] == "tag":
        return shape
    if shape["type"] == "skeleton":
        shape["elements"] = _elements(item["elements"], label["sublabels"])
        return shape if any(not element["outside"] for element in shape["elements"]) else None
    points = item["points"] if shape["type"] != "mask" else to_rle(item["mask"])
    if not all(isinstance(point, int | float) for point in points):
        raise CvatError(400, "Value must be a float or an integer")
    if shape["type"] not in _COUNTS or not _COUNTS[shape["type"]](len(points)):
        raise CvatError(400, f"a {shape['type']} of {len(points)} numbers")
    shape["rotation"] = item.get("rotation", 0)
    if not 0 <= shape["rotation"] <= 360:
        raise CvatError(400, f"rotation {shape['rotation']}")
    return shape | {"points": points}


def _attributes(attributes: Json, label: Json) -> list[Json]:
    declared = {item["name"]: item for item in label["attributes"]}
    return [
        {"name": item["name"], "value": item["value"]}
        for item in attributes
        if item["name"] in declared and _fits(item["value"], declared[item["name"]])
    ]


def _fits(value: str, attribute: Json) -> bool:
    kind, values = attribute["input_type"], attribute["values"]
    if kind == "number":
        minimum, maximum, step = (int(text) for text in values)
        return (
            value.isdigit()
            and minimum <= int(value) <= maximum
            and (int(value) - minimum) % step == 0
        )
    if kind == "checkbox":
        return value in ("true", "false")
    return kind == "text" or value in "\n".join(values)


def _elements(elements: Json, sublabels: Json) -> list[Json]:
    names = {sublabel["name"] for sublabel in sublabels}
    by_label = {element["label"]: element for element in elements if element["label"] in names}
    visible = [element["points"] for element in by_label.values()]
    centre = [sum(axis) / len(visible) for axis in zip(*visible, strict=True)]
    return [
        {
            "label": name,
            "points": by_label.get(name, {}).get("points", centre),
            "outside": bool(by_label.get(name, {"outside": 1}).get("outside", 0)),
        }
        for name in sorted(names)
    ]


def to_rle(mask: Json) -> list[int]:
    """Return CVAT's run lengths of a flat mask, starting with zeros, and its box."""
    pixels, box = mask[:-4], [int(number) for number in mask[-4:]]
    if not pixels:
        raise IndexError("an empty mask")
    runs, last, length = [], False, 0
    for pixel in pixels:
        if bool(pixel) != last:
            runs.append(length)
            last, length = bool(pixel), 0
        length += 1
    return [*runs, length, *box]


def _interactor_shapes(reply: Json) -> list[Json]:
    """Return the masks that CVAT's page reads from an interactor's reply."""
    if "shapes" in reply:
        return [shape["points"] for shape in reply["shapes"] if shape["type"] == "mask"]
    try:
        height, width = len(reply["mask"]), len(reply["mask"][0])
    except (KeyError, TypeError, IndexError):
        raise CvatError(0, "Cannot read properties of undefined (reading 'length')") from None
    flat = [pixel for row in reply["mask"] for pixel in row]
    return [to_rle([*flat, 0, 0, width - 1, height - 1])]
