"""The keypoints of people: known answers of crops and heat maps, scenes, and weights of others."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
import torch

from fnbuild.cvat.replies import read_reply
from fnbuild.cvat.request import build_request
from fnbuild.function import labels
from fnbuild.function.reader import load_function
from tests.functions.conftest import ROOT, Handler, import_module_of
from tests.functions.test_opencv import likeness
from tests.functions.test_shapes import file_of

pytestmark = [
    pytest.mark.system,
    # Networks of users come as TorchScript, although torch recommends other formats.
    pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning"),
]

FOLDER = ROOT / "functions/torch/alphapose"
LABELS = labels.function_labels(load_function(FOLDER).function)
pose = import_module_of(FOLDER, "pose")
figures = import_module_of(FOLDER, "figures")
network = import_module_of(FOLDER, "network")


@pytest.fixture(scope="module")
def detector() -> Handler:
    return Handler(FOLDER)


def networks(function: Handler) -> Any:
    user_data: Any = function.context.user_data
    return user_data.function.pose


def detect(function: Handler, image: Any, **options: Any) -> list[Any]:
    """Return the keypoints (17 x 3: x, y, visible) of the skeletons that CVAT accepts."""
    sent = build_request("detector", file_of(image), **options)
    status, content = function(sent.body)
    assert status == 200, content
    reply = read_reply("detector", content, LABELS, sent.image.size, sent)
    assert [str(problem) for problem in reply.diagnostics] == []
    names = [label.name for label in LABELS[0].sublabels]
    results = []
    for item in content:
        assert [element["label"] for element in item["elements"]] == names
        results.append(
            np.array([[*each["points"], not each.get("outside")] for each in item["elements"]])
        )
    return results


def test_the_crop_has_the_box_in_its_middle():
    image = np.zeros((400, 600, 3), np.uint8)
    cv2.rectangle(image, (300, 100), (339, 199), (255, 255, 255), -1)
    centre, size = pose.region((300, 100, 340, 200))
    assert centre.tolist() == [320, 150]
    # A high box: its height counts, with the margin and the proportions of the crop.
    assert size.tolist() == pytest.approx([93.75, 125])
    crop = pose.crop(image, centre, size)
    assert crop.shape == (3, 256, 192)
    assert crop[:, 0, 0].tolist() == pytest.approx([-0.406, -0.457, -0.480])
    ys, xs = np.nonzero(crop[0] > 0.1)
    scale = 192 / 93.75
    expected = 96 - 20 * scale, 128 - 50 * scale, 96 + 20 * scale, 128 + 50 * scale
    assert [xs.min(), ys.min(), xs.max(), ys.max()] == pytest.approx(expected, abs=2)
    centre, size = pose.region((0, 0, 200, 100))
    assert size.tolist() == pytest.approx([250, 250 * 256 / 192])


def test_a_place_moves_a_quarter_towards_its_higher_neighbours():
    maps = np.zeros((1, 4, 64, 48), np.float32)
    maps[0, 0, 30, 20], maps[0, 0, 30, 21], maps[0, 0, 29, 20] = 0.9, 0.5, 0.4
    maps[0, 1, 30, 20] = 0.8  # equal neighbours
    maps[0, 2, 0, 0], maps[0, 2, 0, 1] = 0.7, 0.6  # at the edge
    maps[0, 3, 63, 47] = 0.2
    centre, size = np.array([100.0, 200.0]), np.array([96.0, 128.0])
    (points,) = pose.decode(maps, [(centre, size)])
    places = np.array([(20.25, 29.75), (20, 30), (0, 0), (47, 63)])
    expected = (places - (24, 32)) * 2 + centre
    assert points[:, :2] == pytest.approx(expected)
    assert points[:, 2] == pytest.approx([0.9, 0.8, 0.7, 0.2])


def test_heat_maps_around_known_keypoints_give_them_back():
    random = np.random.default_rng(5)
    boxes = np.array([(40, 30, 160, 330), (200, 90, 420, 180)], float)
    regions = [pose.region(box) for box in boxes]
    truth = np.stack([random.uniform(box[:2], box[2:], (17, 2)) for box in boxes])
    ys, xs = np.mgrid[:64, :48]
    maps = np.zeros((2, 17, 64, 48))
    for i, (centre, size) in enumerate(regions):
        for j, point in enumerate(truth[i]):
            x, y = (point - centre) * 48 / size[0] + (24, 32)
            maps[i, j] = np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / 8)
    decoded = pose.decode(maps, regions)
    for i, (_, size) in enumerate(regions):
        # Within a quarter of a place of the map in each direction.
        assert np.abs(decoded[i, :, :2] - truth[i]).max() <= 0.26 * size[0] / 48


def test_keypoints_of_unseen_figures(detector):
    random = np.random.default_rng(99)
    right = total = people = expected = 0
    for _ in range(20):
        image, truth = figures.scene(random, 400, 300)
        skeletons = detect(detector, image)
        people, expected = people + len(skeletons), expected + len(truth)
        for joints in truth:
            height = np.ptp(joints[:, 1])
            nearest = min(
                (np.linalg.norm(each[:, :2] - joints, axis=1) for each in skeletons),
                key=np.median,
                default=np.full(17, np.inf),
            )
            right += (nearest < 0.05 * height).sum()
            total += 17
    assert abs(people - expected) <= 0.1 * expected
    assert right / total > 0.9, f"{right} of {total} keypoints are within 5 % of the height"


def test_all_people_take_one_pass_of_the_network(detector):
    image, _ = figures.scene(np.random.default_rng(5), 640, 360, 6)
    batches = []
    model = networks(detector).network
    hook = model.register_forward_pre_hook(lambda _, inputs: batches.append(len(inputs[0])))
    people = len(detect(detector, image))
    hook.remove()
    assert people > 2
    assert batches == [people]


def test_a_picture_without_people(detector, photo):
    assert detect(detector, np.full((300, 200, 3), 130, np.uint8)) == []
    for size in ((1, 1), (3, 900), (900, 3)):
        detect(detector, np.full((*size, 3), 90, np.uint8))


def test_weights_of_fastpose_with_a_resnet_50_fit(monkeypatch, tmp_path):
    state = network.FastPose().state_dict()
    published = {
        "preact.conv1.weight": (64, 3, 7, 7),
        "preact.layer1.0.se.fc.0.weight": (256, 256),
        "preact.layer1.0.downsample.1.running_mean": (256,),
        "preact.layer3.5.conv3.weight": (1024, 256, 1, 1),
        "preact.layer4.2.bn2.num_batches_tracked": (),
        "duc1.conv.weight": (1024, 512, 3, 3),
        "duc2.bn.bias": (512,),
        "conv_out.weight": (17, 128, 3, 3),
        "conv_out.bias": (17,),
    }
    assert {name: tuple(state[name].shape) for name in published} == published
    assert "preact.layer1.1.se.fc.0.weight" not in state
    torch.save(state, tmp_path / "pose.pt")
    monkeypatch.setenv("STORAGE_URI", str(tmp_path))
    function = Handler(FOLDER)
    model = networks(function).network
    assert sum(each.numel() for each in model.parameters()) == 40_577_745
    image, truth = figures.scene(np.random.default_rng(4), 320, 240)
    assert len(detect(function, image)) <= len(truth)


class OnePerson(torch.nn.Module):
    """A detector in the layout of Ultralytics: 1 x (4 + classes) x boxes."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert images.shape[2] == 640
        person = torch.tensor([320.0, 320.0, 100.0, 200.0, 0.9, 0.1])
        again = torch.tensor([322.0, 318.0, 104.0, 200.0, 0.8, 0.1])
        dog = torch.tensor([100.0, 300.0, 100.0, 100.0, 0.1, 0.9])
        return torch.stack([person, again, dog], 1)[None]


