"""The functions of the library, all deployed by one command, and checks of their replies.

A new folder of `functions/` needs nothing here: it is deployed and gets a request of its kind. If
it has no weights of its own, `write(folder)` of tests/functions/weights/NAME.py (`_` for `-`)
writes small ones; a function can have a check of its own in CHECKS.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from fnbuild.cvat.replies import ParsedReply, read_reply
from fnbuild.cvat.request import build_request, read_image
from fnbuild.function import labels
from fnbuild.function.reader import load_function
from fnbuild.runtime.http.client import request
from tests.environments import environment_python
from tests.functions.test_opencv import ASTRONAUT, BUS_LEFT, likeness
from tests.functions.test_shapes import file_of, hits, picture

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = sorted(path.parent for path in (ROOT / "functions").rglob("function.yaml"))
# The others serve models over the inference protocols only.
FOR_CVAT = [folder for folder in FOLDERS if "type:" in (folder / "function.yaml").read_text()]

Photo = Callable[[str], Path]
Invoke = Callable[..., ParsedReply]
_WEIGHTS = "weights"


@dataclass
class Deployed:
    """The results of a deploy: the URL of each function, or the reason why it has none."""

    urls: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    output: str = ""

    def url(self, name: str) -> str:
        if name not in self.urls:
            pytest.fail(f"{name}: {self.reasons.get(name)}\n{self.output}")
        return self.urls[name]


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks, as their authors do."""


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style="|" if "\n" in text else None
    ),
)


def copy_library(top: Path, code_folder: str = "", **build: Callable[[str], Any]) -> Path:
    """Copy the functions for CVAT, with weights for those that have none.

    `code_folder` is where the platform has the code, or empty if it reads the weights from the
    copy. `build` returns values of `spec.build` for the name of a function.
    """
    for folder in FOR_CVAT:
        copy = top / folder.relative_to(ROOT)
        shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("__pycache__", "train.py"))
        config = yaml.safe_load((copy / "function.yaml").read_text())
        for key, value_for in build.items():
            config["spec"]["build"][key] = value_for(folder.name)
        variables = write_weights(folder.name, copy / _WEIGHTS)
        if variables is not None:
            uri = f"file://{code_folder or copy}/{_WEIGHTS}"
            environment = {item["name"]: item for item in config["spec"].get("env", ())}
            for name, value in {"STORAGE_URI": uri, **variables}.items():
                environment[name] = {"name": name, "value": value}
            config["spec"]["env"] = list(environment.values())
        (copy / "function.yaml").write_text(yaml.dump(config, Dumper=_Dumper, sort_keys=False))
    return top / "functions"


def write_weights(name: str, folder: Path) -> dict[str, str] | None:
    """Write small weights of a function that has none, and return variables for it."""
    if not needs_weights(name):
        return None
    folder.mkdir()
    with importable_packages():
        module = importlib.import_module(_weights_module(name))
        return module.write(folder) or {}


def needs_weights(name: str) -> bool:
    """Return True if a function has no weights of its own."""
    return importlib.util.find_spec(_weights_module(name)) is not None


def _weights_module(name: str) -> str:
    return f"tests.functions.{_WEIGHTS}.{name.replace('-', '_')}"


def packages() -> Path:
    """Return a folder with packages that functions need and the tests' environment lacks."""
    python = environment_python("3.11", "transformers==5.23.0", "onnxruntime==1.23.2")
    (folder,) = python.parent.parent.glob("lib/python3.11/site-packages")
    return folder


@contextmanager
def importable_packages() -> Iterator[None]:
    """Let this process import those packages."""
    with pytest.MonkeyPatch.context() as patch:
        # At the end: what both have comes from the tests' environment.
        patch.setattr(sys, "path", [*sys.path, str(packages())])
        yield


def read_results(output: str, errors: str) -> Deployed:
    """Return the results of `fnbuild deploy --recursive -o json`."""
    deployed = Deployed(output=errors)
    for row in json.loads(output):
        deployed.reasons[row["name"]] = row["reason"]
        if row["state"] == "ready":
            deployed.urls[row["name"]] = row["url"]
    return deployed


