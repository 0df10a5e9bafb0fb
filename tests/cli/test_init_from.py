"""`fnbuild init --from`: functions from models."""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fnbuild.errors import InputError
from fnbuild.function.label_sources import load_labels
from fnbuild.function.reader import load_function
from fnbuild.models.readers.checkpoint import run_export

Fnbuild = Callable[..., Any]

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "tests" / "data" / "yolo"


def labels_of(folder: Path) -> list[dict[str, Any]]:
    labels = json.loads(load_function(folder).function.metadata.annotations["spec"])
    assert isinstance(labels, list)
    return labels


def variables_of(folder: Path) -> dict[str, str]:
    return {each.name: str(each.value) for each in load_function(folder).function.spec.env}


@pytest.fixture
def torchscript(tmp_path: Path) -> Path:
    """A file with the parts of TorchScript that are read, without metadata."""
    path = tmp_path / "best.torchscript"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("best/code/__torch__.py", "")
        archive.writestr("best/constants.pkl", b"")
    return path


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        ("v8", "rectangle"),
        ("v5", "rectangle"),
        ("v10-end2end", "rectangle"),
        ("segment", "mask"),
        ("pose", "skeleton"),
        ("obb", "polygon"),
        ("classify", "tag"),
    ],
)
def test_an_export_becomes_a_valid_function(
    model: str, shape: str, tmp_path: Path, fnbuild: Fnbuild
) -> None:
    folder = tmp_path / "my-model"
    source = MODELS / f"{model}.onnx"
    outcome = fnbuild("init", folder, "--from", source)
    assert outcome.status == 0, outcome.err
    assert [(each["name"], each["type"]) for each in labels_of(folder)] == [
        ("cat", shape),
        ("dog", shape),
    ]
    assert (folder / "model.onnx").read_bytes() == source.read_bytes()
    assert (folder / "test_my_model.py").is_file()
    assert len((folder / "main.py").read_text().splitlines()) <= 40
    assert not {"FUNCTION_NAME", "IMAGE_NAME"} & set((folder / "function.yaml").read_text().split())
    checked = fnbuild("validate", folder, "--strict")
    assert checked.status == 0, checked.out
    assert fnbuild("validate", folder, "--strict", "--variant", "gpu").status == 0
    on_gpu = load_function(folder, variant="gpu").function
    assert "onnxruntime-gpu" in str(on_gpu.spec.build.directives)


def test_the_code_is_that_of_the_library(tmp_path: Path, fnbuild: Fnbuild) -> None:
    assert fnbuild("init", tmp_path / "f", "--from", MODELS / "v8.onnx").status == 0
    for name in ("main.py", "model_handler.py", "engines.py", "export.py", "decoding.py"):
        library = ROOT / "functions" / "onnx" / "yolo" / name
        assert (tmp_path / "f" / name).read_text() == library.read_text()
    assert not (tmp_path / "f" / "make_model.py").exists()


def test_a_model_at_a_url_is_downloaded_first(tmp_path: Path, fnbuild: Fnbuild) -> None:
    refused = fnbuild("init", tmp_path / "f", "--from", "s3://models/best.onnx")
    assert refused.status == 1
    assert "`fnbuild model pull s3://models/best.onnx`" in refused.err


def test_nothing_is_overwritten(tmp_path: Path, fnbuild: Fnbuild) -> None:
    (tmp_path / "model.onnx").write_text("mine")
    refused = fnbuild("init", tmp_path, "--name", "f", "--from", MODELS / "v8.onnx")
    assert refused.status == 1
    assert "has model.onnx already" in refused.err
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_a_suffix_in_capital_letters(tmp_path: Path, fnbuild: Fnbuild) -> None:
    source = tmp_path / "BEST.ONNX"
    source.write_bytes((MODELS / "v8.onnx").read_bytes())
    assert fnbuild("init", tmp_path / "f", "--from", source).status == 0
    assert (tmp_path / "f" / "model.onnx").is_file()


