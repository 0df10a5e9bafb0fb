"""On every interpreter without any library, requests are parsed and shapes are built."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.runtime import interpreters

ROOT = Path(__file__).parents[2]

# Runs without site-packages, in the syntax of Python 3.6.
SCRIPT = r"""
import base64, json, struct, sys, types
sys.path.insert(0, sys.argv[1])
from fnbuild import vision

head = struct.pack(">I4sIIBBBBB", 13, b"IHDR", 3, 2, 8, 2, 0, 0, 0)
data = b"\x89PNG\r\n\x1a\n" + head + bytes(range(256)) * 20
text = base64.b64encode(data).decode()
raw = json.dumps({"threshold": 0.25, "image": text, "pos_points": [[1, 2]]}).encode()

class Event:
    raw_body = raw

    @property
    def body(self):
        raise AssertionError("the whole body was parsed")

event = Event()
assert vision.image_file(event) == data
assert vision.fields(event) == {"threshold": 0.25, "pos_points": [[1, 2]]}
for body in (json.loads(raw.decode()), raw.replace(b"/", b"\\/"), data):
    assert vision.image_file(types.SimpleNamespace(body=body)) == data
for body in (None, b"", b"[", b"{}", {"image": "***"}, {"image": text[:-1]}):
    try:
        vision.image_file(types.SimpleNamespace(body=body))
    except vision.ImageError as error:
        assert isinstance(error, ValueError) and str(error)
    else:
        raise AssertionError(body)
for call in (vision.decode, vision.open_image):
    try:
        call(event)
    except ImportError as error:
        print(error)
    except vision.ImageError as error:
        print(error)

print(json.dumps([
    vision.rectangle("cat", (1, 2, 3, 4), 0.5),
    vision.mask("cat", [[0, 0, 0], [0, 1, 1], [0, 1, 0]]),
    vision.skeleton("person", {"nose": (1, 2)}, hidden=["nose"]),
]))
"""


@pytest.mark.parametrize("version", interpreters.every())
def test_the_interpreter_alone_is_enough(version):
    python = interpreters.find(version)
    done = subprocess.run(
        [python, "-I", "-S", "-B", "-W", "error", "-c", SCRIPT, str(ROOT)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    decoding, opening, shapes = done.stdout.splitlines()
    assert "NumPy" in decoding
    assert "Pillow" in opening
    rectangle, mask, skeleton = json.loads(shapes)
    assert rectangle == {
        "label": "cat",
        "type": "rectangle",
        "points": [1.0, 2.0, 3.0, 4.0],
        "confidence": "0.5000",
    }
    assert mask["mask"] == [1, 1, 1, 0, 1, 1, 2, 2]
    assert skeleton["elements"][0]["outside"] == 1
