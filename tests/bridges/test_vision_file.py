"""fnbuild.vision as one file, which Nuclio's own processor imports."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fnbuild.bridges.vision_file import write_vision_file
from fnbuild.errors import ConflictError, InputError
from tests.runtime import interpreters

ROOT = Path(__file__).resolve().parents[2]

# Nuclio's wrapper imports the handler from its folder, which is first on sys.path.
WRAPPER = """
import base64, json, os, sys, types
# The real package is not installed there.
sys.path[:] = [path for path in sys.path if not os.path.isdir(os.path.join(path, "fnbuild"))]
sys.path.insert(0, sys.argv[1])
import main

class Response:
    def __init__(self, **values):
        self.__dict__.update(values)

logger = types.SimpleNamespace(info=print, warn=print, error=print)
user_data = types.SimpleNamespace()
context = types.SimpleNamespace(user_data=user_data, Response=Response, logger=logger)
main.init_context(context)
with open(sys.argv[2], "rb") as file:
    image = base64.b64encode(file.read()).decode()
replies = [main.handler(context, types.SimpleNamespace(body=body, path="/"))
           for body in ({"image": image}, {"image": "***"})]
events = [types.SimpleNamespace(body={"image": image}, path="/", id="7")]
replies += main.handler(context, events)
import fnbuild
replies = [[reply.status_code, json.loads(reply.body)] for reply in replies]
print(json.dumps([[fnbuild.__file__, fnbuild.__path__], replies]))
"""


def test_a_function_of_the_library_runs_without_fnbuild(tmp_path, photo):
    folder = tmp_path / "face-haar"
    shutil.copytree(ROOT / "functions/opencv/face-haar", folder)
    path = write_vision_file(folder)
    command = [sys.executable, "-I", "-c", WRAPPER, folder, photo("astronaut.png")]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    file, replies = json.loads(done.stdout.splitlines()[-1])
    assert file == [str(path), []]
    single, wrong, batch = replies
    assert single[1][0]["label"] == "face"
    assert wrong == [400, {"error": '"image" is not base64'}]
    assert batch == single


@pytest.mark.parametrize("version", interpreters.every())
def test_every_interpreter_reads_it(tmp_path, version):
    path = write_vision_file(tmp_path)
    code = "import sys; sys.path.insert(0, sys.argv[1]); from fnbuild import vision; " + (
        "print(vision.tag('cat')['label'], vision.Detector.__module__)"
    )
    done = subprocess.run(
        [interpreters.find(version), "-I", "-S", "-B", "-W", "error", "-c", code, path.parent],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "cat fnbuild.vision.detector\n", done.stderr


def test_an_error_in_it_has_its_line(tmp_path):
    path = write_vision_file(tmp_path)
    code = "import sys; sys.path.insert(0, sys.argv[1]); from fnbuild import vision; " + (
        "vision.rectangle('cat', 3)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, path.parent],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert 'fnbuild/vision/shapes.py", line' in done.stderr
    assert "in _flat_coordinates" in done.stderr


def test_a_test_of_the_function_gets_the_installed_package(tmp_path):
    path = write_vision_file(tmp_path)
    # As pytest does for a test in the function's folder, and other functions' folders.
    code = "import sys; sys.path[:0] = sys.argv[1:]; from fnbuild.testing import Client; " + (
        "from fnbuild import vision; print(vision.__file__)"
    )
    other = tmp_path / "other"
    other.mkdir()
    write_vision_file(other)
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, path.parent, other],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.strip() == str(ROOT / "fnbuild/vision/__init__.py"), done.stderr


def test_only_its_own_file_is_replaced(tmp_path):
    path = write_vision_file(tmp_path)
    assert write_vision_file(tmp_path) == path
    path.write_text("mine = 1\n")
    with pytest.raises(ConflictError, match="is a file of yours"):
        write_vision_file(tmp_path)
    assert path.read_text() == "mine = 1\n"
    with pytest.raises(InputError, match="cannot write"):
        write_vision_file(tmp_path / "missing")
