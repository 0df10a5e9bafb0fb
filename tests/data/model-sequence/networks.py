"""Three networks: pixels to features, features to a vector, and the vector to probabilities."""

from torch import nn

NETWORKS = {
    "features": nn.Sequential(nn.AdaptiveAvgPool2d(16), nn.Conv2d(3, 4, 3), nn.ReLU()),
    "vector": nn.Sequential(nn.Flatten(), nn.Linear(784, 16), nn.Tanh()),
    "classes": nn.Sequential(nn.Linear(16, 5), nn.Softmax(1)),
}
