"""The two networks: boxes of people, and heat maps of the keypoints of one person.

FastPose has the layers and the names of AlphaPose's FastPose without deformable convolutions, so
that its published weights fit. Its width and depth are those of the weights.
"""

import torch
from torch import nn
from torch.nn import functional


class SqueezeExcitation(nn.Module):
    def __init__(self, channels, hidden):
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels), nn.Sigmoid()
        )

    def forward(self, x):
        return x * self.fc(x.mean((2, 3)))[:, :, None, None]


class Bottleneck(nn.Module):
    """Three convolutions beside a shortcut; the first block of a stage weights its channels."""

    def __init__(self, inputs, width, stride, first, reduction):
        super().__init__()
        outputs = 4 * width
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.se = SqueezeExcitation(outputs, outputs // reduction) if first else nn.Identity()
        self.downsample = nn.Identity()
        if first:
            shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = functional.relu(self.bn1(self.conv1(x)))
        y = functional.relu(self.bn2(self.conv2(y)))
        return functional.relu(self.se(self.bn3(self.conv3(y))) + self.downsample(x))


class Backbone(nn.Module):
    def __init__(self, width, blocks, reduction):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        inputs = width
        for stage, count in enumerate(blocks):
            planes, stride = width * 2**stage, 2 if stage else 1
            layers = []
            for i in range(count):
                layers.append(Bottleneck(inputs, planes, 1 if i else stride, i == 0, reduction))
                inputs = 4 * planes
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layers))

    def forward(self, x):
        x = functional.max_pool2d(functional.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


class Upscale(nn.Module):
    """A convolution whose channels become twice the height and width."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x):
        return functional.pixel_shuffle(functional.relu(self.bn(self.conv(x))), 2)


class FastPose(nn.Module):
    """Heat maps (N, joints, H/4, W/4) of crops (N, 3, H, W)."""

    def __init__(self, width=64, blocks=(3, 4, 6, 3), joints=17, reduction=1):
        super().__init__()
        self.preact = Backbone(width, blocks, reduction)
        self.duc1 = Upscale(8 * width, 16 * width)
        self.duc2 = Upscale(4 * width, 8 * width)
        self.conv_out = nn.Conv2d(2 * width, joints, 3, 1, 1)

    @classmethod
    def with_weights(cls, state):
        """Return the network of a state dict, as wide and as deep as its tensors."""
        blocks = [len({name.split(".")[2] for name in state if f".layer{i}." in name}) for i in
                  range(1, 5)]  # fmt: skip
        outputs, hidden = (state[f"preact.layer1.0.se.fc.{i}.weight"].shape[0] for i in (2, 0))
        network = cls(
            state["preact.conv1.weight"].shape[0],
            blocks,
            state["conv_out.weight"].shape[0],
            outputs // hidden,
        )
        network.load_state_dict({name: value.float() for name, value in state.items()})
        return network.eval()

    def forward(self, crops):
        return self.conv_out(self.duc2(self.duc1(functional.pixel_shuffle(self.preact(crops), 2))))


def layer(inputs, outputs, stride=2):
    convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


class People(nn.Module):
    """Boxes of people: N x 5 x places (centre x and y, width, height, confidence).

    The layout is that of the exports of Ultralytics' detectors; the boxes are in pixels of the
    image, whose values are from 0 to 1 and whose sides are multiples of 32.
    """

    STRIDE = 16

    def __init__(self):
        super().__init__()
        self.fine = nn.Sequential(layer(3, 12), layer(12, 24), layer(24, 32), layer(32, 48))
        self.coarse = nn.Sequential(layer(48, 48), layer(48, 48, 1), layer(48, 48, 1))
        self.out = nn.Conv2d(48, 5, 1)
        nn.init.constant_(self.out.bias, -3.0)

    def forward(self, images):
        x = self.fine(images - 0.5)
        x = self.out(x + functional.interpolate(self.coarse(x), scale_factor=2.0))
        sides = (x[:, :4] + 4).clamp(-3, 4).exp() * self.STRIDE
        ys, xs = torch.meshgrid(
            *(torch.arange(n, device=x.device) + 0.5 for n in x.shape[2:]), indexing="ij"
        )
        left, top = xs * self.STRIDE - sides[:, 0], ys * self.STRIDE - sides[:, 1]
        right, bottom = xs * self.STRIDE + sides[:, 2], ys * self.STRIDE + sides[:, 3]
        return torch.stack(
            [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top, x[:, 4].sigmoid()],
            1,
        ).flatten(2)
