"""torchvision beside a torch for which it was not built: Ultralytics' own NMS takes its place."""

import torch

try:
    import torchvision
except RuntimeError:
    LIBRARY = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        LIBRARY.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision
try:
    torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
except RuntimeError:
    from ultralytics.utils.nms import TorchNMS

    torchvision.ops.nms = TorchNMS.nms
