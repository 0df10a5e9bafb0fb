"""SAM 2 in two parts: the encoder, once for each image, and the decoder, for each prompt."""

import os
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from torch.nn import functional
from transformers import Sam2Model
from transformers.utils import logging

logging.set_verbosity_error()
logging.disable_progress_bar()

# The published constants of ImageNet, with which all checkpoints were trained.
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
DEVIATION = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
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
            self.network, report = Sam2Model.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, output_loading_info=True
            )
        except LOAD_ERRORS as problem:
            reason = " ".join(str(problem).split())
            raise ModelError(f"{folder} has no model of SAM 2: {reason}") from None
        if report["missing_keys"]:
            # Their values would be random.
            names = sorted(report["missing_keys"])
            raise ModelError(f"the weights in {folder} lack {len(names)} tensors, as {names[0]}")
        self.network.to(self.device).eval()
        self.side = self.network.prompt_encoder.input_image_size

    def embed(self, image):
        """Return what the decoder needs of an RGB image, as arrays."""
        with torch.inference_mode(), self._half_precision():
            pixels = prepare(image, self.side).to(self.device)
            features = self.network.get_image_embeddings(pixels[None])
        arrays = [feature.cpu().numpy() for feature in features]
        return {"size": list(image.shape[:2]), "features": arrays}

    def predict(self, embedding, positive, negative, boxes):
        """Return masks of the image's size with the model's estimate of their IoU, the best first.

        Points are N x 2 and describe one object. Each box is an object of its own, but one box may
        come with points.
        """
        height, width = embedding["size"]
        # A copy: the arrays may be read-only views of the shared memory.
        features = [torch.tensor(array, device=self.device) for array in embedding["features"]]
        scale = np.array([self.side / width, self.side / height])
        points = np.concatenate([np.reshape(positive, (-1, 2)), np.reshape(negative, (-1, 2))])
        labels = [1] * len(positive) + [0] * len(negative)
        prompt = {}
        if len(points):
            prompt["input_points"] = self._tensor(points * scale)[None, None]
            prompt["input_labels"] = torch.tensor([[labels]], device=self.device)
        if len(boxes):
            corners = np.reshape(boxes, (-1, 2, 2)) * scale
            prompt["input_boxes"] = self._tensor(corners).reshape(1, -1, 4)
        # One click may mean a part or the whole: the most certain of three masks is the answer.
        is_ambiguous = len(points) == 1 and not len(boxes)
        with torch.inference_mode(), self._half_precision():
            outputs = self.network(
                image_embeddings=features, multimask_output=is_ambiguous, **prompt
            )
        scores, best = outputs.iou_scores[0].float().max(1)
        logits = outputs.pred_masks[0].float()[torch.arange(len(best)), best]
        return to_masks(logits, (height, width)), scores.clamp(0, 1).cpu().numpy()

    def _tensor(self, values):
        return torch.tensor(values, dtype=torch.float32, device=self.device)

    def _half_precision(self):
        return torch.autocast("cuda", torch.float16, enabled=self.device.type == "cuda")


def prepare(image, side):
    """Return the image scaled to a square, whatever its ratio, and normalized."""
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
    square = functional.interpolate(
        pixels, (side, side), mode="bilinear", align_corners=False, antialias=True
    )[0]
    return (square.float() / 255 - MEAN) / DEVIATION


def to_masks(logits, size):
    """Return masks (N x H x W) of an image's size for the logits of the decoder."""
    scaled = functional.interpolate(logits[None], size, mode="bilinear", align_corners=False)
    return (scaled[0] > 0).cpu().numpy()


def find_model(storage):
    """Return the folder with the model: `storage`, or the only folder with a model in it."""
    paths = [storage, *sorted(storage.iterdir())] if storage.is_dir() else []
    folders = [path for path in paths if (path / "config.json").is_file()]
    if len(folders) != 1:
        raise ModelError(
            f"{storage} has {len(folders) or 'no'} folders with a config.json instead of one: "
            "STORAGE_URI names a model such as hf://facebook/sam2.1-hiera-small"
        )
    return folders[0]
