"""Functions from cvat-sdk's auto-annotation functions, with the real package."""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fnbuild.bridges.sdk_functions import SdkModule, function_files
from fnbuild.builder.requirements import Requirements
from fnbuild.cvat.replies import read_reply
from fnbuild.errors import InputError
from fnbuild.function.labels import function_labels
from fnbuild.function.reader import check_function, load_function
from tests.environments import environment_python

pytestmark = pytest.mark.system

ROOT = Path(__file__).resolve().parents[2]
MODULES = ROOT / "tests/data/sdk"
PACKAGES = ("cvat-sdk[masks]==2.80.0", "cvat-cli==2.80.0", "nuclio-sdk>=0.6.3")


@pytest.fixture(scope="session")
def sdk_python() -> Path:
    return environment_python("3.11", *PACKAGES)


@pytest.fixture
def imported(sdk_python: Path, tmp_path: Path) -> Callable[..., Path]:
    """Write the function of a module to a folder."""

    def write(module: str, **parameters: Any) -> Path:
        source = SdkModule(MODULES / module, parameters, python=str(sdk_python))
        folder = tmp_path / module
        folder.mkdir()
        for name, text in function_files(source, "f", print).items():
            (folder / name).write_text(text)
        return folder

    return write


def picture(size: tuple[int, int] = (40, 30), mode: str = "RGB") -> str:
    out = io.BytesIO()
    Image.new(mode, size).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def call(python: Path, folder: Path, requests: Sequence[Any], **env: str) -> list[tuple[int, Any]]:
    """Return status and content of the reply to each request, from one worker."""
    files = folder / "requests.json", folder / "replies.json"
    files[0].write_text(json.dumps(requests))
    command = [python, ROOT / "tests/data/call_function.py", folder, *files]
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [(status, content) for status, content in json.loads(files[1].read_text())]


def annotations(folder: Path) -> dict[str, str]:
    loaded, report = check_function(folder, strict=True, code=True)
    assert loaded is not None, report.render()
    assert not list(report), report.render()
    return loaded.function.metadata.annotations


def test_a_detector_returns_shapes_of_every_type(
    imported: Callable[..., Path], sdk_python: Path
) -> None:
    folder = imported("shapes.py")
    spec = json.loads(annotations(folder)["spec"])
    assert [(label["id"], label["name"], label["type"]) for label in spec] == [
        (10, "thing", "rectangle"),
        (20, "area", "mask"),
        (30, "outline", "polygon"),
        (40, "animal", "skeleton"),
        (50, "scene", "tag"),
        (60, "free", "any"),
    ]
    requests: list[dict[str, Any]] = [
        {"image": picture()},
        {"image": picture(), "threshold": 0.65, "conv_mask_to_poly": True},
        {"image": picture(mode="L"), "threshold": 0.85},
        {"image": picture(), "threshold": "high"},
        {"image": "nonsense"},
    ]
    (complete, high, grey, text, broken) = call(sdk_python, folder, requests)
    assert complete[0] == 200
    rectangle, area, outline, animal, scene, free = complete[1]
    assert rectangle == {
        "label": "thing",
        "type": "rectangle",
        "points": [1, 2, 3, 4],
        "rotation": 30,
        "attributes": [
            {"name": "size", "value": "40"},
            {"name": "dark", "value": "true"},
            {"name": "mode", "value": "RGB"},
            {"name": "name", "value": "é"},
        ],
    }
    assert area["mask"] == [1, 1, 1, 1, 1, 0, 1, 1, 2, 1, 5, 2]
    assert (outline["points"], outline["group_id"]) == ([0, 0, 20, 0, 20, 15], 3)
    head, tail = animal["elements"]
    assert (head["label"], head["type"], head["points"]) == ("head", "points", [1, 2])
    assert (tail["label"], tail["outside"]) == ("tail", True)
    assert (scene["label"], scene["type"], free["type"]) == ("scene", "tag", "ellipse")
    assert [shape["type"] for shape in high[1]] == ["rectangle", "polygon", "polygon"]
    assert [shape["attributes"][2]["value"] for shape in grey[1]] == ["RGB"]
    assert (text[0], broken[0]) == (400, 400)
    function = load_function(folder).function
    reply = read_reply("detector", json.dumps(complete[1]), function_labels(function), (40, 30))
    assert not reply.diagnostics


