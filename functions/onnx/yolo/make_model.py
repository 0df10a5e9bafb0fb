"""Write model.onnx: the network of functions/torch/shapes as an export of YOLOv8 would be.

Needs torch and onnx. The weights of convolutions are stored with 8 bits, a scale for each channel.

    python make_model.py ../../torch/shapes model.onnx
"""

import io
import sys
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper

STRIDE = 32
SIZE = 256


class Export(torch.nn.Module):
    """Images from 0 to 1 in; centre, size and scores of each place out."""

    def __init__(self, network, stride):
        super().__init__()
        self.network = network
        self.stride = stride

    def forward(self, images):
        middles, sides = self.network(images)
        ys = torch.arange(sides.shape[2]).view(1, -1, 1) + 0.5
        xs = torch.arange(sides.shape[3]).view(1, 1, -1) + 0.5
        left, top, right, bottom = sides.unbind(1)
        x = xs * self.stride + (right - left) / 2
        y = ys * self.stride + (bottom - top) / 2
        boxes = torch.stack([x, y, left + right, top + bottom], 1)
        return torch.cat([boxes, middles.sigmoid()], 1).flatten(2)


def export(folder):
    sys.path.insert(0, folder)
    import network

    model = network.Network(len(network.LABELS))
    weights = Path(folder, "shapes.pt")
    model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    file = io.BytesIO()
    torch.onnx.export(
        Export(model.eval(), network.STRIDE),
        torch.zeros(1, 3, SIZE, SIZE),
        file,
        input_names=["images"],
        output_names=["output0"],
        dynamic_axes={
            "images": {0: "batch", 2: "height", 3: "width"},
            "output0": {0: "batch", 2: "anchors"},
        },
        opset_version=17,
        dynamo=False,
    )
    graph = onnx.load_from_string(file.getvalue())
    metadata = {
        "task": "detect",
        "names": str(dict(enumerate(network.LABELS))),
        "imgsz": str([SIZE, SIZE]),
        "stride": str(STRIDE),
    }
    helper.set_model_props(graph, metadata)
    return graph


def shrink(graph):
    """Store the weights of convolutions with 8 bits."""
    weights = {node.input[1] for node in graph.graph.node if node.op_type == "Conv"}
    for stored in [each for each in graph.graph.initializer if each.name in weights]:
        values = numpy_helper.to_array(stored)
        scale = np.abs(values).reshape(len(values), -1).max(1).clip(1e-8) / 127
        rounded = np.rint(values / scale.reshape(-1, 1, 1, 1)).astype(np.int8)
        graph.graph.initializer.remove(stored)
        parts = {"int8": rounded, "scale": scale.astype(np.float32)}
        for part, array in parts.items():
            graph.graph.initializer.append(numpy_helper.from_array(array, f"{stored.name}.{part}"))
        names = [f"{stored.name}.{part}" for part in parts]
        node = helper.make_node("DequantizeLinear", names, [stored.name], axis=0)
        graph.graph.node.insert(0, node)


def main():
    folder, output = sys.argv[1:]
    graph = export(folder)
    shrink(graph)
    onnx.checker.check_model(graph)
    onnx.save(graph, output)
    print(output, Path(output).stat().st_size, "bytes")


if __name__ == "__main__":
    main()
