"""A small network in PyTorch, made from the configuration below.

It has learned nothing yet: put the weights of your own beside this file as weights.pt.
"""

from pathlib import Path

import torch
from torch import nn

WEIGHTS = Path(__file__).with_name("weights.pt")
SIZE = 128  # pictures are shrunk to this width and height
CHANNELS = (8, 16)
LABELS = ("sharp", "blurred")


class Model:
    def __init__(self):
        torch.manual_seed(0)
        torch.set_num_threads(1)  # each worker is a process: more would only disturb one another
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        layers, before = [], 3
        for channels in CHANNELS:
            layers += [nn.Conv2d(before, channels, 3, stride=2, padding=1), nn.ReLU()]
            before = channels
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, len(LABELS))]
        self.network = nn.Sequential(*layers)
        if WEIGHTS.exists():
            self.network.load_state_dict(torch.load(WEIGHTS, map_location="cpu", weights_only=True))
        self.network.to(self.device).eval()

    def infer(self, image):
        """Return the probability of each label, in the order of function.yaml.

        `image` is RGB as uint8, height x width x 3.
        """
        return torch.from_numpy(self._run(image)).softmax(0)

    @torch.inference_mode()
    def _run(self, image):
        batch = torch.from_numpy(image).to(self.device).permute(2, 0, 1)[None].float() / 255
        small = nn.functional.interpolate(batch, (SIZE, SIZE), mode="bilinear", antialias=True)
        return self.network(small)[0].cpu().numpy()
