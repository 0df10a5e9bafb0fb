"""The package `ts` that archives import: the base of handlers, labels, metrics and envelopes."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from fnbuild.runtime.torchserve import handler_api
from fnbuild.runtime.torchserve.base_handler import BaseHandler, _compile_options
from fnbuild.runtime.torchserve.context import Context
from fnbuild.runtime.torchserve.imports import provide_packages
from fnbuild.runtime.torchserve.metrics import Dimension, Metrics, MetricsStore

NETWORK = """
import torch
from torch.nn import Linear

class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = Linear(2, 1)

    def forward(self, data):
        return self.layer(data)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("network", None)


def initialize(folder: Path, **model: str) -> BaseHandler:
    lines: list[str] = []
    properties = {"model_dir": str(folder), "gpu_id": None}
    context = Context("m", {"model": model}, properties, {}, Metrics("m", lines.append))
    handler = BaseHandler()
    handler.initialize(context)
    context.begin(["id"], [{}])
    handler.context = context
    return handler


def test_an_eager_model_needs_one_class_and_takes_its_weights(folder: Path) -> None:
    (folder / "network.py").write_text(NETWORK)
    weights = {"layer.weight": torch.tensor([[1.0, 2.0]]), "layer.bias": torch.tensor([0.5])}
    torch.save(weights, folder / "weights.pth")
    handler = initialize(folder, modelFile="network.py", serializedFile="weights.pth")
    assert handler.handle([[1.0, 1.0], [2.0, 0.0]], handler.context) == [[3.5], [2.5]]
    assert (handler.map_location, str(handler.get_device())) == ("cpu", "cpu")


def test_a_model_file_with_two_classes_is_refused_by_name(folder: Path) -> None:
    (folder / "network.py").write_text(NETWORK + "\nclass Other(Network):\n    pass\n")
    with pytest.raises(ValueError, match=r"network\.py must define one class, .*: Network, Other"):
        initialize(folder, modelFile="network.py")


def test_an_archive_without_a_model_says_which_files_it_needs(folder: Path) -> None:
    with pytest.raises(RuntimeError, match=r"a file \.pt of TorchScript"):
        initialize(folder, serializedFile="model.bin")


@pytest.mark.parametrize(
    ("setting", "options"),
    [
        (None, None),
        ("inductor", {"backend": "inductor"}),
        ({"backend": "eager", "mode": "default"}, {"backend": "eager", "mode": "default"}),
        ({"compile": {"enable": True, "backend": "eager"}}, {"backend": "eager"}),
        ({"compile": {"enable": False, "backend": "eager"}}, None),
        ({"export": {"aot_compile": True}}, None),
    ],
)
def test_settings_of_compilation(setting: Any, options: Any) -> None:
    assert _compile_options(setting) == options


@pytest.mark.parametrize(
    ("content", "labels"),
    [
        ({"0": "cat", "1": ["n1", "dog"]}, {"0": "cat", "1": "dog"}),
        ({"object_type_names": ["cat", "dog"]}, {"0": "cat", "1": "dog"}),
    ],
)
def test_labels_of_every_form_are_read(tmp_path: Path, content: Any, labels: Any) -> None:
    path = tmp_path / "index_to_name.json"
    assert handler_api.load_label_mapping(str(path)) is None
    path.write_text(json.dumps(content))
    assert handler_api.load_label_mapping(str(path)) == labels


@pytest.mark.parametrize("content", [["cat"], {"0": 1}])
def test_invalid_labels_are_refused_with_their_file(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "index_to_name.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"index_to_name\.json"):
        handler_api.load_label_mapping(str(path))


def test_probabilities_get_labels() -> None:
    mapping = {"0": "cat", "1": "dog"}
    assert handler_api.map_class_to_label([[0.2, 0.8]]) == [{"0": 0.2, "1": 0.8}]
    assert handler_api.map_class_to_label([[0.8, 0.2]], mapping, [[1, 0]]) == [
        {"dog": 0.8, "cat": 0.2}
    ]


def test_metrics_are_lines_of_the_log() -> None:
    lines: list[str] = []
    metrics = MetricsStore("m", lines.append)
    metrics.add_counter("Calls", 2, None, [Dimension("Part", "a")])
    metrics.add_time("Read", 1.5, 0, "s")
    metrics.add_size("Body", 3)
    metrics.add_percent("Share", 50)
    metrics.add_error("Failure", "text")
    metrics.add_metric("Own", 1, "things", dimensions=[])
    metrics.add_metric_to_cache("Kept", "ms", ["Part"])
    metrics.get_metric("Kept").add_or_update(4, ["b"])
    suffix = "ModelName:m,Level:Model"
    assert lines == [
        f"Calls.count:2|#Part:a,{suffix}",
        f"Read.s:1.5|#{suffix}",
        f"Body.MB:3|#{suffix}",
        f"Share.percent:50|#{suffix}",
        f"Failure.unit:text|#{suffix}",
        f"Own.things:1|#{suffix}",
        f"Kept.ms:4|#Part:b,{suffix}",
    ]
    with pytest.raises(ValueError, match="the unit is one of ms, s"):
        metrics.add_time("Read", 1, None, "minutes")


def test_handlers_import_the_package_by_its_own_names(monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(sys.modules)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    provide_packages()
    try:
        ts = importlib.import_module("ts")
        assert ts.__version__ == "0.12.0"
        assert ts.context.Context is Context
        assert issubclass(ts.torch_handler.image_classifier.ImageClassifier, BaseHandler)
        envelopes = importlib.import_module("ts.torch_handler.request_envelope.base")
        assert envelopes.BaseEnvelope.__name__ == "BaseEnvelope"
        codec = importlib.import_module("ts.protocol.otf_message_handler")
        assert callable(codec.send_intermediate_predict_response)
        with pytest.raises(ModuleNotFoundError, match=r"add torchserve to requirements\.txt"):
            importlib.import_module("ts.llm_launcher")
    finally:
        for name in set(sys.modules) - before:
            if name.partition(".")[0] == "ts":
                del sys.modules[name]
