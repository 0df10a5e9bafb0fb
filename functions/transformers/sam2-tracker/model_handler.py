"""SAM 2 for videos, one frame at a time: what it remembers of an object is a value of arrays.

The package keeps a session for a whole video. Here a session is rebuilt for each frame from a few
memories of the object, so that any process can take the next frame.
"""

import os
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors import SafetensorError
from torch.nn import functional
from transformers import Sam2VideoModel
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession
from transformers.utils import logging

logging.set_verbosity_error()
logging.disable_progress_bar()

# The published constants of ImageNet, with which all checkpoints were trained.
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
DEVIATION = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
OBJECT = 1
# Labels of the corners of a box among points.
CORNERS = [[[2, 3]]]
# The largest distance of a polygon from the outline of the mask, in parts of its length.
SIMPLIFICATION = 0.003
# ImportError: the model needs a package, such as timm.
LOAD_ERRORS = (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError)


class ModelError(SystemExit):
    """The model cannot be served: ends the worker with this message and without a traceback."""


class ModelHandler:
    """`memories` is the number of frames that are remembered: the first and the last ones."""

    def __init__(self, storage, memories):
        if "OMP_NUM_THREADS" not in os.environ:
            # Each worker is a process: with more threads they would only disturb one another.
            torch.set_num_threads(1)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        folder = find_model(Path(storage))
        try:
            self.network, report = Sam2VideoModel.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, output_loading_info=True
            )
        except LOAD_ERRORS as problem:
            reason = " ".join(str(problem).split())
            raise ModelError(f"{folder} has no video model of SAM 2: {reason}") from None
        if report["missing_keys"]:
            # Their values would be random.
            names = sorted(report["missing_keys"])
            raise ModelError(f"the weights in {folder} lack {len(names)} tensors, as {names[0]}")
        self.network.to(self.device).eval()
        self.side = self.network.prompt_encoder.input_image_size
        self.memories = max(1, min(memories, self.network.num_maskmem))
        self._set_positions()
        # States of other models do not fit.
        self.form = [self.side, *self._memory_positions.shape]

    def embed(self, image):
        """Return what the other methods need of an RGB image, as arrays."""
        features = self._features(image).fpn_hidden_states
        return {"size": list(image.shape[:2]), "features": [level.cpu() for level in features]}

    def start(self, frame, box=None, mask=None):
        """Return the state of an object in its first frame, from its box or its mask."""
        session = self._session(frame, 0)
        session.obj_id_to_idx(OBJECT)
        height, width = frame["size"]
        scaled = None if mask is None else self._scaled(mask)
        if scaled is not None and scaled.any():
            session.add_mask_inputs(0, 0, scaled)
        else:
            corners = np.reshape(box, (2, 2)) * [self.side / width, self.side / height]
            points = torch.tensor(corners, dtype=torch.float32)[None, None]
            prompt = {"point_coords": points, "point_labels": torch.tensor(CORNERS)}
            session.add_point_inputs(0, 0, prompt)
        session.obj_with_new_inputs = [OBJECT]
        self._run(session, 0)
        memory = [self._remember(session, "cond_frame_outputs", 0)]
        return {"form": self.form, "frame": 0, "memory": memory}

    def follow(self, frame, state):
        """Return the mask of the object (H x W) in the next frame, and its state."""
        number = state["frame"] + 1
        session = self._session(frame, number)
        session.obj_id_to_idx(OBJECT)
        first, *latest = state["memory"]
        outputs = session.output_dict_per_obj[0]
        outputs["cond_frame_outputs"][first["frame"]] = self._recall(first)
        for memory in latest:
            outputs["non_cond_frame_outputs"][memory["frame"]] = self._recall(memory)
        logits = self._run(session, number).pred_masks.float()
        scaled = functional.interpolate(
            logits, tuple(frame["size"]), mode="bilinear", align_corners=False
        )
        latest = [*latest, self._remember(session, "non_cond_frame_outputs", number)]
        kept = latest[-(self.memories - 1) :] if self.memories > 1 else []
        return (scaled[0, 0] > 0).cpu().numpy(), {
            "form": self.form,
            "frame": number,
            "memory": [first, *kept],
        }

    def _features(self, image):
        pixels = prepare(image, self.side).to(self.device)
        with torch.inference_mode(), self._half_precision():
            return self.network.get_image_features(pixels[None], return_dict=True)

    def _set_positions(self):
        """Keep the encodings of positions, which are the same in all frames."""
        outputs = self._features(np.zeros((1, 1, 3), np.uint8))
        self._positions = outputs.fpn_position_encoding
        with torch.inference_mode(), self._half_precision():
            _, self._memory_positions = self.network._encode_new_memory(
                outputs.fpn_hidden_states[-1],
                torch.zeros(1, 1, self.side, self.side, device=self.device),
                torch.ones(1, 1, 1, device=self.device),
                is_mask_from_pts=True,
            )

    def _session(self, frame, number):
        session = Sam2VideoInferenceSession(
            video_height=frame["size"][0],
            video_width=frame["size"][1],
            inference_device=self.device,
            inference_state_device=self.device,
            dtype=torch.float32,
        )
        features = [
            torch.tensor(np.asarray(level), device=self.device) for level in frame["features"]
        ]
        session.cache.cache_vision_features(
            number, {"vision_feats": features, "vision_pos_embeds": self._positions}
        )
        return session

    def _run(self, session, number):
        # The pixels are not read, because the features are in the session's cache.
        pixels = torch.zeros(3, 1, 1)
        with torch.inference_mode(), self._half_precision():
            return self.network(inference_session=session, frame=pixels, frame_idx=number)

    def _remember(self, session, kind, number):
        """Return the memory of a frame, with a byte for each value of its features."""
        output = session.output_dict_per_obj[0][kind][number]
        features = output["maskmem_features"].float()
        scale = features.abs().amax((0, 1)).clamp(min=1e-6) / 127
        return {
            "frame": number,
            "features": (features / scale).round().to(torch.int8).cpu().numpy(),
            "scale": scale.cpu().numpy(),
            "pointer": output["object_pointer"].float().cpu().numpy(),
        }

    def _recall(self, memory):
        arrays = [memory[name] for name in ("features", "scale", "pointer")]
        features, scale, pointer = (torch.tensor(item, device=self.device) for item in arrays)
        return {
            "maskmem_features": features * scale,
            "maskmem_pos_enc": self._memory_positions,
            "object_pointer": pointer,
        }

    def _scaled(self, mask):
        pixels = torch.tensor(mask, dtype=torch.float32, device=self.device)[None, None]
        size = (self.side, self.side)
        scaled = functional.interpolate(
            pixels, size, mode="bilinear", align_corners=False, antialias=True
        )
        return (scaled >= 0.5).float()

    def _half_precision(self):
        return torch.autocast("cuda", torch.float16, enabled=self.device.type == "cuda")


def prepare(image, side):
    """Return the image scaled to a square, whatever its ratio, and normalized."""
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
    square = functional.interpolate(
        pixels, (side, side), mode="bilinear", align_corners=False, antialias=True
    )[0]
    return (square.float() / 255 - MEAN) / DEVIATION


def fill_polygon(points, size):
    """Return the mask (H x W) of a polygon in an image of width and height."""
    mask = np.zeros(size[::-1], np.uint8)
    cv2.fillPoly(mask, [np.round(points).astype(np.int32)], 1)
    return mask > 0


def outline(mask):
    """Return the outline of the largest part of a mask as points; None if it has no area."""
    contours = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[-2]
    largest = max(contours, key=cv2.contourArea)
    distance = SIMPLIFICATION * cv2.arcLength(largest, True)
    points = cv2.approxPolyDP(largest, distance, True).reshape(-1, 2)
    return points if len(points) >= 3 else None


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
