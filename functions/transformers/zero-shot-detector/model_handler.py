"""Zero-shot detection with transformers: an image and prompts in, boxes with their prompt out."""

import math
import os
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from transformers import (
    AutoImageProcessor,
    AutoModelForZeroShotObjectDetection,
    AutoTokenizer,
)
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
        options = {"local_files_only": True}
        try:
            self.processor = AutoImageProcessor.from_pretrained(folder, backend="pil", **options)
            self.tokenizer = AutoTokenizer.from_pretrained(folder, **options)
            self.network, report = AutoModelForZeroShotObjectDetection.from_pretrained(
                folder, use_safetensors=True, output_loading_info=True, **options
            )
        except LOAD_ERRORS as problem:
            reason = " ".join(str(problem).split())
            raise ModelError(f"{folder} has no model for zero-shot detection: {reason}") from None
        if report["missing_keys"]:
            # Their values would be random.
            names = sorted(report["missing_keys"])
            raise ModelError(f"the weights in {folder} lack {len(names)} tensors, as {names[0]}")
        self.network.to(self.device).eval()
        # OWL encodes each prompt by itself; Grounding DINO reads one text with all of them.
        self.reads_one_text = hasattr(self.network.config, "max_text_len")

    def infer(self, image, prompts, threshold):
        """Return the boxes (N x 4), positions in `prompts` and scores of an RGB image."""
        image = widened(image)
        pixels = self.processor(
            images=image, return_tensors="pt", input_data_format="channels_last"
        ).to(self.device)
        infer = self._infer_text if self.reads_one_text else self._infer_queries
        detections, first = [], 0
        with torch.inference_mode(), torch.autocast("cuda", enabled=self.device.type == "cuda"):
            for group in self._groups(prompts):
                boxes, labels, scores = infer(pixels, group, threshold, image.shape[:2])
                detections.append((boxes.float().cpu(), labels.cpu() + first, scores.float().cpu()))
                first += len(group)
        return [torch.cat(parts).numpy() for parts in zip(*detections, strict=True)]

    def _infer_queries(self, pixels, prompts, threshold, size):
        length = self.network.config.text_config.max_position_embeddings
        texts = self.tokenizer(
            prompts, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        ).to(self.device)
        outputs = self.network(
            pixel_values=pixels["pixel_values"],
            input_ids=texts["input_ids"],
            attention_mask=texts["attention_mask"],
        )
        result = self.processor.post_process_object_detection(
            outputs, threshold, target_sizes=[size]
        )[0]
        return result["boxes"], result["labels"], result["scores"]

    def _infer_text(self, pixels, prompts, threshold, size):
        phrases = [as_phrase(prompt) for prompt in prompts]
        text = self.tokenizer(" ".join(phrases), return_offsets_mapping=True, return_tensors="pt")
        places = text.pop("offset_mapping")[0]
        outputs = self.network(**pixels, **text.to(self.device))
        probabilities = outputs.logits[0].sigmoid()
        # The score of a prompt is that of its most probable token; the full stop is not one.
        scores, start = [], 0
        for phrase in phrases:
            end = start + len(phrase) - 1
            tokens = (places[:, 0] >= start) & (places[:, 1] <= end) & (places[:, 1] > start)
            scores.append((probabilities[:, : len(tokens)] * tokens.to(self.device)).amax(1))
            start = end + 2
        best, labels = torch.stack(scores, 1).max(1)
        middle, half = outputs.pred_boxes[0, :, :2], outputs.pred_boxes[0, :, 2:] / 2
        scale = torch.tensor([size[1], size[0]] * 2, device=self.device)
        boxes = torch.cat([middle - half, middle + half], 1) * scale
        kept = best > threshold
        return boxes[kept], labels[kept], best[kept]

    def _groups(self, prompts):
        """Yield the prompts in groups that fit into one text."""
        room = self.network.config.max_text_len - 2 if self.reads_one_text else math.inf
        group, used = [], 0
        for prompt in prompts:
            length = len(self.tokenizer(as_phrase(prompt))["input_ids"]) - 2
            if group and used + length > room:
                yield group
                group, used = [], 0
            group.append(prompt)
            used += length
        yield group


def as_phrase(prompt):
    """Return the prompt as Grounding DINO was trained with: in lower case, up to a full stop."""
    return " ".join(prompt.lower().replace(".", " ").replace("?", " ").split()) + "."


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
