"""A detection model of transformers: an image in, boxes with the model's own labels out."""

import math
import os
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from transformers import AutoImageProcessor, AutoModelForObjectDetection
from transformers.utils import logging

# Without torchvision, transformers would warn that it prepares images with Pillow.
logging.set_verbosity_error()
logging.disable_progress_bar()

# The largest ratio of the sides of an image.
MOST_EXTREME = 40
# ImportError: the model needs a package, such as timm.
LOAD_ERRORS = (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError)


class ModelError(SystemExit):
    """The model cannot be served: ends the worker with this message and without a traceback."""


class ModelHandler:
    def __init__(self, storage):
        if "OMP_NUM_THREADS" not in os.environ:
            # Each worker is a process: with more threads they would only disturb one another.
            torch.set_num_threads(1)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        folder = find_model(Path(storage))
        try:
            self.processor = AutoImageProcessor.from_pretrained(
                folder, local_files_only=True, backend="pil"
            )
            self.network, report = AutoModelForObjectDetection.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, output_loading_info=True
            )
        except LOAD_ERRORS as problem:
            reason = " ".join(str(problem).split())
            raise ModelError(f"{folder} has no model for object detection: {reason}") from None
        if report["missing_keys"]:
            # Their values would be random.
            names = sorted(report["missing_keys"])
            raise ModelError(f"the weights in {folder} lack {len(names)} tensors, as {names[0]}")
        self.network.to(self.device).eval()
        self.labels = self.network.config.id2label

    def infer(self, image, threshold):
        """Return the boxes (N x 4), labels and scores of an RGB image."""
        image = widened(image)
        inputs = self.processor(
            images=image, return_tensors="pt", input_data_format="channels_last"
        ).to(self.device)
        with torch.inference_mode(), torch.autocast("cuda", enabled=self.device.type == "cuda"):
            outputs = self.network(**inputs)
        result = self.processor.post_process_object_detection(
            outputs, threshold, target_sizes=[image.shape[:2]]
        )[0]
        labels = [self.labels[number] for number in result["labels"].tolist()]
        return (
            result["boxes"].float().cpu().numpy(),
            labels,
            result["scores"].float().cpu().numpy(),
        )


def widened(image):
    """Return the image without a side so short that scaling the image would leave nothing of it."""
    height, width = image.shape[:2]
    least = math.ceil(max(height, width) / MOST_EXTREME)
    missing = max(0, least - height), max(0, least - width)
    return np.pad(image, ((0, missing[0]), (0, missing[1]), (0, 0)), "edge")


def find_model(storage):
    """Return the folder with the model: `storage`, or the only folder with a model in it."""
    paths = [storage, *sorted(storage.iterdir())] if storage.is_dir() else []
    folders = [path for path in paths if (path / "config.json").is_file()]
    if len(folders) != 1:
        raise ModelError(
            f"{storage} has {len(folders) or 'no'} folders with a config.json instead of one: "
            "STORAGE_URI names a model that was saved by save_pretrained, as hf://OWNER/MODEL"
        )
    return folders[0]
