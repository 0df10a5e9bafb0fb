"""Archives by the real torch-model-archiver, for TorchServe and for the processor."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch

from tests.torchserve_server import archive

ROWS = """
def handle(data, context):
    if data is None:
        return None
    names = ("explain", "url_path", "X-My", "x-my", *data[0])
    return [
        {
            "row": {name: [type(value).__name__, repr(value)] for name, value in row.items()},
            "headers": {name: context.get_request_header(index, name) for name in names},
        }
        for index, row in enumerate(data)
    ]
"""

REPLIES = """
import torch
from ts.utils.util import PredictionException

def respond(data, context):
    if data is None:
        return None
    word = (data[0].get("data") or data[0].get("body") or b"").decode()
    if word in ERRORS:
        raise ERRORS[word]
    if word.startswith("status "):
        context.set_response_status(int(word[7:]), "phrase", 0)
        return ["its own body"]
    if word == "headers":
        context.set_response_content_type(0, "text/html")
        context.set_response_header(0, "X-Own", "value")
        return ["<p>"]
    return RESULTS[word] if word in RESULTS else [word]

CIRCULAR = []
CIRCULAR.append(CIRCULAR)
ERRORS = {
    "ValueError": ValueError("boom"),
    "CUDA": RuntimeError("CUDA error: out of memory"),
    "MemoryError": MemoryError(),
    "400": PredictionException("it's <not> valid & \\u00e9", 400),
    "413": PredictionException("too large", 413),
    "513": PredictionException("own code", 513),
    "500": PredictionException("no code"),
}
RESULTS = {
    "dict": {"a": 1},
    "tuple": ("a",),
    "length": [1, 2],
    "object": [object()],
    "key": [{(1, 2): 3}],
    "None": [None],
    "text": ["h\\u00e9 \\u2028"],
    "bytes": [b"\\x00\\xff"],
    "bytearray": [bytearray(b"ab")],
    "empty": [""],
    "nested": [{"a": [1, 2.5, None, True], "\\u00e9": "<\\u00e9>", "nan": float("nan")}],
    "number": [3],
    "tensor": [torch.arange(3)],
    "numpy": [torch.arange(3).numpy()[0]],
}
"""

DIGITS = """
import os

import torch
from labels import upper
from ts.torch_handler.base_handler import BaseHandler
from ts.utils.util import map_class_to_label


class Digits(BaseHandler):
    def initialize(self, context):
        super().initialize(context)
        with open(os.path.join(context.system_properties["model_dir"], "notes.txt")) as file:
            self.notes = file.read().strip()
        self.size = context.system_properties["batch_size"]
        self.scale = self.model_yaml_config["handler"]["scale"]

    def preprocess(self, data):
        self.count = len(data)
        rows = [row.get("data") or row.get("body") for row in data]
        return torch.tensor([row["values"] for row in rows], dtype=torch.float32) * self.scale

    def postprocess(self, data):
        values, classes = torch.topk(torch.softmax(data, 1), 2, 1)
        results = map_class_to_label(values.tolist(), self.mapping, classes.tolist())
        return [
            {"notes": upper(self.notes), "rows": self.count, "size": self.size, "scores": result}
            for result in results
        ]

    def get_insights(self, tensor_data, _, target=0):
        return [{"target": target, "sum": float(tensor_data.sum())}]
"""

NETWORK = """
import torch


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 2)

    def forward(self, data):
        return self.layer(data)
"""

ENVELOPED = """
class Sums:
    def initialize(self, context):
        self.context = context

    def handle(self, data, context):
        return [self.total(item) for item in data]

    def total(self, item):
        if isinstance(item, dict):
            item = item["data"]
        if isinstance(item, (bytes, bytearray)):
            return item.decode()
        return sum(item) if isinstance(item, list) else item
"""

STREAM = """
from ts.handler_utils.utils import send_intermediate_predict_response

def handle(data, context):
    if data is None:
        return None
    for number in range(3):
        items = ["part %d " % number] * len(data)
        ids = context.request_ids
        send_intermediate_predict_response(items, ids, "Intermediate", 200, context)
    return ["end"] * len(data)
"""


def make_archives(folder: Path, store: Path) -> None:
    """Write the archives to the store; `folder` is for their sources."""
    sources = {
        "rows": ROWS,
        "replies": REPLIES,
        "digits": DIGITS,
        "stream": STREAM,
    }
    for name, source in sources.items():
        (folder / f"{name}.py").write_text(source)
    archive("rows", folder / "rows.py", store)
    archive("replies", f"{folder / 'replies'}:respond", store)
    archive("stream", folder / "stream.py", store)
    _make_torch_archives(folder, store)


def _make_torch_archives(folder: Path, store: Path) -> None:
    torch.manual_seed(1)
    layer = torch.nn.Linear(3, 2)
    with warnings.catch_warnings():
        # TorchScript is deprecated, and what archives have.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.trace(layer, torch.zeros(1, 3)).save(folder / "scripted.pt")
    extra = folder / "extra"
    extra.mkdir()
    (extra / "notes.txt").write_text("from the extra folder\n")
    (extra / "labels.py").write_text("def upper(text):\n    return text.upper()\n")
    (folder / "index_to_name.json").write_text('{"0": "zero", "1": ["n1", "one"]}')
    (folder / "model-config.yaml").write_text(
        "minWorkers: 1\nmaxWorkers: 1\nbatchSize: 2\nmaxBatchDelay: 2000\nresponseTimeout: 60\n"
        "handler:\n  scale: 2\n"
    )
    archive(
        *("digits", folder / "digits.py", store),
        *("--serialized-file", str(folder / "scripted.pt")),
        *("--extra-files", f"{extra},{folder / 'index_to_name.json'}"),
        *("--config-file", str(folder / "model-config.yaml")),
    )


def make_enveloped_archives(folder: Path, store: Path) -> None:
    """Write the archives of models that need a request envelope."""
    (folder / "sums.py").write_text(ENVELOPED)
    archive("sums", folder / "sums.py", store)


def make_eager_archive(folder: Path, store: Path) -> None:
    """Write the archive of an eager model with the default handler, which needs an envelope."""
    torch.manual_seed(1)
    weights = {
        f"layer.{name}": tensor for name, tensor in torch.nn.Linear(3, 2).state_dict().items()
    }
    torch.save(weights, folder / "weights.pth")
    (folder / "network.py").write_text(NETWORK)
    archive(
        *("eager", "base_handler", store),
        *("--serialized-file", str(folder / "weights.pth")),
        *("--model-file", str(folder / "network.py")),
    )