def test_a_detector_in_torchscript(monkeypatch, tmp_path):
    torch.jit.script(OnePerson()).save(tmp_path / "people.pt")
    monkeypatch.setenv("STORAGE_URI", str(tmp_path))
    model = networks(Handler(FOLDER))
    boxes, scores = model.find_people(np.zeros((480, 640, 3), np.uint8), 0.5)
    assert scores.tolist() == pytest.approx([0.9])
    assert likeness(boxes[0], (270, 140, 370, 340)) > 0.98


@pytest.mark.parametrize("name", ["pose.pt", "people.pt"])
@pytest.mark.parametrize("content", [{"conv.weight": torch.zeros(1)}, [1]])
def test_weights_of_another_network_are_reported(monkeypatch, tmp_path, name, content):
    torch.save(content, tmp_path / name)
    monkeypatch.setenv("STORAGE_URI", str(tmp_path))
    with pytest.raises(SystemExit, match=rf"{name} .*\(.+\)"):
        Handler(FOLDER)


def test_a_person_in_an_image_wider_than_opencv_takes_is_cut_out() -> None:
    wide = np.random.default_rng(1).integers(0, 255, (90, 33_000, 3), np.uint8)
    size = np.array([60.0, 80.0])
    part = pose.crop(wide, np.array([32_900.0, 40.0]), size)
    assert np.array_equal(part, pose.crop(wide[:, 32_000:], np.array([900.0, 40.0]), size))
