"""The function that every server runs; BENCH_WORKLOAD says which of the workloads.

`plain` handlers are written as CVAT's functions are: the parsed body, base64, Pillow. `vision` ones
take the image from the request with fnbuild.vision.
"""

import base64
import io
import os
import time


def init_context(context):
    """Import what the workload needs, make its model, and say that this process is ready."""
    state = context.user_data
    workload = os.environ["BENCH_WORKLOAD"]
    state.handle = _HANDLERS[workload]
    if workload.startswith(("jpeg", "torch")):
        state.decode = _from_request() if workload.endswith("-vision") else _as_cvat_does()
    if workload == "large-vision":
        from fnbuild.vision import image_file

        state.image_file = image_file
    if workload.startswith("torch"):
        from network import Detector

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


def _large_vision(state, event):
    return _measured(state.image_file(event))


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
}


def _as_cvat_does():
    import numpy
    from PIL import Image

    def decode(event):
        image = Image.open(io.BytesIO(base64.b64decode(event.body["image"])))
        return numpy.array(image.convert("RGB"))

    return decode


def _from_request():
    from fnbuild import vision

    return vision.decode


def _sign(folder):
    """Leave this process's number and the time it was ready, for the measurement of restarts."""
    path = os.path.join(folder, str(os.getpid()))
    with open(path + ".new", "w") as file:
        file.write(repr(time.monotonic()))
    os.rename(path + ".new", path)
