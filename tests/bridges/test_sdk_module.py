"""Functions as modules of cvat-sdk: loaded by cvat-cli, called by its agent."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from fnbuild.bridges import sdk_template
from fnbuild.bridges.sdk_functions import SdkModule, function_files
from fnbuild.bridges.sdk_module import FunctionLocation, module_text
from fnbuild.cli.app import run
from fnbuild.errors import InputError
from fnbuild.function.reader import function_from_dict, load_function
from tests.bridges.cvat_agent_server import AgentServer, serving
from tests.environments import environment_python

ROOT = Path(__file__).resolve().parents[2]
FACES = ROOT / "functions/opencv/face-haar"
PACKAGES = ("cvat-sdk[masks]==2.80.0", "cvat-cli==2.80.0", "nuclio-sdk>=0.6.3")
KINDS = ("shapes.py", "area.py", "follow.py")


def import_file(path: Path) -> ModuleType:
    specification = importlib.util.spec_from_file_location("packaged", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.system
def test_an_agent_of_cvat_serves_each_kind_of_function(tmp_path: Path) -> None:
    python = environment_python("3.11", *PACKAGES, "opencv-python-headless>=4.9,<5")
    folders = [FACES]
    for name in KINDS:
        folders.append(tmp_path / name)
        folders[-1].mkdir()
        source = SdkModule(ROOT / "tests/data/sdk" / name, python=str(python))
        for file, text in function_files(source, "f", print).items():
            (folders[-1] / file).write_text(text)
    functions = [load_function(folder).function for folder in folders]
    labels = [
        label
        for function in functions[:2]
        for label in json.loads(function.metadata.annotations["spec"])
    ]
    # The type of a task's label decides where the function's has none, and the reverse.
    types = {"free": "ellipse", "area": "any"}
    for label in labels:
        label["type"] = types.get(label["name"], label["type"])
    photo = Path(
        subprocess.run(
            [sys.executable, ROOT / "scripts/photos", "astronaut.png"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    )
    with Image.open(photo) as image:
        server = AgentServer(photo.read_bytes(), image.size, labels)
    mapping = {label["name"]: {"name": label["name"]} for label in labels}
    frame = {"type": "annotate_frame", "mapping": mapping, "conv_mask_to_poly": False}
    polygons = {**frame, "conv_mask_to_poly": True, "threshold": 0.65}
    click = {"type": "interact", "pos_points": [[3, 4], [5, 4]], "neg_points": [[4, 4]]}
    box = {"type": "polygon", "points": [1, 1, 5, 1, 5, 5]}
    server.pending = [
        [{**frame, "id": "faces", "threshold": 0.3}],
        [{**frame, "id": "shapes", "threshold": None}, {**polygons, "id": "polygons"}],
        [{**click, "id": "area", "obj_bbox": []}],
        [
            {"type": "init_tracking", "id": "start", "shapes": [box]},
            {"type": "track", "id": "first", "after": "start"},
            {"type": "track", "id": "second", "after": "start"},
            {"type": "track", "id": "lost", "after": "start"},
        ],
    ]
    modules = []
    for function, folder in zip(functions, folders, strict=True):
        modules.append(tmp_path / f"module{len(modules)}.py")
        modules[-1].write_text(module_text(function, FunctionLocation(folder)))
    with serving(server.answer) as url:
        host, _, port = url.rpartition(":")
        done = subprocess.run(
            [python, ROOT / "tests/data/run_sdk_modules.py", host, port, *modules],
            env={**os.environ, "PYTHONPATH": str(ROOT), "CVAT_ACCESS_TOKEN": "token"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    failures = [body for verdict, body in server.results.values() if verdict == "fail"]
    assert (done.returncode, failures) == (0, []), done.stderr
    assert {verdict for verdict, _ in server.results.values()} == {"complete"}, done.stderr
    replies = {name: body for name, (_, body) in server.results.items()}

    (face,) = replies["faces"]["annotations"]["shapes"]
    left, top, right, bottom = face["points"]
    assert 150 < left < 200 < right < 300
    assert 50 < top < 100 < bottom < 200

    drawn = replies["shapes"]["annotations"]
    rectangle, area, outline, animal, free = drawn["shapes"]
    names = {label["id"]: label["name"] for label in server.labels}
    assert [names[shape["label_id"]] for shape in drawn["shapes"]] == [
        "thing", "area", "outline", "animal", "free",
    ]  # fmt: skip
    assert [names[tag["label_id"]] for tag in drawn["tags"]] == ["scene"]
    assert [item["value"] for item in rectangle["attributes"]] == ["512", "true", "RGB", "é"]
    assert (rectangle["rotation"], outline["group"]) == (30, 3)
    assert (area["type"], area["points"]) == ("mask", [0, 5, 1, 2, 2, 1, 5, 2])
    assert [point.get("outside", False) for point in animal["elements"]] == [False, True]
    assert free["type"] == "ellipse"
    converted = replies["polygons"]["annotations"]["shapes"]
    assert [shape["type"] for shape in converted] == ["rectangle", "polygon", "polygon"]
    assert converted[1]["points"] == [2, 1, 6, 1, 6, 3, 4, 3, 4, 2, 3, 2, 3, 3, 2, 3]

    (mask,) = replies["area"]["shapes"]
    assert mask["points"] == [0, 1, 1, 1, 3, 4, 5, 4]
    assert mask["attributes"] == [{"spec_id": 0, "value": "1.0"}]
    assert [replies[name]["shapes"] for name in ("first", "second", "lost")] == [
        [{"type": "polygon", "points": [2, 2, 6, 2, 6, 6]}],
        [{"type": "polygon", "points": [3, 3, 7, 3, 7, 7]}],
        [None],
    ]
    assert server.functions[3]["startswith_box_optional"] is True
    assert server.functions[4]["supported_shape_types"] == ["polygon", "rectangle"]


def test_a_module_calls_a_url_with_a_token(tmp_path: Path) -> None:
    function = load_function(FACES).function
    file = tmp_path / "faces.py"
    file.write_text(module_text(function, FunctionLocation(url="http://127.0.0.1:1")))
    module = import_file(file)
    assert module.DESCRIPTION["labels"] == [
        {"name": "face", "type": "rectangle", "attributes": [], "id": 0}
    ]
    bodies: list[Any] = []

    def answer(method: str, path: str, body: Any) -> Any:
        bodies.append(body)
        assert body["image"]
        return [1, 2]

    with serving(answer) as url:
        assert module.call_url(url, "secret")({"image": "x"}) == [1, 2]
        with pytest.raises(RuntimeError, match="answered 400"):
            module.call_url(url, "")({"image": ""})
    with pytest.raises(RuntimeError, match="cannot be reached"):
        module.call_url(module.DESCRIPTION["url"], "")({})


def test_a_folder_is_called_in_this_process_with_the_context_of_nuclio(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "sdk_entry.py").write_text(
        """
