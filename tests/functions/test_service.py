"""From a folder to a running service and a drawn image, with the command line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image, ImageChops

pytestmark = pytest.mark.system

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(sys.executable).with_name("fnbuild")
CASES = {
    "face-haar": ("astronaut.png", "face", (177, 66, 272, 161)),
    "people-hog": ("bus.jpg", "person", (28, 369, 256, 886)),
}


@pytest.fixture
def fnbuild(tmp_path):
    """Run the program with its own data folder; stop all functions at the end."""
    environment = {**os.environ, "FNBUILD_DATA_DIR": str(tmp_path / "data")}

    def run(*arguments):
        done = subprocess.run(
            [PROGRAM, *map(str, arguments)],
            env=environment,
            capture_output=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    yield run
    run("down")


def test_detections_and_a_drawn_image(fnbuild, photo, tmp_path):
    for name, (picture, label, (left, top, right, bottom)) in CASES.items():
        fnbuild("deploy", "--path", ROOT / "functions" / "opencv" / name)
        out = tmp_path / f"{name}.png"
        reply = json.loads(fnbuild("invoke", name, "--image", photo(picture), "--draw", out))
        assert reply[0]["label"] == label
        expected = (left, top, right, bottom)
        assert all(abs(a - b) < 12 for a, b in zip(reply[0]["points"], expected, strict=True)), (
            reply
        )
        with Image.open(out) as drawn, Image.open(photo(picture)) as original:
            changed = ImageChops.difference(drawn.convert("RGB"), original.convert("RGB"))
        # The picture is the photograph, with a box around the first finding.
        assert changed.crop((left + 5, top - 3, right - 5, top + 3)).getbbox()
        assert not changed.crop((0, 0, left - 20, top - 60)).getbbox()
