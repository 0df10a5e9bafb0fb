import os

import torch
from networks import NETWORKS

from fnbuild import vision


def init_context(context):
    for name, network in NETWORKS.items():
        path = os.path.join(os.environ["STORAGE_URI"], name + ".pt")
        network.load_state_dict(torch.load(path, weights_only=True))
    context.user_data.networks = list(NETWORKS.values())


def handler(context, event):
    value = torch.from_numpy(vision.decode(event)).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        for network in context.user_data.networks:
            value = network(value)
    return value[0].tolist()
