"""A small network: a vector of length 1 for the picture of an object."""

from torch import nn
from torch.nn import functional

WIDTHS = (16, 32, 48, 64)
# The length of the vectors, and height and width of the pictures.
DIMENSIONS, SIZE = 64, (64, 64)


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        layers = []
        for inputs, outputs in zip((3, *WIDTHS), WIDTHS, strict=False):
            convolution = nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False)
            layers += [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        # The places stay apart: a red shirt over blue trousers is not a blue shirt over red ones.
        places = (SIZE[0] // 2 ** len(WIDTHS)) * (SIZE[1] // 2 ** len(WIDTHS))
        self.out = nn.Linear(WIDTHS[-1] * places, DIMENSIONS)

    def forward(self, pictures):
        """Return N x DIMENSIONS for pictures (N, 3, 64, 64), normalized as for ImageNet."""
        return functional.normalize(self.out(self.layers(pictures).flatten(1)))
