"""Functions that misbehave: each mistake is found by its rule."""

import base64
import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image

from fnbuild.cvat.check.examination import CheckResult, examine
from fnbuild.cvat.check.pictures import LARGE, picture_names
from fnbuild.cvat.check.probe import Subject, TargetReply
from fnbuild.errors import UnavailableError
from fnbuild.function.types import Function, Metadata

SPEC = '[{"name": "thing"}]'
SENT = ("photo", "PNG", "opaque alpha", "grey", "37x211")
SKIPPED = [name for name in picture_names() if name not in SENT]


class BadRequestError(Exception):
    pass


def picture(body: Any, key: str = "image") -> Image.Image:
    try:
        image = Image.open(io.BytesIO(base64.b64decode(body[key])))
        image.load()
    except Exception as error:
        raise BadRequestError(f"no picture: {error}") from error
    return image


def rectangle(image: Image.Image, **more: Any) -> dict[str, Any]:
    return {"label": "thing", "type": "rectangle", "points": [0, 0, *image.size], **more}


class Handler:
    """A target in this process. A new worker gets a new memory."""

    def __init__(self, handle: Callable[[Any, dict[str, Any]], Any]) -> None:
        self.handle = handle
        self.memory: dict[str, Any] = {}

    def send(self, body: bytes) -> TargetReply:
        try:
            fields = json.loads(body)
            if not isinstance(fields, dict):
                raise BadRequestError("the body must be an object")
            reply = self.handle(fields, self.memory)
        except (BadRequestError, json.JSONDecodeError) as error:
            return TargetReply(400, json.dumps({"error": str(error)}).encode())
        except (KeyError, TypeError) as error:
            return TargetReply(500, f"Traceback\n  File\n{error!r}".encode())
        if isinstance(reply, TargetReply):
            return reply
        return TargetReply(200, json.dumps(reply).encode())

    def restart_workers(self) -> bool:
        self.memory = {}
        return True


def check(handle: Callable[[Any, dict[str, Any]], Any], kind: str = "detector") -> CheckResult:
    metadata = Metadata(name="own", annotations={"type": kind, "spec": SPEC})
    subject = Subject(Function(metadata=metadata), kind)
    return examine(subject, Handler(handle), lambda _: None, skipped=SKIPPED)


def rules(result: CheckResult) -> dict[str, str]:
    return {finding.rule: finding.path for finding in result.findings}


def detect(body: Any, _: Any) -> Any:
    threshold = body.get("threshold", 0)
    if isinstance(threshold, str):
        raise BadRequestError("threshold must be a number")
    return [rectangle(picture(body), confidence="0.5")] if threshold <= 0.5 else []


def interact(body: Any, _: Any) -> Any:
    width, height = picture(body).size
    if not isinstance(body.get("pos_points"), list):
        raise BadRequestError("pos_points is missing")
    return {"mask": [[1] * width for _ in range(height)]}


def track(body: Any, _: Any) -> Any:
    image = picture(body)
    shapes = body.get("shapes")
    if not isinstance(shapes, list):
        raise BadRequestError("shapes is missing")
    states = body.get("states") or [{"box": box} for box in shapes]
    return {"shapes": [state["box"] for state in states], "states": states} if image else {}


def match(body: Any, _: Any) -> Any:
    picture(body, "image0")
    picture(body, "image1")
    if "boxes0" not in body or "boxes1" not in body:
        raise BadRequestError("boxes are missing")
    return [i if i < len(body["boxes1"]) else -1 for i in range(len(body["boxes0"]))]


@pytest.mark.parametrize(
    ("kind", "handle"),
    [("detector", detect), ("interactor", interact), ("tracker", track), ("reid", match)],
)
def test_a_good_function_has_no_finding(kind: str, handle: Any) -> None:
    result = check(handle, kind)
    assert [(f.rule, f.message) for f in result.findings] == []
    names = [case.name for case in result.cases]
    assert {"photo", "37x211", "the same again", "a broken picture", "the first again"} <= {*names}
    assert LARGE not in names