def test_weights_in_a_file_of_their_own_come_along(tmp_path: Path, fnbuild: Fnbuild) -> None:
    source = tmp_path / "v8-weights.onnx"
    source.write_bytes((MODELS / source.name).read_bytes())
    refused = fnbuild("init", tmp_path / "f", "--from", source)
    assert refused.status == 1
    assert "weights in the file v8-weights.bin, which is not beside it" in refused.err
    (tmp_path / "v8-weights.bin").write_bytes((MODELS / "v8-weights.bin").read_bytes())
    assert fnbuild("init", tmp_path / "f", "--from", source).status == 0
    weights = (tmp_path / "f" / "v8-weights.bin").read_bytes()
    assert weights == (MODELS / "v8-weights.bin").read_bytes()


def test_keypoints_keep_the_names_of_the_model(tmp_path: Path, fnbuild: Fnbuild) -> None:
    assert fnbuild("init", tmp_path / "f", "--from", MODELS / "pose.onnx").status == 0
    (cat, _) = labels_of(tmp_path / "f")
    assert [point["name"] for point in cat["sublabels"]] == ["left", "right", "tail"]
    assert cat["svg"].count("<circle") == 3


def test_17_keypoints_are_those_of_coco(
    tmp_path: Path, fnbuild: Fnbuild, torchscript: Path
) -> None:
    metadata = {
        "names": {"0": "person"},
        "task": "pose",
        "kpt_shape": [17, 3],
        "imgsz": [640, 640],
    }
    with zipfile.ZipFile(torchscript, "a") as archive:
        archive.writestr("best/extra/config.txt", json.dumps(metadata))
    assert fnbuild("init", tmp_path / "f", "--from", torchscript).status == 0
    (person,) = load_labels("coco-17-keypoints")
    (label,) = labels_of(tmp_path / "f")
    assert (label["sublabels"], label["svg"]) == (person["sublabels"], person["svg"])


def test_names_that_the_model_lacks_come_from_the_user(tmp_path: Path, fnbuild: Fnbuild) -> None:
    source = MODELS / "unnamed.onnx"
    refused = fnbuild("init", tmp_path / "f", "--from", source)
    assert refused.status == 1
    assert f"{source}: the model has no names of its classes" in refused.err
    assert "--labels cat,dog" in refused.err
    assert not (tmp_path / "f").exists()
    data = tmp_path / "data.yaml"
    data.write_text("names:\n  0: fox\n  1: owl\n")
    for labels in ("fox, owl", data):
        folder = tmp_path / f"f{len(str(labels))}"
        assert fnbuild("init", folder, "--from", source, "--labels", labels).status == 0
        assert [label["name"] for label in labels_of(folder)] == ["fox", "owl"]
        assert "TASK" not in variables_of(folder)


@pytest.mark.parametrize("labels", ["fox", "fox,owl,cow"])
def test_labels_for_another_number_of_classes(
    labels: str, tmp_path: Path, fnbuild: Fnbuild
) -> None:
    source = MODELS / "unnamed.onnx"
    refused = fnbuild("init", tmp_path / "f", "--from", source, "--labels", labels)
    assert refused.status == 1
    assert f"{source}: an output of 1 x 6 x 4 does not fit detect with" in refused.err
    assert "hint: check `--labels`" in refused.err
    assert not (tmp_path / "f").exists()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--task", "segment"), "says detect itself, and `--task` says segment"),
        (("--size", "32x64"), "says 64x64 itself, and `--size` says 32x64"),
    ],
)
def test_options_that_contradict_the_model(
    option: tuple[str, str], message: str, tmp_path: Path, fnbuild: Fnbuild
) -> None:
    refused = fnbuild("init", tmp_path / "f", "--from", MODELS / "v8.onnx", *option)
    assert refused.status == 1
    assert message in refused.err
    same = ("--task", "detect", "--size", "64x64")
    assert fnbuild("init", tmp_path / "f", "--from", MODELS / "v8.onnx", *same).status == 0


def test_labels_of_a_model_with_names(tmp_path: Path, fnbuild: Fnbuild) -> None:
    source = MODELS / "v8.onnx"
    refused = fnbuild("init", tmp_path / "f", "--from", source, "--labels", "a,b,c")
    assert refused.status == 1
    assert "the model has 2 classes, and `--labels` has one for 2" in refused.err
    fewer = fnbuild("init", tmp_path / "f", "--from", source, "--labels", "puppy")
    assert fewer.status == 0
    assert "1 of 2 classes" in fewer.err


