"""A model of KServe or KFServing as the handler of whole requests."""

import inspect
import sys
from typing import Any, Callable, Dict, List, Tuple

from .. import tracebacks
from ..load_error import LoadError
from .infer_types import InvalidInput
from .predictor_client import error_text

# The statuses of exceptions by the names of their classes, which the installed packages and the
# provided ones have in common.
_STATUSES = {
    "InvalidInput": 400,
    "ModelNotFound": 404,
    "InferenceError": 500,
    "NotImplementedError": 501,
    "ModelNotReady": 503,
}
_METHODS = ("preprocess", "predict", "explain", "postprocess")


class ModelHandler:
    """The handler of a worker for a model; `name` is that in URLs.

    `create` returns the model for the context of the worker.
    """

    def __init__(self, name: str, create: Callable[[Any], Any]) -> None:
        self._name = name
        self._create = create
        self._model: Any = None
        # The number of arguments that each method takes: KFServing's have no headers.
        self._argument_counts: Dict[str, int] = {}
        self.declared_tensors: Dict[str, Any] = {}

    def init_context(self, context: Any) -> Any:
        """Create the model; return the coroutine that loads it."""
        # Not in a coroutine: KServe keeps the predictor in a variable of the current context, and
        # each coroutine runs in a copy of it.
        return self._load(context, self._create(context))

    async def _load(self, context: Any, model: Any) -> None:
        if not model.ready:
            await resolved(model.load())
        if hasattr(model, "start"):
            if not model.ready:
                raise LoadError("the model %s is not ready: load() sets self.ready" % model.name)
            await resolved(model.start())
        if getattr(model, "engine", False):
            await resolved(model.start_engine())
        if model.name != self._name:
            context.logger.warn(
                "The model is called %s, and its URLs have the name %s" % (model.name, self._name)
            )
        self._argument_counts = {
            name: _count_arguments(getattr(model, name))
            for name in _METHODS
            if hasattr(model, name)
        }
        if hasattr(model, "stop"):
            context.platform.set_termination_callback(model.stop)
        self.declared_tensors = await _declared_tensors(context, model)
        self._model = model

    def __call__(self, context: Any, event: Any) -> Any:
        """Return a coroutine for the model's answer to a request, or for the error reply.

        For a list of events, those of a batch, it is one for the list of answers.
        """
        if isinstance(event, list):
            return self._replies(context, event, self._loading(context))
        return self._reply(context, event, "predict", self._loading(context))

    def explain(self, context: Any, event: Any) -> Any:
        """Return a coroutine for the model's explanation, or for the error reply."""
        return self._reply(context, event, "explain", self._loading(context))

    def _loading(self, context: Any) -> Any:
        # After a reload of the module there is no model yet.
        return self.init_context(context) if self._model is None else None

    async def _replies(self, context: Any, events: List[Any], loading: Any) -> List[Any]:
        if loading is not None:
            await loading
        return [await self._reply(context, event, "predict", None) for event in events]

    async def _reply(self, context: Any, event: Any, verb: str, loading: Any) -> Any:
        if loading is not None:
            await loading
        try:
            result, headers = await self._run(event, verb)
        except Exception as error:  # noqa: BLE001 - a model may raise anything
            return _error_reply(context, error)
        if not headers:
            return result
        names = [name for name in headers if name.lower() != "content-length"]
        return context.Response(
            body=result,
            headers={name: headers[name] for name in names},
            content_type="application/json",
        )

    async def _run(self, event: Any, verb: str) -> Tuple[Any, Dict[str, str]]:
        """Return the result and the headers that the model sets."""
        model = self._model
        headers = {name.lower(): value for name, value in event.headers.items()}
        # KFServing's methods do not get them.
        model.request_headers = headers
        added: Dict[str, str] = {}
        more: List[Any] = [added] if getattr(model, "required_response_headers", False) else []
        payload = _validated_payload(_to_payload(event, self._name))
        payload = await self._call("preprocess", payload, headers)
        payload = (
            model.validate(payload) if hasattr(model, "validate") else _validated_payload(payload)
        )
        result = await self._call(verb, payload, headers, *more)
        result = await self._call("postprocess", result, headers, *more)
        if hasattr(result, "to_rest"):
            result = result.to_rest()[0]
        if hasattr(type(result), "__anext__"):
            result = _generate(result)
        return result, added

    async def _call(self, method: str, *arguments: Any) -> Any:
        if method not in self._argument_counts:
            raise NotImplementedError("the model has no method %s" % method)
        return await resolved(
            getattr(self._model, method)(*arguments[: self._argument_counts[method]])
        )


