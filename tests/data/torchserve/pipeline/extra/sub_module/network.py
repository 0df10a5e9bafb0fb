from torch import nn


class Network(nn.Linear):
    def __init__(self):
        super().__init__(3, 1, bias=False)
