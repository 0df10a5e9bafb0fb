"""The names of the package `kfserving` (0.3) for models whose environment lacks it."""

import argparse
import os
from typing import Any, Dict, List, Optional

from .predictor_client import PredictorClient
from .storage import Storage

KFSERVING_LOGLEVEL = os.environ.get("KFSERVING_LOGLEVEL", "INFO").upper()

# Without --model_name, which the parsers of models add to it.
parser = argparse.ArgumentParser(add_help=False)
parser.add_argument("--http_port", default=8080, type=int)
parser.add_argument("--grpc_port", default=8081, type=int)
parser.add_argument("--max_buffer_size", default=100 * 1024 * 1024, type=int)
parser.add_argument("--workers", default=0, type=int)
args, _ = parser.parse_known_args()


class KFModel:
    """A model with the methods that a subclass overrides; by itself it calls a predictor."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ready = False
        self.predictor_host: Optional[str] = None
        self.explainer_host: Optional[str] = None
        # The headers of the current request, with names in lower case.
        self.request_headers: Dict[str, str] = {}
        self._clients: Dict[str, PredictorClient] = {}

    def load(self) -> Any:
        """Load the model and set `ready`."""
        self.ready = True
        return self.ready

    def preprocess(self, request: Any) -> Any:
        """Return the payload for `predict`."""
        return request

    def predict(self, request: Any) -> Any:
        """Return the predictor's answer to the payload."""
        return self._call(self.predictor_host, "predict", request)

    def explain(self, request: Any) -> Any:
        """Return the explainer's answer to the payload."""
        return self._call(self.explainer_host, "explain", request)

    def postprocess(self, request: Any) -> Any:
        """Return the answer for the result of `predict`."""
        return request

    def _call(self, host: Optional[str], verb: str, payload: Any) -> Any:
        if not host:
            raise NotImplementedError("the model has no method %s and no host to call" % verb)
        if host not in self._clients:
            self._clients[host] = PredictorClient(host)
        return self._clients[host].call("v1", verb, self.name, payload, self.request_headers)


class KFServer:
    """The server that a model's script starts; the processor serves in its place."""

    def __init__(self, *ports: int, **options: Any) -> None:
        pass

    def start(self, models: List[Any]) -> None:
        """Replaced by the worker, which takes the models."""
        raise RuntimeError("the models of this process are served by the processor")
