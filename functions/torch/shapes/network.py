"""The network: for every 8 x 8 pixels, how surely a shape's middle is near, and its four sides.

Each place near a middle names the class and the distances to the box's sides, as in FCOS (Tian et
al., 2019); the surest place of each shape is kept.
"""

import torch
from torch import nn
from torch.nn import functional

# In the order of the network's classes.
LABELS = ("circle", "square", "triangle")
STRIDE = 8
# The deepest layer sees one value for so many pixels; images are padded to a multiple of it.
DEEPEST = 32


def block(inputs, outputs, stride=1):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class Network(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.down4 = nn.Sequential(block(3, 16, 2), block(16, 32, 2), block(32, 32))
        self.down8 = nn.Sequential(block(32, 48, 2), block(48, 48))
        self.down16 = nn.Sequential(block(48, 64, 2), block(64, 64))
        self.down32 = nn.Sequential(block(64, 80, 2), block(80, 80))
        self.side16 = nn.Conv2d(80, 64, 1)
        self.side8 = nn.Conv2d(64, 48, 1)
        self.join8 = block(48, 48)
        self.middles = nn.Conv2d(48, classes, 1)
        self.sides = nn.Conv2d(48, 4, 1)
        # Nearly every place is empty: begin with that, or the first steps go astray.
        nn.init.constant_(self.middles.bias, -4.0)

    def forward(self, images):
        """Logits of the middles (N, classes, H/8, W/8) and sides in pixels (N, 4, H/8, W/8).

        Images are floats from 0 to 1 whose height and width are multiples of DEEPEST.
        """
        x8 = self.down8(self.down4(images - 0.5))
        x16 = self.down16(x8)
        deep = self.side16(self.down32(x16))
        deep = self.side8(x16 + functional.interpolate(deep, scale_factor=2.0))
        x8 = self.join8(x8 + functional.interpolate(deep, scale_factor=2.0))
        return self.middles(x8), self.sides(x8).clamp(-3, 4).exp() * STRIDE


def boxes(middles, sides, threshold, most=100):
    """The boxes of one image: scores, class numbers, and left, top, right, bottom in pixels.

    Takes the outputs of the network for one image; a place counts when it is the best of its
    neighbours and surer than `threshold`.
    """
    scores = middles.sigmoid()
    best = functional.max_pool2d(scores[None], 3, 1, 1)[0]
    scores = torch.where(scores == best, scores, torch.zeros_like(scores))
    values, places = scores.flatten().topk(min(most, scores.numel()))
    keep = values >= max(threshold, 1e-3)
    values, places = values[keep], places[keep]
    height, width = scores.shape[1:]
    classes = torch.div(places, height * width, rounding_mode="floor")
    ys = torch.div(places % (height * width), width, rounding_mode="floor")
    xs = places % width
    left, top, right, bottom = sides[:, ys, xs]
    centre_x, centre_y = (xs + 0.5) * STRIDE, (ys + 0.5) * STRIDE
    corners = torch.stack([centre_x - left, centre_y - top, centre_x + right, centre_y + bottom], 1)
    return values, classes, corners