async def resolved(value: Any) -> Any:
    """Return the value, or its result if it is awaitable."""
    return await value if hasattr(type(value), "__await__") else value


async def _generate(items: Any) -> Any:
    """Return an async generator, which workers send as a stream, for any async iterator."""
    async for item in items:
        yield item


async def _declared_tensors(context: Any, model: Any) -> Dict[str, Any]:
    """Return the inputs and outputs that a model declares for its metadata."""
    tensors: Dict[str, Any] = {"inputs": [], "outputs": []}
    for key, method in (("inputs", "get_input_types"), ("outputs", "get_output_types")):
        try:
            tensors[key] = [
                {
                    "name": str(item["name"]),
                    "datatype": str(item["datatype"]),
                    "shape": [int(size) for size in item["shape"]],
                }
                for item in await resolved(getattr(model, method, list)()) or ()
            ]
        # Only the metadata lacks them.
        except Exception as error:  # noqa: BLE001 - a model may raise anything
            message = "%s() of the model: %s" % (method, tracebacks.error_message(error))
            context.logger.warn("%s", message)
    return tensors


def _validated_payload(payload: Any) -> Any:
    """Return the payload; raise InvalidInput if its instances are not a list."""
    if isinstance(payload, dict) and not isinstance(payload.get("instances", []), list):
        raise InvalidInput('Expected "instances" to be a list')
    return payload


def _count_arguments(method: Callable[..., Any]) -> int:
    """Return the number of positional arguments that a method takes."""
    count = 0
    for parameter in inspect.signature(method).parameters.values():
        if parameter.kind == parameter.VAR_POSITIONAL:
            return 3
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            count += 1
    return count


def _to_payload(event: Any, name: str) -> Any:
    """Return the body, for a model of KServe in V2 as an InferRequest."""
    body = event.body
    package = sys.modules.get("kserve")
    if package is None or not event.path.startswith("/v2/") or not isinstance(body, dict):
        return body
    inputs = [
        package.InferInput(
            tensor["name"],
            list(tensor["shape"]),
            tensor["datatype"],
            tensor["data"],
            tensor.get("parameters"),
        )
        for tensor in body["inputs"]
    ]
    # The worker writes the tensors of the response, in binary form if the client asks for that.
    parameters = dict(body.get("parameters") or {})
    parameters.pop("binary_data_output", None)
    return package.InferRequest(name, inputs, body.get("id"), parameters=parameters)


def _error_reply(context: Any, error: Exception) -> Any:
    """Log an exception of the model; return its reply.

    The predictor's status is passed on: those of the provided client, Tornado's and httpx' errors.
    """
    response = getattr(error, "response", None)
    status = getattr(error, "status_code", None) or getattr(response, "status_code", None)
    status = status or getattr(error, "reply_status", None)
    message = tracebacks.error_message(error)
    if status is not None:
        reason = getattr(response, "content", None) or getattr(error, "reason", None) or message
        message = error_text(reason)
    else:
        names = [base.__name__ for base in type(error).__mro__]
        statuses = [_STATUSES[name] for name in names if name in _STATUSES]
        status = statuses[0] if statuses else 500
        if not statuses:
            message = "%s : %s" % (type(error).__name__, message)
    if status >= 500:
        context.logger.error("%s", "%s\n%s" % (message, tracebacks.format_error(error)))
    else:
        context.logger.warn("%s", "answered %d: %s" % (status, message))
    return context.Response(body={"error": message}, status_code=int(status))
