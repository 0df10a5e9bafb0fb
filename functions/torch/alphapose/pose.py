"""People and their keypoints: crops by an affine map, all people in one batch, and their maps."""

import os
import pickle
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import torch
from network import FastPose, People

from fnbuild import vision

# Height and width of the crops and of the heat maps, as in AlphaPose.
CROP, MAP = (256, 192), (64, 48)
# The part around a person's box that is cropped with it, and the mean of each channel.
MARGIN = 1.25
MEAN = np.array([0.406, 0.457, 0.480], np.float32)
# Boxes that share more of their joined area show one person.
OVERLAP = 0.6
# People in one forward pass of the network; more are taken in turn.
BATCH = 64


class Pose:
    def __init__(self, folder):
        if "OMP_NUM_THREADS" not in os.environ:
            # Each worker is a process: with more threads they would only disturb one another.
            torch.set_num_threads(1)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.people, self.size = load_people(weights_file(folder, "people.pt"), self.device)
        self.network = load_pose(weights_file(folder, "pose.pt")).to(self.device)

    def find_people(self, image, threshold):
        """Return N x 4 boxes in pixels and N scores, the surest first."""
        fitted = vision.letterbox(image, self.size, interpolation="area")
        batch = torch.from_numpy(fitted.image).to(self.device).permute(2, 0, 1)[None].float() / 255
        with torch.inference_mode():
            people = self.people(batch)[0].float().cpu().numpy().T
        # Of a detector with more classes, the first is the person.
        people = people[people[:, 4] >= max(threshold, 1e-3)]
        centres, halves = people[:, :2], people[:, 2:4] / 2
        boxes = fitted.restore(np.concatenate([centres - halves, centres + halves], 1))
        boxes = boxes.clip(0, np.tile(image.shape[1::-1], 2))
        kept = vision.non_maximum_suppression(boxes, people[:, 4], OVERLAP)
        return boxes[kept], people[kept, 4]

    def find_keypoints(self, image, boxes):
        """Return N x 17 x 3: x, y and confidence of the keypoints of the person in each box."""
        regions = [region(box) for box in boxes]
        parts = []
        for i in range(0, len(regions), BATCH):
            crops = np.stack([crop(image, *each) for each in regions[i : i + BATCH]])
            with torch.inference_mode():
                maps = self.network(torch.from_numpy(crops).to(self.device))
            parts.append(decode(maps.float().cpu().numpy(), regions[i : i + BATCH]))
        return np.concatenate(parts) if parts else np.zeros((0, 17, 3))


def weights_file(folder, name):
    """Return the file in the folder of the user's models, else the one of this function."""
    path = Path(folder or "", name)
    return path if folder and path.is_file() else Path(__file__).with_name(name)


def load_pose(path):
    """Return FastPose with the weights of a file."""
    try:
        return FastPose.with_weights(torch.load(path, "cpu", weights_only=True))
    except (LookupError, TypeError, RuntimeError, EOFError, pickle.UnpicklingError) as problem:
        reason = str(problem).partition("\n")[0]
        # The error of the function has this text, and no traceback.
        sys.exit(f"{path} does not have the weights of FastPose without deformable "
                 f"convolutions on SE-ResNet-50, 101 or 152 ({reason})")  # fmt: skip


def load_people(path, device):
    """Return a detector and the size of its images: our weights, or TorchScript of Ultralytics."""
    if is_torchscript(path):
        # Its constants are loaded to the device, which `to` would not do.
        return torch.jit.load(path, device).eval(), 640
    network = People()
    try:
        state = torch.load(path, "cpu", weights_only=True)
        network.load_state_dict({name: value.float() for name, value in state.items()})
    except (AttributeError, RuntimeError, EOFError, pickle.UnpicklingError) as problem:
        reason = str(problem).partition("\n")[0]
        sys.exit(f"{path} has neither TorchScript nor this function's weights ({reason}): "
                 "export your detector by `yolo export format=torchscript`")  # fmt: skip
    return network.to(device).eval(), 256


def is_torchscript(path):
    """Return True if a file has code, and not weights alone."""
    return zipfile.is_zipfile(path) and any("/code/" in x for x in zipfile.ZipFile(path).namelist())


def region(box):
    """Return centre and size (width, height) of the crop of a box, with the crop's proportions."""
    left, top, right, bottom = (float(value) for value in box)
    width, height = max(right - left, 1.0), max(bottom - top, 1.0)
    ratio = CROP[1] / CROP[0]
    width, height = max(width, height * ratio), max(height, width / ratio)
    centre = np.array([(left + right) / 2, (top + bottom) / 2])
    return centre, np.array([width, height]) * MARGIN


def crop(image, centre, size):
    """Return the region as the network takes it: 3 x height x width, black beyond the image."""
    height, width = CROP
    scale = width / size[0]
    box = (*(centre - size / 2), *(centre + size / 2))
    image, first = vision.crop_with_margin(image, box, 2)
    centre = centre - first
    move = np.array([width, height]) / 2 - scale * centre
    matrix = np.array([[scale, 0, move[0]], [0, scale, move[1]]])
    pixels = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR)
    return (pixels.astype(np.float32) / 255 - MEAN).transpose(2, 0, 1)


def decode(maps, regions):
    """Return N x joints x 3 from heat maps: where each is highest, and how high it is there.

    Inside of the map, the place moves a quarter towards its higher neighbour, in x and in y.
    """
    count, joints, height, width = maps.shape
    places = maps.reshape(count, joints, -1).argmax(2)
    ys, xs = np.divmod(places, width)
    n, j = np.ogrid[:count, :joints]
    x, y = xs.clip(1, width - 2), ys.clip(1, height - 2)
    across = np.sign(maps[n, j, ys, x + 1] - maps[n, j, ys, x - 1])
    down = np.sign(maps[n, j, y + 1, xs] - maps[n, j, y - 1, xs])
    inside = (xs > 1) & (xs < width - 1) & (ys > 1) & (ys < height - 1)
    moves = np.stack([across, down], 2) * 0.25 * inside[:, :, None]
    peaks = np.stack([xs, ys], 2) + moves
    centres, sizes = (np.stack(each)[:, None] for each in zip(*regions, strict=True))
    points = (peaks - np.array([width, height]) / 2) * sizes[:, :, :1] / width + centres
    return np.concatenate([points, maps[n, j, ys, xs][:, :, None]], 2)