def check(folder: Path, url: str, photo: Photo) -> None:
    """Check the replies of the function at `url` to pictures and to an invalid request."""
    function = load_function(folder).function
    kind = labels.function_kind(function)
    assert kind
    options = {"shape_types": labels.tracked_shape_types(function)} if kind == "tracker" else {}

    def invoke(image: Any, **arguments: Any) -> ParsedReply:
        image_request = build_request(kind, image, **options, **arguments)
        headers = {"Content-Type": image_request.content_type}
        answer = request("POST", url, "/", image_request.body, headers)
        assert answer.status == 200, answer.body
        reply = read_reply(
            kind,
            answer.body,
            labels.function_labels(function),
            image_request.image.size,
            image_request,
        )
        assert [str(problem) for problem in reply.diagnostics] == []
        return reply

    CHECKS.get(folder.name, _KINDS[kind])(photo, invoke)
    invalid = request("POST", url, "/", b"raw", {"Content-Type": "text/plain"})
    assert invalid.status == 400
    assert json.loads(invalid.body)["error"]


def _detects(photo: Photo, invoke: Invoke) -> None:
    invoke(read_image(photo("astronaut.png")), threshold=0.01)


def _cuts_out(photo: Photo, invoke: Invoke) -> None:
    image = read_image(photo("coffee.png"))
    assert len(invoke(image, pos_points=[(300, 200)]).shapes) <= 1


def _follows(photo: Photo, invoke: Invoke) -> None:
    image = cv2.imread(str(photo("astronaut.png")))[:, :, ::-1]
    states = invoke(file_of(image), boxes=[ASTRONAUT]).states
    (box,) = invoke(file_of(_moved(image)), states=states).shapes
    assert box.points


def _matches(photo: Photo, invoke: Invoke) -> None:
    image = file_of(cv2.imread(str(photo("bus.jpg")))[:, :, ::-1])
    boxes = [BUS_LEFT, (670, 380, 810, 880)]
    matches = invoke(image, image1=image, boxes=boxes, boxes1=boxes[::-1], max_distance=2000)
    assert matches.matches == (1, 0)


_KINDS = {"detector": _detects, "interactor": _cuts_out, "tracker": _follows, "reid": _matches}


def _moved(image: Any) -> Any:
    return cv2.warpAffine(image, np.array([[1.0, 0, 9], [0, 1, 4]]), image.shape[1::-1])


def _face(photo: Photo, invoke: Invoke) -> None:
    (face,) = invoke(read_image(photo("astronaut.png"))).shapes
    assert likeness(face.points, ASTRONAUT) > 0.7


def _people(photo: Photo, invoke: Invoke) -> None:
    shapes = invoke(read_image(photo("bus.jpg"))).shapes
    assert max(likeness(each.points, BUS_LEFT) for each in shapes) > 0.6


def _shapes(_: Photo, invoke: Invoke) -> None:
    random = np.random.default_rng(2028)
    correct = total = 0
    for _ in range(12):
        image, shapes = picture(random, 320, 240)
        correct += hits(invoke(file_of(image)).shapes, shapes)
        total += len(shapes)
    assert correct / total > 0.8


def _classes(photo: Photo, invoke: Invoke) -> None:
    # One of three labels has a probability of at least a third, whatever the weights are.
    tags = invoke(read_image(photo("astronaut.png")), threshold=0.3).shapes
    assert {tag.label for tag in tags} <= {"plastic_bag", "lemon", "acorn"}
    assert tags


def _cup(photo: Photo, invoke: Invoke) -> None:
    (shape,) = invoke(read_image(photo("coffee.png")), boxes=[(130, 40, 470, 350)]).shapes
    assert shape.mask is not None
    assert shape.mask.area > 30_000


def _face_in_motion(photo: Photo, invoke: Invoke) -> None:
    first = cv2.imread(str(photo("astronaut.png")))[:, :, ::-1]
    left, top, right, bottom = ASTRONAUT
    states = invoke(file_of(first), boxes=[ASTRONAUT]).states
    (box,) = invoke(file_of(_moved(first)), states=states).shapes
    assert likeness(box.points, (left + 9, top + 4, right + 9, bottom + 4)) > 0.8


CHECKS = {
    "face-haar": _face,
    "people-hog": _people,
    "grabcut": _cup,
    "optical-flow": _face_in_motion,
    "siamese": _face_in_motion,
    "shapes": _shapes,
    "mobilenet": _classes,
}
