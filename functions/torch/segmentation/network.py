"""A small encoder and decoder: the class of every pixel, from four scales of the picture."""

from torch import nn
from torch.nn import functional

WIDTHS = (16, 24, 32, 48, 64)


def layer(inputs, outputs, stride=1):
    convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


class Network(nn.Module):
    """Logits (N, classes, H, W) of pictures (N, 3, H, W) whose sides are multiples of 32."""

    def __init__(self, classes):
        super().__init__()
        pairs = list(zip((3, *WIDTHS), WIDTHS, strict=False))
        self.down = nn.ModuleList(
            nn.Sequential(layer(inputs, outputs, 2), layer(outputs, outputs))
            for inputs, outputs in pairs
        )
        self.up = nn.ModuleList(layer(outputs, inputs) for inputs, outputs in reversed(pairs[2:]))
        self.out = nn.Conv2d(WIDTHS[1], classes, 1)

    @classmethod
    def with_weights(cls, state):
        network = cls(len(state["out.bias"]))
        network.load_state_dict({name: value.float() for name, value in state.items()})
        return network.eval()

    def forward(self, images):
        scales = [images]
        for down in self.down:
            scales.append(down(scales[-1]))
        x = scales.pop()
        for up in self.up:
            x = up(functional.interpolate(x, scale_factor=2.0)) + scales.pop(-1)
        return functional.interpolate(self.out(x), images.shape[2:], mode="bilinear")
