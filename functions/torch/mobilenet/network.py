"""MobileNetV2 (Sandler et al., 2018), with the names of parameters that published weights have."""

from torch import nn

# Expansion, channels, number and first stride of each group of blocks.
GROUPS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
FIRST_CHANNELS, FEATURES = 32, 1280


def convolution(inputs, outputs, size=3, stride=1, groups=1):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(inplace=True),
    )


class Block(nn.Module):
    """An inverted residual: more channels for the depthwise convolution, and fewer after it."""

    def __init__(self, inputs, outputs, stride, expansion):
        super().__init__()
        hidden = inputs * expansion
        expanding = [] if expansion == 1 else [convolution(inputs, hidden, size=1)]
        self.conv = nn.Sequential(
            *expanding,
            convolution(hidden, hidden, stride=stride, groups=hidden),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.is_residual = stride == 1 and inputs == outputs

    def forward(self, images):
        return images + self.conv(images) if self.is_residual else self.conv(images)


class MobileNet(nn.Module):
    """Normalized images (N, 3, 224, 224) in, logits (N, classes) out."""

    def __init__(self, classes):
        super().__init__()
        layers, channels = [convolution(3, FIRST_CHANNELS, stride=2)], FIRST_CHANNELS
        for expansion, outputs, count, stride in GROUPS:
            for index in range(count):
                layers.append(Block(channels, outputs, stride if index == 0 else 1, expansion))
                channels = outputs
        layers.append(convolution(channels, FEATURES, size=1))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(FEATURES, classes))

    def forward(self, images):
        return self.classifier(self.features(images).mean((2, 3)))
