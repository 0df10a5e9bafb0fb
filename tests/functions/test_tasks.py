"""Functions of `fnbuild init --task … --framework …` are deployed unchanged and answer CVAT."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fnbuild.cli.init import REQUIREMENTS, TASKS
from fnbuild.cvat.replies import read_reply
from fnbuild.cvat.request import build_request, read_image
from fnbuild.function import labels
from fnbuild.function.reader import load_function
from fnbuild.runtime.http.client import request

pytestmark = pytest.mark.system

PAIRS = [f"{task}-{framework}" for task in TASKS for framework in REQUIREMENTS]


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of them, each in a folder of its name."""
    home = tmp_path_factory.mktemp("tasks")
    for pair in PAIRS:
        task, framework = pair.split("-")
        _fnbuild(home, "init", pair, "--task", task, "--framework", framework)
    return home


def _fnbuild(home: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "fnbuild", *arguments],
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def urls(new: Path) -> Iterator[dict[str, str]]:
    """Return their URLs, deployed on the interpreter of the tests, which has their requirements."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FNBUILD_DATA_DIR", str(new / "data"))
        here = ("--env", f"NUCLIO_PYTHON_EXE_PATH={sys.executable}", "--concurrency", "4")
        _fnbuild(new, "deploy", "--path", ".", "--recursive", *here)
        shown = json.loads(_fnbuild(new, "get", "functions", "-o", "json"))
        yield {
            function["metadata"]["name"]: f"http://127.0.0.1:{function['status']['httpPort']}"
            for function in shown
        }
        _fnbuild(new, "down")


@pytest.mark.parametrize("pair", PAIRS)
def test_each_is_complete_and_short(new: Path, pair: str) -> None:
    loaded = load_function(new / pair)
    assert [str(finding) for finding in loaded.report] == []
    assert len((new / pair / "main.py").read_text().splitlines()) <= 25
    assert len((new / pair / "model.py").read_text().splitlines()) <= 70
    for path in (new / pair).iterdir():
        if path.suffix != ".onnx":
            assert not {"FUNCTION_NAME", "LABEL_SPEC", "DESCRIPTION"} & set(
                path.read_text().split()
            )


@pytest.mark.parametrize("pair", PAIRS)
def test_each_refuses_images_above_the_pixel_limit(
    urls: dict[str, str], pair: str, huge_image: str
) -> None:
    body = json.dumps({"image": huge_image}).encode()
    answer = request("POST", urls[pair], "/", body, {"Content-Type": "application/json"})
    assert answer.status == 413, answer.body
    assert "13376 x 13376" in json.loads(answer.body)["error"]


@pytest.mark.parametrize("pair", PAIRS)
def test_each_answers_a_picture(
    new: Path, urls: dict[str, str], pair: str, photo: Callable[[str], Path]
) -> None:
    loaded = load_function(new / pair).function
    sent = build_request("detector", read_image(photo("astronaut.png")), threshold=0.3)
    json_body = {"Content-Type": "application/json"}
    answer = request("POST", urls[pair], "/", sent.body, json_body)
    assert answer.status == 200, answer.body
    reading = read_reply(
        "detector", json.loads(answer.body), labels.function_labels(loaded), sent.image.size, sent
    )
    assert reading.shapes
    assert [str(problem) for problem in reading.diagnostics] == []
    shape = TASKS[pair.split("-", maxsplit=1)[0]].shape
    assert {shape_.type for shape_ in reading.shapes} == {shape}


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("body", [b"raw", {"image": "***"}, {"image": 3}])
def test_invalid_requests_are_errors_of_the_caller(
    new: Path, pair: str, body: object, handler: Callable
) -> None:  # type: ignore[type-arg]
    status, content = handler(new / pair)(body)
    assert status == 400
    assert content["error"]