def test_names_of_classes_may_have_any_characters(
    tmp_path: Path, fnbuild: Fnbuild, torchscript: Path
) -> None:
    names = ["a\u2028b", "c\x85d", "\x7f", 'it\'s "x": # - y', "кот", "two\nlines", "5", "😀"]
    metadata = {"names": names, "task": "detect", "imgsz": 640}
    with zipfile.ZipFile(torchscript, "a") as archive:
        archive.writestr("best/extra/config.txt", json.dumps(metadata))
    assert fnbuild("init", tmp_path / "f", "--from", torchscript).status == 0
    assert [label["name"] for label in labels_of(tmp_path / "f")] == names
    assert "кот" in (tmp_path / "f" / "function.yaml").read_text()


def test_torchscript_without_metadata_needs_labels_task_and_size(
    tmp_path: Path, fnbuild: Fnbuild, torchscript: Path
) -> None:
    arguments: list[object] = ["init", tmp_path / "f", "--from", torchscript]
    for missing, more in (
        ("--labels", ("--labels", "fox,owl")),
        ("--task", ("--task", "obb")),
        ("--size", ("--size", "480x640")),
    ):
        refused = fnbuild(*arguments)
        assert refused.status == 1
        assert missing in refused.err
        arguments += more
    assert fnbuild(*arguments).status == 0
    variables = variables_of(tmp_path / "f")
    assert (variables["TASK"], variables["IMAGE_SIZE"]) == ("obb", "480,640")
    text = (tmp_path / "f" / "function.yaml").read_text()
    assert "'torch>=2.4,<3'" in text
    assert "onnxruntime" not in text
    assert (tmp_path / "f" / "model.torchscript").is_file()
    assert fnbuild("validate", tmp_path / "f", "--strict").status == 0


def test_an_unknown_task_of_the_model(tmp_path: Path, fnbuild: Fnbuild, torchscript: Path) -> None:
    metadata = {"names": ["a"], "task": "depth", "imgsz": 640}
    with zipfile.ZipFile(torchscript, "a") as archive:
        archive.writestr("best/extra/config.txt", json.dumps(metadata))
    refused = fnbuild("init", tmp_path / "f", "--from", torchscript)
    assert refused.status == 1
    assert 'the task "depth" is none of detect, segment, pose, obb, classify' in refused.err


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.onnx", None, "there is no file"),
        ("a.onnx", b"text", "is not an ONNX file"),
        ("a.h5", b"text", "is no model that fnbuild can read"),
        ("folder", {}, "has no config.json"),
        ("folder", {"config.json": "[]"}, "is not a JSON object"),
        ("folder", {"config.json": '{"architectures": ["BertModel"]}'}, "has BertModel, for which"),
    ],
)
def test_a_model_that_cannot_be_read(
    name: str, content: Any, message: str, tmp_path: Path, fnbuild: Fnbuild
) -> None:
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        path.mkdir()
        for file, text in content.items():
            (path / file).write_text(text)
    refused = fnbuild("init", tmp_path / "f", "--from", path)
    assert refused.status == 1
    assert message in refused.err
    assert "hint: " in refused.err
    assert "Traceback" not in refused.err
    assert not (tmp_path / "f").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--from", "x.onnx", "--kind", "tracker"), "such as `--kind`"),
        (("--from", "x.onnx", "--framework", "torch"), "such as `--kind`"),
        (("--from", "x.onnx", "--size", "640"), "is not HEIGHTxWIDTH"),
        (("--from", "x.onnx", "--task", "keypoints"), "is the task of a template"),
        (("--size", "640x640"), "`--from` names it"),
        (("--task", "obb"), "is the task of a model"),
    ],
)
def test_options_that_do_not_fit_each_other(
    arguments: tuple[str, ...], message: str, tmp_path: Path, fnbuild: Fnbuild
) -> None:
    refused = fnbuild("init", tmp_path / "f", *arguments)
    assert refused.status == 2
    assert message in refused.err


