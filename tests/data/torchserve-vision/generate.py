"""Write the models and the images, and the replies of TorchServe's own handlers to them.

    uv venv --python 3.11 golden
    uv pip install --python golden torchserve==0.12.0 torch==2.13.0 torchvision==0.28.0 \
        captum==0.9.0 numpy==2.4.6 pillow==13.0.0 pyyaml==6.0.3
    golden/bin/python tests/data/torchserve-vision/generate.py

The handlers are those of the package torchserve with the transforms of torchvision. The files of
this folder come from this script; run it again only for another release of TorchServe.
"""

import base64
import io
import json
import sys
from contextlib import suppress
from pathlib import Path

import numpy
import torch
from PIL import Image

FOLDER = Path(__file__).parent
LABELS = {str(number): "class %d" % number for number in range(8)}
SIZES = {"portrait.jpg": (120, 200), "landscape.jpg": (411, 300), "small.png": (57, 40)}


class Classifier(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.features = torch.nn.Conv2d(3, 6, 9, stride=13)
        self.classes = torch.nn.Linear(6 * 17 * 17, 8)

    def forward(self, images):
        return 4 * self.classes(self.features(images).flatten(1))


class Detector(torch.nn.Module):
    def forward(self, images):
        results: list[dict[str, torch.Tensor]] = []
        for image in images:
            height, width = float(image.shape[1]), float(image.shape[2])
            means = image.mean(dim=(1, 2))
            boxes = torch.tensor([[0.0, 0.0, width, height]]).repeat(3, 1) * means[:, None]
            scores = torch.stack([means[0] + 0.5, means[1] * 0.5, means[2] + 0.4])
            results.append({"boxes": boxes, "labels": torch.tensor([0, 1, 2]), "scores": scores})
        return results


class Segmenter(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 4, 5, padding=2)

    def forward(self, images):
        return {"out": 3 * self.layer(images), "aux": images}


def write_models():
    torch.manual_seed(20)
    for name, model in (
        ("image_classifier", Classifier()),
        ("object_detector", Detector()),
        ("image_segmenter", Segmenter()),
    ):
        torch.jit.script(model.eval()).save(str(FOLDER / (name + ".pt")))
    (FOLDER / "index_to_name.json").write_text(json.dumps(LABELS) + "\n")


def write_images():
    random = numpy.random.default_rng(20)
    for name, (width, height) in SIZES.items():
        coarse = random.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=numpy.uint8)
        image = Image.fromarray(coarse).resize((width, height), Image.BICUBIC)
        image.save(FOLDER / name, quality=90)


def make_handler(name):
    # torchvision's compiled operators need CUDA's libraries, and its transforms do not.
    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        with suppress(RuntimeError):
            library.define(operator + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from importlib import import_module

    from ts.context import Context, RequestProcessor
    from ts.metrics.metrics_store import MetricsStore

    manifest = {"model": {"modelName": name, "serializedFile": name + ".pt"}}
    metrics = MetricsStore({}, name)
    context = Context(name, str(FOLDER), manifest, 1, None, "0.12.0", True, metrics, {})
    context.request_processor = [RequestProcessor({}) for _ in range(4)]
    module = import_module("ts.torch_handler." + name)
    handler = getattr(module, "".join(word.capitalize() for word in name.split("_")))()
    handler.initialize(context)
    return handler, context


def replies(name):
    handler, context = make_handler(name)
    results = {}
    for image in SIZES:
        data = (FOLDER / image).read_bytes()
        (reply,) = handler.handle([{"body": bytearray(data)}], context)
        tensor = handler.preprocess([{"data": bytearray(data)}])[0]
        results[image] = {
            "reply": shortened(reply) if name == "image_segmenter" else reply,
            "shape": list(tensor.shape),
            "sums": tensor.double().sum(dim=(1, 2)).tolist(),
            "pixels": tensor[:, ::32, ::32].flatten().tolist(),
        }
    data = (FOLDER / "small.png").read_bytes()
    text = base64.b64encode(data).decode()
    assert handler.handle([{"body": text}], context) == handler.handle([{"data": data}], context)
    return results


def shortened(reply):
    return [row[::32] for row in reply[::32]]


def main():
    write_images()
    write_models()
    names = ("image_classifier", "object_detector", "image_segmenter")
    golden = {name: replies(name) for name in names}
    (FOLDER / "golden.json").write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
