"""The function that every server runs; BENCH_WORKLOAD selects the workload.

`plain` handlers are written as CVAT's functions are: the parsed body, base64, Pillow. `vision` ones
take the image from the request with fnbuild.vision.
"""

import base64
import io
import os
import time

_WORKLOAD = os.environ["BENCH_WORKLOAD"]
# At import, as CVAT's functions do by `from model_handler import ModelHandler`.
_JPEG = ("jpeg", "torch", "v1", "v2", "grpc")
if _WORKLOAD.startswith(_JPEG) and not _WORKLOAD.endswith("-vision"):
    import numpy
    from PIL import Image
if _WORKLOAD.endswith("-vision"):
    from fnbuild import vision
if _WORKLOAD.startswith("torch"):
    from network import Detector


def init_context(context):
    """Create the model, and report that this process is ready."""
    state = context.user_data
    state.handle = _HANDLERS[_WORKLOAD]
    state.decode = vision.decode if _WORKLOAD.endswith("-vision") else _as_cvat_does
    if _WORKLOAD.startswith("torch"):
        state.detector = Detector()
    _sign(os.environ["BENCH_READY"])


def handler(context, event):
    return context.user_data.handle(context.user_data, event)


def _echo(_state, event):
    return event.body


def _jpeg(state, event):
    return {"shape": list(state.decode(event).shape)}


def _torch(state, event):
    return {"boxes": state.detector.boxes(state.decode(event))}


def _large(_state, event):
    return _measured(base64.b64decode(event.body["image"]))


def _large_vision(_state, event):
    return _measured(vision.image_file(event))


def _tensor(_state, event):
    array = event.body["x"]
    return {"size": array.size, "sum": float(array.sum())}


def _measured(data):
    return {"size": len(data), "last": data[-1]}


_HANDLERS = {
    "echo": _echo,
    "jpeg": _jpeg,
    "jpeg-vision": _jpeg,
    "torch": _torch,
    "torch-vision": _torch,
    "large": _large,
    "large-vision": _large_vision,
    "v1": _jpeg,
    "v2": _jpeg,
    "grpc": _jpeg,
    "tensor": _tensor,
}


def _as_cvat_does(event):
    data = event.body["image"]
    # Servers other than fnbuild have the file itself when the client has sent it over gRPC.
    data = data if isinstance(data, bytes) else base64.b64decode(data)
    return numpy.array(Image.open(io.BytesIO(data)).convert("RGB"))


def _sign(folder):
    """Record this process's id and the time it was ready, for the measurement of restarts."""
    path = os.path.join(folder, str(os.getpid()))
    with open(path + ".new", "w") as file:
        file.write(repr(time.monotonic()))
    os.rename(path + ".new", path)