def test_a_hub_that_is_not_reachable(
    tmp_path: Path, fnbuild: Fnbuild, empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    refused = fnbuild("init", tmp_path / "f", "--from", "hf://owner/model")
    assert refused.status == 1
    assert "127.0.0.1:9" in refused.err
    assert not (tmp_path / "f").exists()


@pytest.mark.parametrize(
    ("config", "labels", "names"),
    [
        (
            {
                "architectures": ["DetrForObjectDetection"],
                "id2label": {"0": "N/A", "1": "person"},
                "use_timm_backbone": False,
            },
            (),
            ["person"],
        ),
        ({"model_type": "sam2_video", "architectures": ["Sam2VideoModel"]}, (), []),
        ({"model_type": "owlv2"}, ("--labels", "red car,cone"), ["red car", "cone"]),
    ],
)
def test_a_folder_of_transformers(
    config: dict[str, object],
    labels: tuple[str, ...],
    names: list[str],
    tmp_path: Path,
    fnbuild: Fnbuild,
) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps(config))
    outcome = fnbuild("init", tmp_path / "f", "--from", model, *labels)
    assert outcome.status == 0, outcome.err
    assert [label["name"] for label in labels_of(tmp_path / "f")] == names
    assert variables_of(tmp_path / "f")["STORAGE_URI"] == f"file://{model}"
    assert fnbuild("validate", tmp_path / "f", "--strict").status == 0


DETR = {"model_type": "detr", "architectures": ["DetrForObjectDetection"]}
RT_DETR = {**DETR, "model_type": "rt_detr", "id2label": {"0": "person"}}


@pytest.mark.parametrize(
    ("config", "labels", "messages"),
    [
        (DETR, (), ("has a backbone of timm", ":no_timm")),
        ({**RT_DETR, "use_timm_backbone": True}, (), ("has a backbone of timm", ":no_timm")),
        (RT_DETR, ("--labels", "dog"), ('has no class "dog"', "its classes are person")),
        ({"model_type": "sam2"}, ("--labels", "dog"), ("has no classes", "leave out `--labels`")),
        (RT_DETR, ("--task", "obb"), ("says its task", "leave out `--task`")),
        ({**RT_DETR, "architectures": 5}, (), ("has rt_detr, for which", "--kind")),
    ],
)
def test_a_model_of_transformers_that_cannot_be_served(
    config: dict[str, object],
    labels: tuple[str, ...],
    messages: tuple[str, ...],
    tmp_path: Path,
    fnbuild: Fnbuild,
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    refused = fnbuild("init", tmp_path / "f", "--from", tmp_path, *labels)
    assert refused.status == 1
    assert all(message in refused.err for message in messages)
    assert not (tmp_path / "f").exists()


def test_the_test_of_an_interactor_clicks(tmp_path: Path, fnbuild: Fnbuild) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "sam2"}')
    assert fnbuild("init", tmp_path / "f", "--from", tmp_path).status == 0
    text = (tmp_path / "f" / "test_f.py").read_text()
    assert ".interact(image, positive=[(320, 240)])" in text
    assert load_function(tmp_path / "f").function.metadata.annotations["type"] == "interactor"


def test_prompts_of_a_zero_shot_model_are_needed(tmp_path: Path, fnbuild: Fnbuild) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "grounding-dino"}')
    refused = fnbuild("init", tmp_path / "f", "--from", tmp_path)
    assert refused.status == 1
    assert "`--labels cat,dog`" in refused.err


ULTRALYTICS = """
from pathlib import Path
class YOLO:
    def __init__(self, path):
        self.path = Path(path)
    def export(self, format, dynamic):
        if self.path.read_bytes() != b"weights":
            raise ValueError("invalid load key")
        self.path.with_suffix(".onnx").write_bytes(b"exported")
"""


def test_a_checkpoint_is_exported_by_ultralytics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ultralytics.py").write_text(ULTRALYTICS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    checkpoint = tmp_path / "best.pt"
    checkpoint.write_bytes(b"weights")
    (tmp_path / "export").mkdir()
    assert run_export(sys.executable, checkpoint, tmp_path / "export") == b"exported"
    checkpoint.write_bytes(b"other")
    (tmp_path / "again").mkdir()
    with pytest.raises(InputError, match=r"cannot export .*best\.pt: ValueError: invalid load key"):
        run_export(sys.executable, checkpoint, tmp_path / "again")
