"""Export models of Ultralytics with random weights, whose scores are spread over pictures.

python models.py FOLDER PICTURE... [--only NAME]
"""

import argparse
import shutil
from pathlib import Path

import cv2
import numpy as np
import torch
import torchvision_ops  # noqa: F401
from ultralytics import YOLO

SIZE = 640
MODELS = {
    "yolov5n": ("yolov5n.yaml", {}),
    "yolov8n": ("yolov8n.yaml", {}),
    "yolov8n-dynamic": ("yolov8n.yaml", {"dynamic": True}),
    "yolov8n-half": ("yolov8n.yaml", {"half": True}),
    "yolov8n-pose": ("yolov8n-pose.yaml", {}),
    "yolov8n-obb": ("yolov8n-obb.yaml", {}),
    "yolov8n-cls": ("yolov8n-cls.yaml", {}),
    "yolov9t": ("yolov9t.yaml", {}),
    "yolov10n-end2end": ("yolov10n.yaml", {"nms": False}),
    "yolo11n": ("yolo11n.yaml", {}),
    "yolo12n": ("yolo12n.yaml", {}),
    "yolo26n-end2end": ("yolo26n.yaml", {"nms": False}),
    "yolo26n-pose-end2end": ("yolo26n-pose.yaml", {"nms": False}),
    "yolo26n-obb-end2end": ("yolo26n-obb.yaml", {"nms": False}),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("pictures", nargs="+")
    parser.add_argument("--only")
    options = parser.parse_args()
    images = [cv2.resize(cv2.imread(name), (SIZE, SIZE)) for name in options.pictures]
    pixels = np.stack(images)[..., ::-1].transpose(0, 3, 1, 2) / 255
    options.folder.mkdir(parents=True, exist_ok=True)
    for name, (configuration, arguments) in MODELS.items():
        target = options.folder / f"{name}.onnx"
        if options.only in (None, name) and not target.exists():
            torch.manual_seed(3)
            model = YOLO(configuration)
            spread_scores(model.model, torch.from_numpy(pixels.copy()).float())
            size = 224 if name.endswith("-cls") else SIZE
            shutil.move(model.export(format="onnx", imgsz=size, **arguments), target)


def spread_scores(network, images):
    """Adapt normalization to the images, and the last layer of classes so that few are sure."""
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
            module.reset_running_stats()
    with torch.no_grad():
        network.train()(images)
        network.eval()
        head = network.model[-1]
        for group in ("cv3", "one2one_cv3"):
            for layers in getattr(head, group, None) or []:
                spread_layer(network, layers[-1], images)


def spread_layer(network, layer, images):
    outputs = []
    hook = layer.register_forward_hook(lambda *items: outputs.append(items[-1]))
    network(images)
    hook.remove()
    scale = 1.2 / outputs[0].std()
    mean = outputs[0].mean((0, 2, 3))
    layer.bias.copy_((layer.bias - mean) * scale - (6.2 if len(mean) > 10 else 4))
    layer.weight.mul_(scale)


if __name__ == "__main__":
    main()
