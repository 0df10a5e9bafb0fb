"""The paths of the protocols, and the answers that need no worker.

Statuses and bodies of V1 and V2 are those of KServe's server (kserve/protocol/rest in its package).
"""

import re
from typing import Any, Callable, Dict, List, Union

from ... import __version__
from . import torchserve
from .answers import DirectAnswer, InferenceRoute
from .errors import error_body
from .mapping import Model

V1_PREFIX = "/v1/models"
V2_PREFIX = "/v2"
# Of a protocol that the function does not serve. Other paths below /v2 are those of its handler.
_ABSENT_PREFIXES = (("v1", V1_PREFIX), ("v2", "/v2/models"), ("v2", "/v2/health"))
EXTENSIONS = ("binary_tensor_data",)
_HEALTH_CHECK = re.compile(
    r"/v2/health/(live|ready)\Z|/v2/models/[^/]+(/versions/[^/]+)?/ready\Z|/ping\Z"
)


class ProtocolRouter:
    """The routes of a model. `is_ready` tells if every worker has run init_context.

    `declared_tensors` returns those that a model of KServe declares, and `describe` the entries of
    TorchServe's description that are not in the model.
    """

    def __init__(
        self,
        model: Model,
        is_ready: Callable[[], bool],
        declared_tensors: Callable[[], Dict[str, Any]],
        describe: Callable[[], Dict[str, Any]] = dict,
    ) -> None:
        # The gRPC server turns calls into requests of V2.
        served = {"v2" if name == "grpc" else name for name in model.protocols}
        self._absent = {prefix: name for name, prefix in _ABSENT_PREFIXES if name not in served}
        all_prefixes = [("v1", V1_PREFIX), ("v2", V2_PREFIX)]
        all_prefixes += [(torchserve.PROTOCOL, prefix) for prefix in torchserve.PREFIXES]
        self.prefixes = (
            *(prefix for name, prefix in all_prefixes if name in served),
            *self._absent,
        )
        self._torchserve = torchserve.TorchServeRouter(model, is_ready, describe)
        self._model = model
        self._is_ready = is_ready
        self._declared_tensors = declared_tensors

    def is_health_check(self, path: str) -> bool:
        """Return True for a path of a served protocol that tells only if the model is ready."""
        return bool(_HEALTH_CHECK.match(path)) and path.startswith(self.prefixes)

    def route(self, method: str, path: str) -> Union[DirectAnswer, InferenceRoute, None]:
        """Return the answer or the route of a request; None if its path is of no protocol."""
        prefix = next((prefix for prefix in self.prefixes if path.startswith(prefix)), None)
        if prefix is None or path[len(prefix) : len(prefix) + 1] not in ("", "/"):
            return None
        if prefix in self._absent:
            message = "The function serves %s; add %s to the protocols of its http trigger."
            absent = self._absent[prefix]
            return DirectAnswer(
                404, error_body(message % (", ".join(self._model.protocols), absent))
            )
        if prefix in torchserve.PREFIXES:
            return self._torchserve.route(method, path)
        rest = path[len(prefix) :].rstrip("/")
        parts = rest.split("/")[1:]
        return self._v1(method, parts) if prefix == V1_PREFIX else self._v2(method, parts)

    def _v1(self, method: str, parts: List[str]) -> Union[DirectAnswer, InferenceRoute]:
        if not parts:
            return _get(method, {"models": [self._model.name]})
        name, colon, verb = parts[0].rpartition(":")
        if len(parts) > 1 or (method == "POST" and colon and verb not in ("predict", "explain")):
            return _not_found("/".join([V1_PREFIX, *parts]))
        if method != "POST" or not colon:
            return self._model_status(method, parts[0])
        return self._unknown(name) or InferenceRoute("v1", verb)

    def _v2(self, method: str, parts: List[str]) -> Union[DirectAnswer, InferenceRoute]:
        if parts[:1] == ["models"] and len(parts) > 1:
            return self._v2_model(method, parts[1], parts[2:])
        if parts[:1] == ["repository"]:
            message = "Models are not loaded or unloaded; deploy another revision instead."
            return DirectAnswer(501, error_body(message))
        if parts == ["health", "ready"] and not self._is_ready():
            return DirectAnswer(503, error_body("Server is not ready."))
        values: Dict[str, Dict[str, Any]] = {
            "": {"name": "fnbuild", "version": __version__, "extensions": list(EXTENSIONS)},
            "health/live": {"live": True},
            "health/ready": {"ready": True},
            "models": {"models": [self._model.name]},
        }
        value = values.get("/".join(parts))
        return _not_found("/".join([V2_PREFIX, *parts])) if value is None else _get(method, value)

    def _v2_model(
        self, method: str, name: str, rest: List[str]
    ) -> Union[DirectAnswer, InferenceRoute]:
        if len(rest) > 1 and rest[0] == "versions":
            unknown = self._unknown(name, rest[1])
            rest = rest[2:]
        else:
            unknown = self._unknown(name)
        if unknown is not None:
            return unknown
        if not rest:
            return _get(method, self._model.metadata(self._declared_tensors()))
        if rest == ["ready"]:
            return self._model_status(method, name)
        if rest != ["infer"]:
            return _not_found("/".join([V2_PREFIX, "models", name, *rest]))
        return InferenceRoute("v2", "infer") if method == "POST" else _wrong_method(method, "POST")

    def _model_status(self, method: str, name: str) -> DirectAnswer:
        unknown = self._unknown(name)
        if unknown is not None:
            return unknown
        if not self._is_ready():
            return DirectAnswer(503, error_body("Model with name %s is not ready." % name))
        return _get(method, {"name": name, "ready": True})

    def _unknown(self, name: str, version: str = "") -> "Union[DirectAnswer, None]":
        """Return the answer for another model or revision than this one; else None."""
        model = self._model
        if name != model.name:
            return DirectAnswer(404, error_body("Model with name %s does not exist." % name))
        if version and version != model.version:
            serving = "; revision %s is serving" % model.version if model.version else ""
            message = "Model with name %s has no version %s%s." % (name, version, serving)
            return DirectAnswer(404, error_body(message))
        return None


def _get(method: str, value: Dict[str, Any]) -> DirectAnswer:
    return (
        DirectAnswer(200, value)
        if method in ("GET", "HEAD")
        else _wrong_method(method, "GET, HEAD")
    )


def _wrong_method(method: str, allowed: str) -> DirectAnswer:
    return DirectAnswer(405, error_body("The method %s is not allowed." % method), allowed)


def _not_found(path: str) -> DirectAnswer:
    return DirectAnswer(404, error_body("The path %s does not exist." % path))
