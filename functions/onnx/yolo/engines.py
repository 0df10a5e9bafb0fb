"""Runs exported models with ONNX Runtime, or TorchScript with torch."""

import json
import os
from pathlib import Path

import numpy as np

SUFFIXES = (".onnx", ".torchscript")


class ModelError(SystemExit):
    """The model cannot be served: ends the worker with this message and without a traceback."""


def open_engine(path):
    """Return the engine of a model; `path` is its file, or a folder with no other model."""
    path = Path(path)
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES)
    if len(files) != 1 or not files[0].is_file():
        wanted = " or ".join("*" + suffix for suffix in SUFFIXES)
        names = ", ".join(file.name for file in files[:5]) if path.is_dir() else "no file"
        raise ModelError(f"{path} has {names or 'no model'}: name one file {wanted}")
    engine = OnnxEngine if files[0].suffix == ".onnx" else TorchScriptEngine
    try:
        return engine(files[0])
    # The classes of their errors are not public.
    except Exception as problem:  # noqa: BLE001
        reason = " ".join(str(problem).split())
        raise ModelError(f"{files[0]} cannot be loaded: {reason}") from None


def _threads():
    # Each worker is a process: with more threads they would only disturb one another.
    return int(os.environ.get("OMP_NUM_THREADS") or 1)


class OnnxEngine:
    """`input_shape` has names in place of sizes that are not fixed."""

    def __init__(self, path):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = _threads()
        available = onnxruntime.get_available_providers()
        wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
        providers = [name for name in wanted if name in available]
        if len(providers) > 1 and hasattr(onnxruntime, "preload_dlls"):
            # CUDA's libraries are packages of pip.
            onnxruntime.preload_dlls()
        self.session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        self.input, *others = self.session.get_inputs()
        if others:
            raise ValueError(f"it has {len(others) + 1} inputs instead of one for images")
        self.metadata = self.session.get_modelmeta().custom_metadata_map
        self.input_shape = tuple(self.input.shape)
        self.output_shapes = tuple(tuple(each.shape) for each in self.session.get_outputs())
        self.device = self.session.get_providers()[0].replace("ExecutionProvider", "")

    def run(self, inputs):
        """Return the outputs for a batch (N x C x H x W, float32)."""
        dtype = np.float16 if self.input.type == "tensor(float16)" else np.float32
        return self.session.run(None, {self.input.name: inputs.astype(dtype, copy=False)})


class TorchScriptEngine:
    """A model that `torch.jit.load` reads. Its metadata is the file that Ultralytics adds."""

    def __init__(self, path):
        import torch

        torch.set_num_threads(_threads())
        self.torch = torch
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        files = {"config.txt": ""}
        self.network = torch.jit.load(str(path), self.device, _extra_files=files).eval()
        self.metadata = json.loads(files["config.txt"] or "{}")
        # It was traced with this number of images, if it says so.
        self.input_shape = (self.metadata.get("batch", 1),)
        self.output_shapes = ()
        floats = (each.dtype for each in self.network.parameters() if each.is_floating_point())
        self.dtype = next(floats, torch.float32)

    def run(self, inputs):
        """Return the outputs for a batch (N x C x H x W, float32)."""
        with self.torch.inference_mode():
            outputs = self.network(self.torch.from_numpy(inputs).to(self.device, self.dtype))
        flat = [outputs] if self.torch.is_tensor(outputs) else list(outputs)
        return [output.float().cpu().numpy() for output in flat]
