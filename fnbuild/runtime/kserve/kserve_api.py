"""The names of the package `kserve` for models whose environment lacks it.

They are those that the models of KServe's documentation use, as in release 0.21.
"""

import argparse
import enum
import logging
import os
import uuid
from typing import Any, Dict, List, NamedTuple, Optional

from .infer_types import (
    InferenceError,
    InferInput,
    InferOutput,
    InferRequest,
    InferResponse,
    InvalidInput,
    numpy_datatype,
)
from .predictor_client import PredictorClient
from .storage import Storage

KSERVE_LOGLEVEL = os.environ.get("KSERVE_LOGLEVEL", "INFO").upper()
logger = logging.getLogger("kserve")


def configure_logging(log_config: Any = None) -> None:
    """Log to stderr at KSERVE_LOGLEVEL, which the processor reads."""
    logging.basicConfig(level=KSERVE_LOGLEVEL)


def strtobool(text: str) -> bool:
    """Return the value of `true`, `false` and their synonyms."""
    if text.lower() in ("y", "yes", "t", "true", "on", "1"):
        return True
    if text.lower() in ("n", "no", "f", "false", "off", "0"):
        return False
    raise ValueError("%r is neither true nor false" % text)


class PredictorProtocol(enum.Enum):
    """The protocols between a transformer and its predictor."""

    REST_V1 = "v1"
    REST_V2 = "v2"
    GRPC_V2 = "grpc-v2"


_PROTOCOLS = [protocol.value for protocol in PredictorProtocol]

parser = argparse.ArgumentParser(add_help=False)
parser.add_argument("--http_port", default=8080, type=int)
parser.add_argument("--grpc_port", default=8081, type=int)
parser.add_argument("--workers", default=1, type=int)
parser.add_argument("--max_threads", default=4, type=int)
parser.add_argument("--max_asyncio_workers", default=None, type=int)
parser.add_argument("--enable_grpc", default=True, type=strtobool)
parser.add_argument("--enable_docs_url", default=False, type=strtobool)
parser.add_argument("--enable_latency_logging", default=True, type=strtobool)
parser.add_argument("--configure_logging", default=True, type=strtobool)
parser.add_argument("--log_config_file", default=None)
parser.add_argument("--access_log_format", default=None)
parser.add_argument("--model_name", default="model")
parser.add_argument("--predictor_host", default=None)
parser.add_argument("--protocol", default="v1", choices=_PROTOCOLS)
parser.add_argument("--predictor_protocol", default="v1", choices=_PROTOCOLS)
parser.add_argument("--predictor_use_ssl", default=False, type=strtobool)
parser.add_argument("--predictor_request_timeout_seconds", default=600, type=int)
parser.add_argument("--predictor_request_retries", default=0, type=int)
parser.add_argument("--enable_predictor_health_check", action="store_true")
args, _ = parser.parse_known_args()


class PredictorConfig(NamedTuple):
    """The address of a predictor, and how it is called; time is in seconds."""

    predictor_host: Optional[str]
    predictor_protocol: str = "v1"
    predictor_use_ssl: bool = False
    predictor_request_timeout_seconds: int = 600
    predictor_request_retries: int = 0
    predictor_health_check: bool = False


