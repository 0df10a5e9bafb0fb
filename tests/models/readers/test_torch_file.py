"""Files of torch are recognized before packages are installed and without running their code."""

from __future__ import annotations

import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from fnbuild.errors import InputError
from fnbuild.models.readers.description import ModelOptions
from fnbuild.models.readers.model_source import describe_model
from fnbuild.models.readers.torch_file import check_checkpoint, is_torchscript

Options = dict[str, Any]
Save = Callable[..., Path]


@pytest.fixture
def saved(tmp_path: Path) -> Iterator[Save]:
    """Return `save(module, **options)`: a checkpoint with an object of a class of the module."""
    added: list[str] = []

    def save(module: str, **options: Any) -> Path:
        names = [module.rsplit(".", i)[0] for i in range(module.count(".") + 1)]
        for name in names:
            added.append(name)
            sys.modules[name] = types.ModuleType(name)
        network = type("Net", (), {"__module__": module, "__qualname__": "Net"})
        sys.modules[module].Net = network  # type: ignore[attr-defined]
        path = tmp_path / "best.pt"
        torch.save({"model": network(), "weights": torch.zeros(3)}, path, **options)
        return path

    yield save
    for name in added:
        sys.modules.pop(name, None)


OLD: Options = {"_use_new_zipfile_serialization": False}


@pytest.mark.parametrize(
    "options", [{}, OLD, {"pickle_protocol": 4}, {**OLD, "pickle_protocol": 4}]
)
def test_a_checkpoint_of_ultralytics_is_accepted(saved: Save, options: Options) -> None:
    check_checkpoint(saved("ultralytics.nn.tasks", **options))


@pytest.mark.parametrize("options", [{}, OLD, {**OLD, "pickle_protocol": 4}])
def test_a_checkpoint_of_yolov5_is_exported_in_its_repository(
    saved: Save, options: Options
) -> None:
    with pytest.raises(InputError, match="checkpoint of the code of YOLOv5") as caught:
        check_checkpoint(saved("models.yolo", **options))
    assert "export.py" in str(caught.value.hint)


def test_a_checkpoint_of_another_class(saved: Save) -> None:
    with pytest.raises(InputError, match=r"has objects of my_package\.network: it is no"):
        check_checkpoint(saved("my_package.network"))


@pytest.mark.parametrize("options", [{}, OLD])
def test_weights_alone_are_refused_without_an_installation(
    tmp_path: Path, options: Options
) -> None:
    path = tmp_path / "weights.pt"
    torch.save(OrderedDict(torch.nn.Linear(2, 2).state_dict()), path, **options)
    with pytest.raises(InputError, match="has weights alone") as caught:
        describe_model(str(path), ModelOptions(), pytest.fail)
    assert "ONNX" in str(caught.value.hint)


def test_code_of_a_checkpoint_does_not_run(tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "ran",))

    torch.save(Harmful(), tmp_path / "best.pt")
    with pytest.raises(InputError):
        check_checkpoint(tmp_path / "best.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"text", b"<html>", b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", pickle.dumps([1])],
)
def test_another_file_is_one_clear_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "best.pt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"best\.pt is neither a checkpoint of Ultralytics nor"):
        describe_model(str(path), ModelOptions(), pytest.fail)


def test_an_archive_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "best.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("src/code/readme.txt", "text")
    assert not is_torchscript(path)
    with pytest.raises(InputError, match="is neither a checkpoint"):
        check_checkpoint(path)


def test_a_checkpoint_that_was_copied_in_part(saved: Save) -> None:
    path = saved("ultralytics.nn.tasks", **OLD)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(InputError, match="or it is incomplete"):
        check_checkpoint(path)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_traced_network_is_torchscript(tmp_path: Path) -> None:
    path = tmp_path / "best.pt"
    torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)).save(str(path))
    assert is_torchscript(path)
