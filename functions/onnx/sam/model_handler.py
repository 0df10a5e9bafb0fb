"""SAM as two ONNX files: the encoder, once for each image, and the decoder, for each prompt."""

import math
import os
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
from PIL import Image

# The published constants, with which all checkpoints were trained.
MEAN = np.array([123.675, 116.28, 103.53], np.float32)
DEVIATION = np.array([58.395, 57.12, 57.375], np.float32)
DEFAULT_SIDE = 1024
# The largest ratio of the sides of an image.
MOST_EXTREME = 40
# Labels of points: beside the object, on it, the corners of a box, and a point that is none.
BESIDE, ON, TOP_LEFT, BOTTOM_RIGHT, NONE = 0, 1, 2, 3, -1
INPUTS = {"image_embeddings", "point_coords", "point_labels"}
OPTIONAL_INPUTS = {"mask_input", "has_mask_input", "orig_im_size"}


class ModelError(SystemExit):
    """The model cannot be served: ends the worker with this message and without a traceback."""


class ModelHandler:
    def __init__(self, storage):
        self.encoder = open_session(find_file(Path(storage), "encoder"))
        self.decoder = open_session(find_file(Path(storage), "decoder"))
        self.device = self.encoder.get_providers()[0].replace("ExecutionProvider", "")
        self.pixels = self.encoder.get_inputs()[0]
        if len(self.pixels.shape) != 4:
            raise ModelError("the encoder takes images as 1 x 3 x 1024 x 1024, already normalized")
        # A size that is not fixed has a name.
        side = self.pixels.shape[3]
        self.side = side if isinstance(side, int) else DEFAULT_SIDE
        self.inputs = {item.name: item for item in self.decoder.get_inputs()}
        remedy = "export it with scripts/export_onnx_model.py of segment-anything"
        missing = INPUTS - set(self.inputs)
        if missing:
            raise ModelError(f"the decoder has no input {', '.join(sorted(missing))}: {remedy}")
        unknown = set(self.inputs) - INPUTS - OPTIONAL_INPUTS
        if unknown:
            raise ModelError(f"the decoder needs {', '.join(sorted(unknown))}, too: {remedy}")

    def embed(self, image):
        """Return the size of an RGB image and its embedding."""
        wide = widened(image)
        pixels = prepare(wide, self.side).astype(array_type(self.pixels))
        embedding = self.encoder.run(None, {self.pixels.name: pixels})[0]
        return {
            "size": list(image.shape[:2]),
            "encoded_size": list(wide.shape[:2]),
            "embedding": embedding,
        }

    def predict(self, frame, positive, negative, box):
        """Return the mask (H x W) of what the prompt describes, and the estimate of its IoU."""
        height, width = frame["encoded_size"]
        corners = [] if box is None else np.reshape(box, (2, 2))
        # Without a box, the decoder expects another point.
        ends = [[0, 0]] if box is None else corners
        points = np.concatenate([np.reshape(part, (-1, 2)) for part in (positive, negative, ends)])
        labels = [ON] * len(positive) + [BESIDE] * len(negative)
        labels += [NONE] if box is None else [TOP_LEFT, BOTTOM_RIGHT]
        small_height, small_width = scaled_size(height, width, self.side)
        points = points * [small_width / width, small_height / height]
        low = self.side // 4
        values = {
            "image_embeddings": frame["embedding"],
            "point_coords": points[None],
            "point_labels": np.array([labels]),
            "mask_input": np.zeros((1, 1, low, low)),
            "has_mask_input": np.zeros(1),
            "orig_im_size": np.array([height, width]),
        }
        inputs = {
            name: np.ascontiguousarray(values[name], array_type(item))
            for name, item in self.inputs.items()
        }
        masks, scores = self.decoder.run(None, inputs)[:2]
        # Of four masks, the first is for prompts that are not ambiguous: more than a click.
        is_ambiguous = box is None and len(positive) + len(negative) == 1
        kept = np.arange(masks.shape[1])
        if len(kept) == 4:
            kept = kept[1:] if is_ambiguous else kept[:1]
        best = kept[scores[0, kept].argmax()]
        rows, columns = frame["size"]
        mask = masks[0, best].astype(np.float32)
        if "orig_im_size" not in self.inputs:
            mask = restore(mask, self.side, (small_height, small_width), (height, width))
        return mask[:rows, :columns] > 0, float(np.clip(scores[0, best], 0, 1))


def open_session(path):
    options = onnxruntime.SessionOptions()
    # Each worker is a process: with more threads they would only disturb one another.
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS") or 1)
    available = onnxruntime.get_available_providers()
    wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
    providers = [name for name in wanted if name in available]
    if len(providers) > 1 and hasattr(onnxruntime, "preload_dlls"):
        # CUDA's libraries are packages of pip.
        onnxruntime.preload_dlls()
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    # Its classes of errors are not public.
    except Exception as problem:  # noqa: BLE001
        raise ModelError(f"{path} is not a model for ONNX Runtime: {problem}") from None


def find_file(folder, part):
    """Return the ONNX file of the folder whose name has `part` in it."""
    paths = sorted(folder.rglob("*.onnx")) if folder.is_dir() else []
    files = [path for path in paths if part in path.name.lower()]
    if len(files) != 1:
        names = ", ".join(path.name for path in paths) or "no *.onnx"
        raise ModelError(
            f"{folder} has {names} instead of one file *{part}*.onnx: STORAGE_URI names a folder"
            " with an encoder and a decoder"
        )
    return files[0]


def array_type(item):
    """Return the NumPy type of an input."""
    types = {"tensor(float16)": np.float16, "tensor(int64)": np.int64, "tensor(int32)": np.int32}
    return types.get(item.type, np.float32)


def widened(image):
    """Return the image without a side so short that scaling the image would leave nothing of it."""
    height, width = image.shape[:2]
    least = math.ceil(max(height, width) / MOST_EXTREME)
    missing = max(0, least - height), max(0, least - width)
    return np.pad(image, ((0, missing[0]), (0, missing[1]), (0, 0)), "edge")


def scaled_size(height, width, side):
    """Return height and width of an image whose longer side is scaled."""
    scale = side / max(height, width)
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def prepare(image, side):
    """Return the image scaled and normalized in the upper left corner of a square of zeros."""
    height, width = scaled_size(*image.shape[:2], side)
    scaled = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    square = np.zeros((1, 3, side, side), np.float32)
    square[0, :, :height, :width] = ((np.asarray(scaled) - MEAN) / DEVIATION).transpose(2, 0, 1)
    return square


def restore(mask, side, scaled, size):
    """Return the mask of a padded square as one of an image's size (height, width).

    `scaled` is the size of the image in the square, whose sides are `side`.
    """
    square = cv2.resize(mask, (side, side), interpolation=cv2.INTER_LINEAR)
    part = np.ascontiguousarray(square[: scaled[0], : scaled[1]])
    return cv2.resize(part, size[::-1], interpolation=cv2.INTER_LINEAR)