def init_context(context):
    context.user_data.calls = 0
    context.logger.warn_with("ready", worker=context.worker_id)

def answer(context, event):
    context.user_data.calls += 1
    context.logger.error("call %d", context.user_data.calls)
    return {
        1: context.Response(body='{"a": 1}', content_type="application/json"),
        2: (201, b"[2]"),
        3: {"path": event.path},
        4: context.Response(body='{"error": "no"}', status_code=400),
    }[context.user_data.calls]
"""
    )
    monkeypatch.setitem(sdk_template.DESCRIPTION, "handler", "sdk_entry:answer")
    call = sdk_template.LazyHandler("code")
    assert [call({}), call({}), call({})] == [{"a": 1}, [2], {"path": "/"}]
    with pytest.raises(RuntimeError, match="the function answered 400"):
        call({})
    assert caplog.messages[:2] == ["ready {'worker': 0}", "call 1"]


def test_polygons_of_older_trackers_become_boxes() -> None:
    assert sdk_template.box_around([5, 1, 9.5, 4, 2, 8, 1, 3]) == [1, 1, 9.5, 8]
    assert sdk_template.box_around([1, 2, 3, 4]) == [1, 2, 3, 4]


BITMAPS = st.integers(1, 7).flatmap(
    lambda width: st.lists(
        st.lists(st.integers(0, 1), min_size=width, max_size=width), min_size=1, max_size=6
    )
)


@settings(max_examples=200, deadline=None)
@given(BITMAPS)
def test_outlines_of_a_mask_enclose_its_pixels(rows: list[list[int]]) -> None:
    crop = sdk_template.crop_rows(rows)
    assert bool(crop) == any(map(any, rows))
    if not crop:
        return
    drawn = numpy.zeros((len(rows), len(rows[0])), bool)
    for outline in sdk_template.mask_outlines(crop):
        assert len(outline) >= 8
        # Pixels count as inside by their centres.
        image = Image.new("1", (10 * drawn.shape[1] + 10, 10 * drawn.shape[0] + 10))
        ImageDraw.Draw(image).polygon([10 * value for value in outline], fill=1)
        drawn |= numpy.asarray(image)[5:-5:10, 5:-5:10]
    pixels = numpy.asarray(rows, bool)
    assert not (pixels & ~drawn).any()
    # Holes are inside an outline, and nothing else is.
    assert not (drawn & ~pixels & ~_holes(pixels)).any()


def _holes(pixels: Any) -> Any:
    """Return the unset pixels that no way over unset pixels, also diagonal, joins to the edge."""
    open_ = numpy.pad(~pixels, 1, constant_values=True)
    reached = numpy.zeros_like(open_)
    reached[0] = True
    for _ in range(open_.size):
        grown = reached.copy()
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                grown |= numpy.roll(reached, (dy, dx), (0, 1))
        reached = grown & open_
    return (open_ & ~reached)[1:-1, 1:-1]


@settings(deadline=None)
@given(BITMAPS)
def test_run_lengths_have_the_pixels_of_a_mask(rows: list[list[int]]) -> None:
    crop = sdk_template.crop_rows(rows)
    if crop:
        *runs, left, top, right, bottom = sdk_template.mask_runs(crop)
        assert [left, top, right, bottom] == crop[-4:]
        pixels = [value for index, run_ in enumerate(runs) for value in [index % 2] * run_]
        assert pixels == crop[:-4]


@pytest.mark.parametrize(
    ("annotations", "values"),
    [
        ({}, {"min_pos_points": 1, "min_neg_points": None, "min_bounding_boxes": None}),
        ({"min_neg_points": "0", "startswith_box": "false"}, {"min_bounding_boxes": 1}),
        ({"min_pos_points": "0", "startswith_box_optional": "true"}, {"min_bounding_boxes": 0}),
    ],
)
def test_prompts_of_an_interactor_are_those_of_its_annotations(
    annotations: dict[str, str], values: dict[str, Any], tmp_path: Path
) -> None:
    raw = {"name": "f", "annotations": {"type": "interactor", "spec": "", **annotations}}
    file = tmp_path / "f.py"
    function = function_from_dict({"metadata": raw}, "test")
    file.write_text(module_text(function, FunctionLocation(tmp_path)))
    assert values.items() <= import_file(file).DESCRIPTION.items()


@pytest.mark.parametrize("annotations", [{"type": "reid"}, {}])
def test_a_kind_that_the_sdk_does_not_have_is_an_error(annotations: dict[str, str]) -> None:
    function = function_from_dict({"metadata": {"name": "f", "annotations": annotations}}, "test")
    with pytest.raises(InputError, match="cvat-sdk has no such functions"):
        module_text(function, FunctionLocation(url="http://f"))


def test_package_writes_the_module_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["package", "cvat-sdk", "--path", str(FACES)]
    assert run(words) == 0
    assert capsys.readouterr().out == "face_haar.py\n"
    assert import_file(tmp_path / "face_haar.py").DESCRIPTION["folder"] == str(FACES)
    assert run(words) == 1
    assert run([*words, "--force", "--url", "http://host:8080"]) == 0
    description = import_file(tmp_path / "face_haar.py").DESCRIPTION
    assert (description["folder"], description["url"]) == ("", "http://host:8080")
    assert run(["package", "cvat-sdk"]) == 2
    monkeypatch.setenv("FNBUILD_DATA_DIR", str(tmp_path / "data"))
    capsys.readouterr()
    unknown = ["package", "cvat-sdk", "http://127.0.0.1:1", "--platform", "process"]
    assert run(unknown) == 1
    assert "no function is deployed at http://127.0.0.1:1" in capsys.readouterr().err
