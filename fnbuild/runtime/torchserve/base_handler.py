"""TorchServe's base of handlers, `BaseHandler`: a TorchScript, eager or ONNX model."""

import importlib
import os
from typing import Any, Dict, List

from .handler_api import list_classes_from_module, load_label_mapping

# Workers are forks of a process that has imported it. Handlers of other models do without.
try:
    torch: Any = importlib.import_module("torch")
except ImportError:
    torch = None


class BaseHandler:
    """A handler that loads the model of its archive; a subclass converts requests and results."""

    def __init__(self) -> None:
        self.model: Any = None
        self.mapping: Any = None
        self.device: Any = None
        self.initialized = False
        self.context: Any = None
        self.model_pt_path: Any = None
        self.manifest: Any = None
        self.map_location: Any = None
        self.explain = False
        self.target = 0
        self.model_yaml_config: Dict[str, Any] = {}

    def initialize(self, context: Any) -> None:
        properties = context.system_properties
        folder = properties.get("model_dir")
        self.model_yaml_config = context.model_yaml_config
        self.manifest = context.manifest
        has_gpu = properties.get("gpu_id") is not None and torch.cuda.is_available()
        self.map_location = "cuda" if has_gpu else "cpu"
        self.device = torch.device("cuda:%s" % properties["gpu_id"] if has_gpu else "cpu")
        model = self.manifest["model"]
        if model.get("serializedFile"):
            self.model_pt_path = os.path.join(folder, model["serializedFile"])
        self.model = self._load(folder, model.get("modelFile"))
        options = _compile_options(self.model_yaml_config.get("pt2"))
        if options is not None:
            self.model = torch.compile(self.model, **options)
        self.mapping = load_label_mapping(os.path.join(folder, "index_to_name.json"))
        self.initialized = True

    def _load(self, folder: str, model_file: Any) -> Any:
        path = self.model_pt_path
        if model_file:
            model = self._load_pickled_model(folder, model_file, path)
            model.to(self.device)
        elif path and path.endswith(".pt"):
            model = self._load_torchscript_model(path)
        elif path and path.endswith(".onnx"):
            provider = "CUDAExecutionProvider" if self.map_location == "cuda" else ""
            providers = [*filter(None, [provider]), "CPUExecutionProvider"]
            runtime: Any = importlib.import_module("onnxruntime")
            return runtime.InferenceSession(path, providers=providers)
        else:
            raise RuntimeError(
                "the archive has no model that BaseHandler loads: a file .pt of TorchScript, a file"
                " .onnx, or a model file with weights"
            )
        model.eval()
        return model

    def _load_torchscript_model(self, model_pt_path: str) -> Any:
        return torch.jit.load(model_pt_path, map_location=self.device)

    def _load_pickled_model(self, model_dir: str, model_file: str, model_pt_path: Any) -> Any:
        module = importlib.import_module(model_file.partition(".")[0])
        classes = list_classes_from_module(module)
        if len(classes) != 1:
            names = ", ".join(sorted(kind.__name__ for kind in classes)) or "none"
            raise ValueError("%s must define one class, the model: %s" % (model_file, names))
        model: Any = classes[0]()
        if model_pt_path:
            model.load_state_dict(torch.load(model_pt_path, map_location=self.device))
        return model

    def preprocess(self, data: Any) -> Any:
        return torch.as_tensor(data, device=self.device)

    def inference(self, data: Any, *args: Any, **kwargs: Any) -> Any:
        # Before torch 1.9 there is no inference_mode.
        with getattr(torch, "inference_mode", torch.no_grad)():
            return self.model(data.to(self.device), *args, **kwargs)

    def postprocess(self, data: Any) -> List[Any]:
        return data.tolist()  # type: ignore[no-any-return]

    def handle(self, data: Any, context: Any) -> Any:
        self.context = context
        prepared = self.preprocess(data)
        if self._is_explain():
            return self.explain_handle(prepared, data)
        return self.postprocess(self.inference(prepared))

    def explain_handle(self, data_preprocess: Any, raw_data: Any) -> Any:
        row = raw_data[0] if isinstance(raw_data[0], dict) else {}
        inputs = row.get("data") or row.get("body")
        insights: Any = getattr(self, "get_insights")  # noqa: B009 - of subclasses
        return insights(data_preprocess, inputs, row.get("target") or 0)

    def _is_explain(self) -> bool:
        if self.context is not None and self.context.get_request_header(0, "explain") == "True":
            self.explain = True
            return True
        return False

    def describe_handle(self) -> Any:
        return None

    def get_device(self) -> Any:
        return self.device


def _compile_options(setting: Any) -> Any:
    """Return the arguments of torch.compile for `pt2` of model-config.yaml; None without it."""
    if not setting or (isinstance(setting, dict) and "export" in setting):
        return None
    if isinstance(setting, str):
        return {"backend": setting}
    options = dict(setting.get("compile", setting))
    return options if options.pop("enable", "compile" not in setting) else None