def test_a_tracker_gets_each_of_its_shapes() -> None:
    annotations = {"type": "tracker", "supported_shape_types": "rectangle, mask, skeleton, points"}
    subject = Subject(Function(metadata=Metadata(name="own", annotations=annotations)), "tracker")
    result = examine(subject, Handler(track), lambda _: None, skipped=SKIPPED)
    assert [(f.rule, f.message) for f in result.findings] == []
    names = {case.name for case in result.cases}
    assert {"a shape: mask", "a shape: points"} <= names
    assert "a shape: skeleton" not in names


def crash_on_grey(body: Any, _: Any) -> Any:
    return (
        []
        if picture(body).mode == "RGB"
        else TargetReply(500, b"Traceback\nValueError: 3 channels")
    )


def crash_without_picture(body: Any, _: Any) -> Any:
    if "image" not in body:
        raise KeyError("image")
    return [rectangle(picture(body))]


def accept_anything(_body: Any, _: Any) -> Any:
    return []


def refuse_silently(body: Any, _: Any) -> Any:
    try:
        return [rectangle(picture(body))]
    except BadRequestError:
        return TargetReply(400, b"")


def ignore_threshold(body: Any, _: Any) -> Any:
    return [rectangle(picture(body), confidence="0.5")]


def alternate(body: Any, memory: Any) -> Any:
    memory["calls"] = memory.get("calls", 0) + 1
    return [rectangle(picture(body), confidence="0.9" if memory["calls"] % 2 else "0.2")]


def remember_errors(body: Any, memory: Any) -> Any:
    try:
        image = picture(body)
    except BadRequestError:
        memory["failed"] = True
        raise
    return (
        [rectangle(image, confidence="0.1" if memory else "0.9")] if "threshold" not in body else []
    )


def dislike_alpha(body: Any, _: Any) -> Any:
    image = picture(body)
    return [rectangle(image)] if image.mode == "RGB" else []


def hang(_body: Any, _: Any) -> Any:
    raise TimeoutError("no answer within 120 s")


def vanish(_body: Any, _: Any) -> Any:
    raise UnavailableError("the connection was closed")


def track_in_memory(body: Any, memory: Any) -> Any:
    if not body.get("states"):
        memory["boxes"] = body.get("shapes")
        return {"states": [1] * len(track(body, None)["states"])}
    picture(body)
    return {"shapes": [memory.get("boxes", [[0, 0, 9, 9]])[0]], "states": [1]}


def track_with(state: Any) -> Any:
    def handle(body: Any, _: Any) -> Any:
        reply = track({**body, "states": []}, None)
        boxes = [[1, 1, 9, 9] if box is None else box for box in reply["shapes"]]
        return {"shapes": boxes, "states": [state] * len(boxes)}

    return handle


BEHAVIOURS = [
    ("status", "", crash_on_grey, "detector"),
    ("bad-request-status", "", crash_without_picture, "detector"),
    ("bad-request-accepted", "", accept_anything, "detector"),
    ("bad-request-message", "", refuse_silently, "detector"),
    ("threshold", "[0].confidence", ignore_threshold, "detector"),
    ("repeatable", "[0].confidence", alternate, "detector"),
    ("independent", "[0].confidence", remember_errors, "detector"),
    ("picture-mode", "", dislike_alpha, "detector"),
    ("slow", "", hang, "detector"),
    ("no-answer", "", vanish, "detector"),
    ("state-worker", "states", track_in_memory, "tracker"),
    ("state-json", "states[0]", track_with(float("nan")), "tracker"),
    ("state-size", "states[0]", track_with("x" * (5 << 20)), "tracker"),
]


@pytest.mark.parametrize(
    ("rule", "path", "handle", "kind"), BEHAVIOURS, ids=[b[0] for b in BEHAVIOURS]
)
def test_a_misbehaving_function_is_found(rule: str, path: str, handle: Any, kind: str) -> None:
    result = check(handle, kind)
    assert rules(result).get(rule) == path, rules(result)


def test_a_function_that_does_not_answer_gets_few_requests() -> None:
    assert len(check(vanish).cases) == 3


def test_a_reply_that_is_not_json_is_a_finding() -> None:
    def greet(body: Any, _: Any) -> Any:
        picture(body)
        return TargetReply(200, b"<html>hello \xff</html>")

    (finding,) = [item for item in check(greet).findings if item.rule == "reply-json"]
    assert finding.value.startswith('"<html>hello')