class Model:
    """A model with the methods that a subclass overrides; by itself it calls a predictor.

    The predictor is that of the arguments, unless the model has a `predictor_host` or a
    `predictor_config`.
    """

    def __init__(
        self,
        name: str,
        return_response_headers: bool = False,
        predictor_config: Optional[PredictorConfig] = None,
    ) -> None:
        self.name = name
        self.ready = False
        self.engine = False
        self.protocol = ""
        self.predictor_host: Optional[str] = None
        self.explainer_host: Optional[str] = None
        self.predictor_config = predictor_config or _config_of_arguments()
        self.required_response_headers = return_response_headers
        self._clients: Dict[str, PredictorClient] = {}

    def load(self) -> bool:
        """Load the model and set `ready`."""
        self.ready = True
        return self.ready

    def start(self) -> None:
        """Prepare the model after its load."""
        self.ready = True

    def stop(self) -> None:
        """Release the resources of the model."""
        self.ready = False

    async def preprocess(self, payload: Any, headers: Optional[Dict[str, str]] = None) -> Any:
        """Return the payload for `predict`."""
        return payload

    async def predict(
        self,
        payload: Any,
        headers: Optional[Dict[str, str]] = None,
        response_headers: Optional[Dict[str, str]] = None,
    ) -> Any:
        """Return the predictor's answer to the payload."""
        host = self.predictor_host or self.predictor_config.predictor_host
        if not host:
            raise NotImplementedError("Could not find predictor_host.")
        return self._call(host, "predict", payload, headers)

    async def explain(self, payload: Any, headers: Optional[Dict[str, str]] = None) -> Any:
        """Return the explainer's answer to the payload."""
        if not self.explainer_host:
            raise NotImplementedError("Could not find explainer_host.")
        return self._call(self.explainer_host, "explain", payload, headers)

    async def postprocess(
        self,
        result: Any,
        headers: Optional[Dict[str, str]] = None,
        response_headers: Optional[Dict[str, str]] = None,
    ) -> Any:
        """Return the answer for the result of `predict`."""
        return result

    def _call(self, host: str, verb: str, payload: Any, headers: Optional[Dict[str, str]]) -> Any:
        config = self.predictor_config
        protocol = self.protocol or config.predictor_protocol
        protocol = getattr(protocol, "value", protocol)
        if protocol not in ("v1", "v2"):
            raise NotImplementedError(
                "predictor_protocol %s needs the package kserve; v2 does not" % protocol
            )
        if host not in self._clients:
            self._clients[host] = PredictorClient(
                host, config.predictor_use_ssl, config.predictor_request_timeout_seconds
            )
        if isinstance(payload, InferRequest):
            payload = payload.to_rest()[0]
        answer = self._clients[host].call(protocol, verb, self.name, payload, headers or {})
        is_response = protocol == "v2" and isinstance(answer, dict) and "outputs" in answer
        return InferResponse.from_rest(answer) if is_response else answer


def _config_of_arguments() -> PredictorConfig:
    # Since 0.11 --protocol is the old name of --predictor_protocol.
    protocol = args.predictor_protocol if args.predictor_protocol != "v1" else args.protocol
    return PredictorConfig(
        args.predictor_host,
        protocol,
        args.predictor_use_ssl,
        args.predictor_request_timeout_seconds,
    )


class ModelServer:
    """The server that a model's script starts; the processor serves in its place."""

    def __init__(self, *ports: int, **options: Any) -> None:
        pass

    def start(self, models: List[Any]) -> None:
        """Replaced by the worker, which takes the models."""
        raise RuntimeError("the models of this process are served by the processor")


def generate_uuid() -> str:
    """Return a new id for a response."""
    return str(uuid.uuid4())


def get_predict_input(payload: Any, columns: Optional[List[str]] = None) -> Any:
    """Return the instances of a V1 payload, or the first tensor of a V2 request, as an array.

    Texts stay a list, and objects become a DataFrame.
    """
    import numpy

    if isinstance(payload, InferRequest):
        first = payload.inputs[0]
        is_text = first.datatype == "BYTES" and first.data and isinstance(first.data[0], str)
        return first.data if is_text else first.as_numpy()
    instances = payload["inputs"] if "inputs" in payload else payload["instances"]
    if instances and isinstance(instances[0], str):
        return instances
    if instances and isinstance(instances[0], dict):
        import pandas

        return pandas.DataFrame(instances, columns=columns)
    return numpy.array(instances)


def get_predict_response(payload: Any, result: Any, model_name: str) -> Any:
    """Return the response to a V1 payload or a V2 request for a list or an array."""
    import numpy

    if not isinstance(payload, InferRequest):
        return {"predictions": result.tolist() if hasattr(result, "tolist") else result}
    array = numpy.asarray(result)
    datatype = numpy_datatype(array.dtype)
    output = InferOutput("output-0", list(array.shape), datatype)
    output.set_data_from_numpy(array, binary_data=False)
    return InferResponse(payload.id or generate_uuid(), model_name, [output])
