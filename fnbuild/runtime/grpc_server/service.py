"""The methods of the services: GRPCInferenceService, and grpc.health.v1.Health."""

import asyncio
import json
from contextlib import suppress
from typing import Any, AsyncIterator, Awaitable, Dict

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2

from . import proto
from .contents import TensorError
from .conversion import SIZE_HEADER, forwarded_headers, infer_request, infer_response, model_path
from .upstream import Answer, Upstream

HEALTH_SERVICE = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name

# Other statuses are INTERNAL.
_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    501: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
# Seconds between the checks of a Watch call.
_WATCH_INTERVAL = 1.0


class InferenceService:
    """The methods of GRPCInferenceService. Each calls the processor's V2 protocol."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    def handler(self) -> Any:
        """Return the handler of the service for a server."""
        methods = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ServerMetadata": self._server_metadata,
            "ModelReady": self._model_ready,
            "ModelMetadata": self._model_metadata,
            "ModelInfer": self._model_infer,
        }
        handlers = {}
        for descriptor in proto.service_methods():
            request = proto.message_class(descriptor.input_type.name)
            response = proto.message_class(descriptor.output_type.name)
            handlers[descriptor.name] = grpc.unary_unary_rpc_method_handler(
                _decoding(request, methods[descriptor.name]),
                response_serializer=response.SerializeToString,
            )
        return grpc.method_handlers_generic_handler(proto.SERVICE, handlers)

    async def _server_live(self, _request: Any, context: Any) -> Any:
        answer = await self._get("/v2/health/live", context)
        return proto.message_class("ServerLiveResponse")(live=answer.status == 200)

    async def _server_ready(self, _request: Any, context: Any) -> Any:
        answer = await self._get("/v2/health/ready", context)
        return proto.message_class("ServerReadyResponse")(ready=answer.status == 200)

    async def _server_metadata(self, _request: Any, context: Any) -> Any:
        values = await self._get_json("/v2", context)
        fields = {key: values.get(key) for key in ("name", "version", "extensions")}
        return proto.message_class("ServerMetadataResponse")(**fields)

    async def _model_ready(self, request: Any, context: Any) -> Any:
        path = model_path(request.name, request.version) + "/ready"
        answer = await self._get(path, context)
        if answer.status not in (200, 503):
            await _abort(answer, context)
        return proto.message_class("ModelReadyResponse")(ready=answer.status == 200)

    async def _model_metadata(self, request: Any, context: Any) -> Any:
        values = await self._get_json(model_path(request.name, request.version), context)
        fields = {key: values.get(key) for key in ("name", "versions", "platform")}
        response = proto.message_class("ModelMetadataResponse")(**fields)
        for key, tensors in (("inputs", response.inputs), ("outputs", response.outputs)):
            for tensor in values.get(key) or ():
                tensors.add(name=tensor["name"], datatype=tensor["datatype"], shape=tensor["shape"])
        return response

    async def _model_infer(self, message: Any, context: Any) -> Any:
        try:
            request = infer_request(message)
        except TensorError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        headers = forwarded_headers(context.invocation_metadata())
        headers.append(("Content-Type", "application/octet-stream"))
        headers.append((SIZE_HEADER, str(len(request.head))))
        body = [request.head, *request.tensors]
        answer = await _answer(self._upstream.post(request.target, headers, body), context)
        if answer.status != 200:
            await _abort(answer, context)
        try:
            return infer_response(answer.headers, answer.body, request.typed)
        except (TensorError, ValueError, KeyError, TypeError) as error:
            text = "the function's reply is no V2 answer: %s: %s" % (type(error).__name__, error)
            await context.abort(grpc.StatusCode.INTERNAL, text)

    async def _get(self, path: str, context: Any) -> Answer:
        headers = forwarded_headers(context.invocation_metadata())
        return await _answer(self._upstream.get(path, headers), context)

    async def _get_json(self, path: str, context: Any) -> Dict[str, Any]:
        answer = await self._get(path, context)
        if answer.status != 200:
            await _abort(answer, context)
        values: Dict[str, Any] = json.loads(answer.body.decode("utf-8"))
        return values


class HealthService:
    """The methods of grpc.health.v1.Health, for the server and the inference service."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    def handler(self) -> Any:
        """Return the handler of the service for a server."""
        deserializer = health_pb2.HealthCheckRequest.FromString
        serializer = health_pb2.HealthCheckResponse.SerializeToString
        handlers = {
            "Check": grpc.unary_unary_rpc_method_handler(
                self._check, request_deserializer=deserializer, response_serializer=serializer
            ),
            "Watch": grpc.unary_stream_rpc_method_handler(
                self._watch, request_deserializer=deserializer, response_serializer=serializer
            ),
        }
        return grpc.method_handlers_generic_handler(HEALTH_SERVICE, handlers)

    async def _check(self, request: Any, context: Any) -> Any:
        if not _is_served(request.service):
            text = 'there is no service "%s"' % request.service
            await context.abort(grpc.StatusCode.NOT_FOUND, text)
        return health_pb2.HealthCheckResponse(status=await self._status())

    async def _watch(self, request: Any, _context: Any) -> AsyncIterator[Any]:
        sent = None
        while True:
            status = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
            if _is_served(request.service):
                status = await self._status()
            if status != sent:
                sent = status
                yield health_pb2.HealthCheckResponse(status=status)
            await asyncio.sleep(_WATCH_INTERVAL)

    async def _status(self) -> Any:
        with suppress(OSError):
            if (await self._upstream.get("/v2/health/ready")).status == 200:
                return health_pb2.HealthCheckResponse.SERVING
        return health_pb2.HealthCheckResponse.NOT_SERVING


def _decoding(message_class: Any, method: Any) -> Any:
    """Return the method for undecoded messages; an invalid one is the client's mistake."""

    async def call(data: bytes, context: Any) -> Any:
        try:
            message = message_class.FromString(data)
        except DecodeError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        return await method(message, context)

    return call


def _is_served(service: str) -> bool:
    return service in ("", proto.SERVICE)


async def _abort(answer: Answer, context: Any) -> None:
    """End the call with the status and the error of an HTTP answer."""
    text = answer.body.decode("utf-8", "replace")
    with suppress(ValueError, KeyError, TypeError):
        text = str(json.loads(text)["error"])
    await context.abort(_CODES.get(answer.status, grpc.StatusCode.INTERNAL), text)


async def _answer(request: Awaitable[Answer], context: Any) -> Answer:
    """Return the answer to a request; end the call if there is none."""
    try:
        return await request
    except OSError as error:
        text = "the function's processor does not answer: %s" % error
        await context.abort(grpc.StatusCode.UNAVAILABLE, text)
        raise
