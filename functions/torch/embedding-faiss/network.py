"""The network that turns a digit into a unit vector; digits of one kind are close to each other."""

from torch import nn
from torch.nn import functional

# The side of an image, and the length of its vector.
SIZE = 8
LENGTH = 16


class Embedding(nn.Module):
    """Digits (N, 1, 8, 8) from 0 (background) to 1 (ink) in, unit vectors (N, 16) out."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(32 * (SIZE // 2) ** 2, LENGTH),
        )

    def forward(self, images):
        return functional.normalize(self.layers(images))
