"""TorchServe's inference API, and the read-only part of its management API.

Paths, statuses and errors are those of release 0.12, but for `/ping`: it is unhealthy until every
worker is ready, where TorchServe's is healthy at once.
"""

import json
from typing import Any, Callable, Dict, List, Optional, Union

from .answers import DirectAnswer, InferenceRoute
from .mapping import Model

PROTOCOL = "torchserve"
PREFIXES = ("/predictions", "/explanations", "/ping", "/models")
_METHODS = {"predictions": "predict", "explanations": "explain"}
_NO_RESOURCE = "Requested resource is not found, please refer to API document."
_WRONG_METHOD = "Requested method is not allowed, please refer to API document."


def encode(value: Any) -> bytes:
    """Return the JSON of a value as TorchServe writes it."""
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    return text.encode("utf-8", "backslashreplace")


def error_answer(status: int, message: str, kind: str = "InternalServerException") -> DirectAnswer:
    """Return the answer for an error."""
    value = {"code": status, "type": kind, "message": message}
    return DirectAnswer(status, value, encode=encode)


def processor_error(status: int, reason: str) -> DirectAnswer:
    """Return the answer for an error of the processor: no worker was free, or it has ended."""
    if status == 503:
        return error_answer(status, reason, "ServiceUnavailableException")
    return error_answer(500, reason)


class TorchServeRouter:
    """The routes of a model. `is_ready` tells if every worker has run init_context.

    `describe` returns the entries of its description that are not in the model.
    """

    def __init__(
        self, model: Model, is_ready: Callable[[], bool], describe: Callable[[], Dict[str, Any]]
    ) -> None:
        self._model = model
        self._is_ready = is_ready
        self._describe = describe

    def route(self, method: str, path: str) -> Union[DirectAnswer, InferenceRoute]:
        """Return the answer or the route of a request."""
        kind, *parts = path.strip("/").split("/")
        if kind == "ping":
            is_ready = self._is_ready()
            state = {"status": "Healthy" if is_ready else "Unhealthy"}
            return DirectAnswer(200 if is_ready else 500, state, encode=encode)
        if kind == "models":
            return self._models(method, parts)
        if not parts:
            return error_answer(404, _NO_RESOURCE, "ResourceNotFoundException")
        return self._unknown(*parts[:2]) or InferenceRoute(PROTOCOL, _METHODS[kind])

    def _models(self, method: str, parts: List[str]) -> DirectAnswer:
        if method not in ("GET", "HEAD"):
            return error_answer(405, _WRONG_METHOD, "MethodNotAllowedException")
        model = self._model
        entry = {"modelName": model.name, "modelUrl": model.name + ".mar"}
        if not parts:
            return DirectAnswer(200, {"models": [entry]}, encode=encode)
        entry.update(modelVersion=model.version, runtime="python")
        description = [dict(entry, **self._describe())]
        return self._unknown(*parts[:2]) or DirectAnswer(200, description, encode=encode)

    def _unknown(self, name: str, version: str = "") -> Optional[DirectAnswer]:
        """Return the answer for another model or version than this one; else None."""
        model = self._model
        # Archives with a time in their names have it as version, too.
        if name not in (model.name, "%s_%s" % (model.name, model.version)):
            return error_answer(404, "Model not found: %s" % name, "ModelNotFoundException")
        if version not in ("", "all", model.version):
            message = "Model version: %s does not exist for model: %s" % (version, name)
            return error_answer(404, message, "ModelVersionNotFoundException")
        return None