def test_parameters_are_those_of_create_and_may_change_with_a_deploy(
    imported: Callable[..., Path], sdk_python: Path
) -> None:
    folder = imported("shapes.py", title="box")
    assert json.loads(annotations(folder)["spec"])[0]["name"] == "box"
    (env,) = load_function(folder).function.spec.env
    assert (env.name, env.value) == ("FUNCTION_PARAMETERS", '{"title": "box"}')
    parameters = '{"title": "car", "count": 2}'
    ((status, shapes),) = call(
        sdk_python, folder, [{"image": picture()}], FUNCTION_PARAMETERS=parameters
    )
    assert (status, len(shapes), shapes[0]["label"]) == (200, 12, "car")


def test_an_interactor_returns_masks_and_reuses_the_preprocessed_image(
    imported: Callable[..., Path], sdk_python: Path
) -> None:
    folder = imported("area.py")
    written = annotations(folder)
    assert (written["type"], written["version"]) == ("interactor", "2")
    assert (written["min_pos_points"], written["min_neg_points"]) == ("1", "0")
    assert written["startswith_box_optional"] == "true"
    clicks = {"image": picture(), "pos_points": [[3, 4], [5.5, 4]], "neg_points": []}
    requests = [
        {**clicks, "obj_bbox": []},
        {**clicks, "neg_points": [[4, 4]], "obj_bbox": None},
        {**clicks, "obj_bbox": [[2, 2], [6, 5]]},
        {**clicks, "pos_points": [[1]]},
        {**clicks, "obj_bbox": [[1, 2]]},
    ]
    points, hole, box, half, odd = call(sdk_python, folder, requests)
    (shape,) = points[1]["shapes"]
    assert (shape["type"], shape["points"]) == ("mask", [0, 3, 3, 4, 5, 4])
    assert shape["attributes"] == [{"spec_id": 0, "value": "1.0"}]
    (shape,) = hole[1]["shapes"]
    assert shape["points"] == [0, 1, 1, 1, 3, 4, 5, 4]
    assert shape["attributes"] == [{"spec_id": 0, "value": "1.0"}]
    assert box[1]["shapes"][0]["points"] == [0, 20, 2, 2, 6, 5]
    assert (half[0], odd[0]) == (400, 400)


