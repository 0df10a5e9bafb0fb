"""`fnbuild check`: a function in a folder, and at an address."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
import yaml
from PIL import Image

from tests.cli.conftest import Outcome

Run = Callable[..., Outcome]

CONFIG = """\
metadata:
  name: own
  annotations:
    type: detector
    spec: '[{"name": "car"}]'
spec:
  description: Finds cars
  handler: main:handler
  runtime: python:3.11
  triggers:
    http: {kind: http, attributes: {maxRequestBodySize: 33554432}}
"""
CODE = """\
import json

def handler(context, event):
    image = event.body["image"]
    car = {"label": "car", "type": "mask", "mask": [1, 0, 1, 5, 5, 6, 6]}
    return context.Response(body=json.dumps([car]), content_type="application/json")
"""
SKIPPED = [
    argument
    for name in ("coffee", "rocket", "palette", "CMYK", "16 bits", "8000x6000", "1x1")
    for argument in ("--skip", name)
]


@pytest.fixture
def folder(tmp_path: Path, empty: Path) -> Path:
    del empty
    path = tmp_path / "own"
    path.mkdir()
    (path / "function.yaml").write_text(CONFIG)
    (path / "main.py").write_text(CODE)
    return path


@pytest.mark.system
def test_a_function_that_misbehaves(fnbuild: Run, folder: Path) -> None:
    outcome = fnbuild("check", folder, "-o", "json", *SKIPPED)
    assert outcome.status == 1, outcome.err
    result = json.loads(outcome.out)
    rules = {finding["rule"]: finding for finding in result["findings"]}
    assert rules["mask-size"]["path"] == "[0].mask"
    assert rules["mask-size"]["value"] == "[1, 0, 1, 5, 5, 6, 6]"
    assert "no key image" in rules["bad-request-status"]["requests"]
    assert "KeyError" in rules["bad-request-status"]["message"]
    assert "a broken picture" in rules["bad-request-accepted"]["requests"]
    assert "own: " in outcome.err


TRACKER = """\
import json

boxes = {}

def handler(context, event):
    states = event.body["states"] or [len(boxes) + i for i in range(len(event.body["shapes"]))]
    if not event.body["states"]:
        boxes.update(zip(states, event.body["shapes"]))
    shapes = [boxes.get(state, [0, 0, 3, 3]) for state in states]
    reply = json.dumps({"states": states, "shapes": shapes})
    return context.Response(body=reply, content_type="application/json")
"""


@pytest.mark.system
def test_a_tracker_with_states_in_its_memory(fnbuild: Run, folder: Path) -> None:
    (folder / "function.yaml").write_text(CONFIG.replace("detector", "tracker"))
    (folder / "main.py").write_text(TRACKER)
    outcome = fnbuild("check", folder, "-o", "json", *SKIPPED)
    rules = {finding["rule"]: finding for finding in json.loads(outcome.out)["findings"]}
    assert "another worker continues differently" in rules["state-worker"]["message"], rules
    assert outcome.status == 1


def test_errors_of_the_configuration_are_findings(fnbuild: Run, folder: Path) -> None:
    text = CONFIG.replace("]'", ",]'").replace("detector", "detektor")
    (folder / "function.yaml").write_text(text)
    outcome = fnbuild("check", folder, "-o", "table")
    assert outcome.status == 1
    assert "cvat-type" in outcome.out
    assert "cvat-json" in outcome.out
    assert "was not started" in outcome.err


def test_safe_errors_are_repaired(fnbuild: Run, folder: Path) -> None:
    broken = CONFIG.replace("]'", ",]'")
    (folder / "function.yaml").write_text(broken.replace("handler: main:handler", "handler: 3"))
    outcome = fnbuild("check", folder, "--fix", "-o", "sarif")
    assert "fixed " in outcome.err
    assert '"car"}]' in (folder / "function.yaml").read_text()
    assert "cvat-json" not in outcome.out
    assert json.loads(outcome.out)["version"] == "2.1.0"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["own", "--skip", "photos"], "there is no such picture"),
        (["http://127.0.0.1:9/", "--fix"], "--fix repairs a function.yaml"),
        (["http://127.0.0.1:9/", "--recorded"], "the name of a deployed function"),
        (["http://127.0.0.1:9/", "--kind", "reid", "-t", "-5s"], "must be above zero"),
        (["http://127.0.0.1:9/", "--kind", "reid", "--picture", __file__], "is not an image"),
        (["http://127.0.0.1:9/"], "has no annotation `type`"),
        (["https:///x"], "URL 'https:///x' is not the address"),
        (["./nothing"], "does not exist"),
        (["nothing"], "nothing"),
    ],
)
def test_invalid_arguments(fnbuild: Run, empty: Path, arguments: list[str], message: str) -> None:
    del empty
    outcome = fnbuild("check", *arguments)
    assert outcome.status in (1, 2)
    assert message in outcome.out + outcome.err
    assert "Traceback" not in outcome.err


class _Server(BaseHTTPRequestHandler):
    """Replies with a box for each body that is an object with an image."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            image = json.loads(body)["image"]
            assert image[:4] in ("/9j/", "iVBO")
            assert len(image) > 300 or image.startswith("iVBO")
            status, reply = 200, '[{"label": "car", "type": "rectangle", "points": ["1", 2, 3, 4]}]'
        except (ValueError, KeyError, TypeError, AssertionError):
            status, reply = 400, '{"error": "there is no picture"}'
        self.send_response(status)
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _Server) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_a_function_at_an_address(fnbuild: Run, empty: Path, tmp_path: Path, address: str) -> None:
    del empty
    own = tmp_path / "own.png"
    Image.new("RGB", (20, 10)).save(own)
    outcome = fnbuild(
        "check", address, "--kind", "detector", "--picture", own, "-o", "yaml", *SKIPPED
    )
    result = yaml.safe_load(outcome.out)
    assert outcome.status == 1
    (finding,) = result["findings"]
    assert (finding["rule"], finding["path"]) == ("points-string", "[0].points")
    assert str(own) in finding["requests"]


def test_an_address_without_a_server(fnbuild: Run, empty: Path) -> None:
    del empty
    outcome = fnbuild("check", "http://127.0.0.1:9/", "--kind", "detector", "-o", "json")
    (finding,) = json.loads(outcome.out)["findings"]
    assert (outcome.status, finding["rule"]) == (1, "no-answer")