def test_a_tracker_follows_shapes_until_they_are_lost(
    imported: Callable[..., Path], sdk_python: Path
) -> None:
    folder = imported("follow.py")
    assert annotations(folder)["supported_shape_types"] == "polygon, rectangle"
    shape = {"type": "polygon", "points": [1, 1, 5, 1, 5, 5]}
    image = picture()
    code = f"""
import json, sys
sys.path.insert(0, {str(folder)!r})
import main, nuclio_sdk
context = nuclio_sdk.Context(logger=nuclio_sdk.Logger(level=50))
main.init_context(context)
def ask(**body):
    reply = main.handler(context, nuclio_sdk.Event(body=body, content_type="application/json"))
    return reply.status_code, json.loads(reply.body)
image, shape = {image!r}, {shape!r}
_, first = ask(image=image, shapes=[shape], states=[])
replies = [ask(image=image, shapes=[None], states=first["states"]) for _ in range(3)]
replies.append(ask(image=image, shapes=[None], states=["unknown"]))
replies.append(ask(image={picture((8, 8))!r}, shapes=[None], states=first["states"]))
replies.append(ask(image=image, shapes=[dict(shape, type="ellipse")], states=[]))
print(json.dumps(replies))
"""
    done = subprocess.run(
        [sdk_python, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, second, lost, unknown, smaller, unsupported = json.loads(done.stdout)
    assert first[1]["shapes"] == [{"type": "polygon", "points": [2, 2, 6, 2, 6, 6]}]
    assert second[1]["shapes"] == [{"type": "polygon", "points": [3, 3, 7, 3, 7, 7]}]
    assert (lost[0], lost[1]["shapes"]) == (200, [None])
    assert (unknown[0], smaller[0], unsupported[0]) == (400, 400, 400)
    assert "track the object anew" in unknown[1]["error"]


@pytest.mark.parametrize(
    ("code", "message", "hint"),
    [
        ("import unheard_of  # and cvat_sdk", "No module named 'unheard_of'", "--requirement"),
        ("# cvat_sdk", "neither `spec` nor `create`", ""),
        ("spec = 3  # of cvat_sdk", "`spec` is of type int", ""),
        ("def create(path): pass  # of cvat_sdk", "missing 1 required", "--parameter NAME"),
        ("raise OSError('no weights')  # cvat_sdk", "OSError: no weights", "traceback"),
    ],
)
def test_a_file_that_is_no_function_is_one_error(
    code: str, message: str, hint: str, tmp_path: Path
) -> None:
    file = tmp_path / "model.py"
    file.write_text(code)
    with pytest.raises(InputError) as caught:
        function_files(SdkModule(file, python=sys.executable), "f", print)
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")
    assert caught.value.detail


def test_a_result_that_breaks_a_rule_of_the_sdk_is_an_error(
    imported: Callable[..., Path], sdk_python: Path
) -> None:
    folder = imported("broken.py")
    requests = [{"image": picture(), "conv_mask_to_poly": number > 3} for number in range(5)]
    replies = call(sdk_python, folder, requests)
    assert [status for status, _ in replies] == [500] * 5
    assert [error.partition(": ")[2] for _, error in replies] == [
        "the label id 3 is not in the spec",
        "the function returned a tag for the label area, whose type is mask",
        "the attribute id 4 of the label area is not in the spec",
        "the sublabel id 9 of the label animal is not in the spec",
        "the function returned a mask despite conv_mask_to_poly",
    ]


def test_the_spec_is_read_in_the_environment_of_a_deploy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(_interpreter: object, requirements: Requirements, _progress: object) -> None:
        raise InputError(" ".join(requirements.packages))

    monkeypatch.setattr("fnbuild.bridges.sdk_functions.ensure_environment", stop)
    (tmp_path / "requirements.txt").write_text("timm\n")
    (tmp_path / "model.py").write_text("import cvat_sdk")
    with pytest.raises(InputError, match=r"cvat-sdk\[masks\]\S* timm scipy"):
        function_files(SdkModule(tmp_path / "model.py", packages=["scipy"]), "My.Model", print)


def test_init_writes_the_function_of_a_file(sdk_python: Path, tmp_path: Path) -> None:
    from fnbuild.cli.app import run

    folder = tmp_path / "my-tracker"
    source = tmp_path / "main.py"
    source.write_text((MODULES / "follow.py").read_text())
    words = ["init", str(folder), "--from", str(source), "--python", str(sdk_python)]
    assert run([*words, "--requirement", "attrs>=23"]) == 0
    assert sorted(path.name for path in folder.iterdir()) == [
        "function.yaml",
        "main.py",
        "requirements.txt",
        "sdk_function.py",
    ]
    assert annotations(folder)["type"] == "tracker"
    assert load_function(folder).function.spec.build.image == "my-tracker"
    assert run([*words, "--kind", "detector"]) == 2
    assert run(["init", str(tmp_path / "f"), "--parameter", "a=int:1"]) == 2
    assert run(["init", str(tmp_path / "f"), "--from-sdk", str(source), "-p", "a=1"]) == 2
