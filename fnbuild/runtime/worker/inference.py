"""Answer requests of the inference protocols with the handler.

A request becomes an event for each instance, or one event (`event: request`). In the meta of its
event, `pr` is its route (see `triggers.inference`). A request with several instances is answered
with their requests (SplitReply), which the trigger sends to the pool; each is answered with a part
of the response, and a worker joins the parts. In a batch, all instances are events of that batch.
"""

import json
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

from .. import wire
from ..protocols import content_coding, torchserve, v2
from ..protocols.errors import ProtocolError, error_body
from ..protocols.instances import Instance, join_json
from ..protocols.mapping import Model, read_model
from ..protocols.tensor_mapping import (
    ReplyMappingError,
    join_outputs,
    output_tensors,
    predictions_tensor,
    read_instance,
    tensors_of_response,
)
from .handler_calls import HandlerCalls, NoExplainerError
from .inference_call import (
    CallReader,
    InferenceCall,
    InferenceLimits,
    header,
    read_tensors,
    split,
    write_tensors,
)
from .responses import (
    Headers,
    ReplyError,
    WorkerReply,
    header_pairs,
    json_body,
    status_number,
)

_JSON_HEADERS = [("Content-Type", "application/json")]
# The lowest status of an error.
_ERROR_STATUS = 400
_ALL_BINARY = v2.ResponseOptions("", True, None)

# The result of a call: JSON, or tensors.
Result = Union[bytes, v2.Outputs]


class _FinalReply(Exception):  # noqa: N818 - also a complete response
    """The reply to the whole request: an error, or a complete response of the handler."""

    def __init__(self, reply: WorkerReply) -> None:
        super().__init__()
        self.reply = reply


class InferenceHandler:
    """The handler of a function as a model."""

    def __init__(self, calls: HandlerCalls, model: Model, limits: InferenceLimits) -> None:
        self._calls = calls
        self._model = model
        self._limits = limits
        self._reader = CallReader(model, limits)

    def answer(self, meta: wire.Meta, body: wire.Body) -> WorkerReply:
        """Return the reply to a request, to a request for one instance, or to joined parts."""
        reply = self._answer(meta, body)
        is_final = "part" not in meta["pr"] and not _is_event(meta)
        return _compressed(reply, meta) if is_final else reply

    def _answer(self, meta: wire.Meta, body: wire.Body) -> WorkerReply:
        instances: List[Instance] = []
        try:
            if _is_event(meta):
                return self._answer_event(meta, body)
            if "join" in meta["pr"]:
                return self._join(meta, body)
            call = self._reader.read(meta, body)
            if call.size > 1 and not self._limits.batch_size:
                return split(call)
            instances = call.instances
            return self._write(call, *self._handle(call))
        # SystemExit and KeyboardInterrupt, too: an error of the handler must not end the worker.
        except BaseException as error:  # noqa: BLE001
            return _in_protocol(self._failure(error, instances), meta)

    def _answer_event(self, meta: wire.Meta, body: wire.Body) -> WorkerReply:
        """Return the reply to a request of TorchServe's API, which is one event."""
        function = self._calls.explain if meta["pr"]["m"] == "explain" else self._calls.call
        event = self._calls.make_event(meta, body)
        event.push_reply = self._calls.push_reply
        try:
            return self._calls.convert(function(event))
        finally:
            event.release_body(True)

    def _handle(self, call: InferenceCall) -> Tuple[List[Result], Headers]:
        """Call the handler for each instance; return its results, and the headers of a single."""
        function = self._calls.call
        if call.meta["pr"]["m"] == "explain":
            function = self._calls.explain
        outputs = [function(event) for event in self._make_events(call)]
        if outputs and self._is_passed_on(call, outputs[0]):
            raise _FinalReply(self._calls.convert(outputs[0]))
        results = [self._result(call, output) for output in outputs]
        return results, self._headers_of(outputs[0]) if len(outputs) == 1 else []

    def _is_passed_on(self, call: InferenceCall, output: Any) -> bool:
        """Return True for a stream of a model, whose items are sent as they come, as by KServe."""
        is_v1 = call.meta["pr"]["p"] == "v1"
        return is_v1 and self._calls.answers_requests and self._calls.is_stream(output)

    def _failure(self, error: BaseException, instances: Sequence[Instance]) -> WorkerReply:
        """Return the reply for an exception of this module or of the handler.

        If the handler has failed and the request's base64 is invalid, that is the error.
        """
        if isinstance(error, ProtocolError):
            return _error_reply(error.reply_status, str(error))
        if isinstance(error, NoExplainerError):
            return _error_reply(501, "the function has no explain(context, event)")
        if isinstance(error, _FinalReply):
            reply = error.reply
        elif isinstance(error, (ReplyError, ReplyMappingError)):
            reply = _as_error(self._calls.invalid_reply(str(error)))
        else:
            reply = _as_error(self._calls.failed_event(error), error)
        if reply.status >= 500 and any(item.has_invalid_base64() for item in instances):
            return _error_reply(400, "the image of an instance is not base64")
        return reply

    def _make_events(self, call: InferenceCall) -> List[Any]:
        instances = call.instances
        if call.tensors:
            instances = [
                read_instance(tensors, call.parameters or {}, self._model)
                for tensors in call.tensors
            ]
            call.instances.extend(instances)
        events = []
        for index, instance in enumerate(instances):
            # The body is no longer in the form that the request's header describes.
            meta = dict(call.meta, ct="application/json")
            if len(instances) > 1:
                meta["i"] += "-%d" % index
            event = self._calls.make_event(meta, call.raw)
            event.instance = instance
            event.parsed = instance.body
            events.append(event)
        return events

    # Several instances.

    def _join(self, meta: wire.Meta, body: wire.Body) -> WorkerReply:
        options = v2.ResponseOptions(*meta["pr"]["join"])
        call = InferenceCall(meta, [], [], options, b"")
        results: List[Result] = []
        start = 0
        for size in meta["sizes"]:
            part = bytes(body[start : start + size])
            start += size
            results.append(self._read_outputs(part) if self._has_outputs(meta) else part)
        return self._write(call, results, [])

    def answer_batch(self, items: Sequence[Tuple[wire.Meta, bytes]]) -> List[WorkerReply]:
        """Return the reply to each request of a batch, in which others are plain events."""
        replies: List[WorkerReply] = []
        calls: List[Tuple[int, InferenceCall]] = []
        events: List[Any] = []
        for meta, raw in items:
            # Replaced below, but for requests that cannot be read and those of `explain`.
            replies.append(WorkerReply(200, [], b""))
            try:
                if meta.get("pr", {}).get("m") == "explain":
                    replies[-1] = self.answer(meta, raw)
                    continue
                if _is_event(meta):
                    call = InferenceCall(meta, [Instance(None)], [], _ALL_BINARY, raw)
                    own_events = [self._calls.make_event(meta, raw)]
                else:
                    call = self._reader.read(meta, raw)
                    own_events = self._make_events(call)
            except ProtocolError as error:
                replies[-1] = self._failure(error, [])
                continue
            calls.append((len(replies) - 1, call))
            events += own_events
        outputs = self._call_in_batches(events)
        for index, call in calls:
            own, outputs = outputs[: call.size], outputs[call.size :]
            reply = self._batch_reply(call, own)
            is_event = _is_event(call.meta)
            replies[index] = reply if is_event else _compressed(reply, call.meta)
        return replies

    def _call_in_batches(self, events: List[Any]) -> List[Any]:
        """Return the handler's result or exception for each event."""
        outputs: List[Any] = []
        size = self._limits.batch_size
        for start in range(0, len(events), size):
            batch = events[start : start + size]
            try:
                outputs += self._calls.call_batch(batch)
            # As for one event: an error of the handler must not end the worker.
            except BaseException as error:  # noqa: BLE001
                outputs += [error] * len(batch)
        return outputs

    def _batch_reply(self, call: InferenceCall, outputs: List[Any]) -> WorkerReply:
        is_plain = "pr" not in call.meta
        try:
            for output in outputs:
                if isinstance(output, BaseException):
                    raise output
            if _is_event(call.meta):
                return self._calls.convert_whole(outputs[0])
            return self._write(call, [self._result(call, output) for output in outputs], [])
        except ReplyError as problem:
            reply = self._calls.invalid_reply(str(problem))
            return reply if is_plain else _in_protocol(_as_error(reply), call.meta)
        # As for one event: an error of the handler must not end the worker.
        except BaseException as error:  # noqa: BLE001
            if is_plain:
                return self._calls.failed_event(error)
            return _in_protocol(self._failure(error, call.instances), call.meta)

    # Results of calls.

    def _result(self, call: InferenceCall, output: Any) -> Result:
        """Return the result for an output of the handler; raise _FinalReply if it is an error."""
        if self._model.takes_requests:
            is_v2 = call.meta["pr"]["p"] == "v2"
            output = self._whole(output)
            payload = self._payload(output)
            # As in TensorFlow Serving, V1 has outputs for inputs by column.
            keys = ("outputs",) if is_v2 else (_v1_key(call.meta), "outputs")
            is_answer = isinstance(payload, dict) and any(key in payload for key in keys)
            if is_answer and is_v2:
                parameters = payload.get("parameters")
                has_parameters = isinstance(parameters, dict)
                tensors = tensors_of_response(payload)
                return v2.Outputs(tensors, parameters if has_parameters else {})
            if is_answer or self._calls.answers_requests:
                raise _FinalReply(self._successful(output))
        if self._has_outputs(call.meta):
            return v2.Outputs(output_tensors(self._payload(output), self._model), {})
        return json_body(self._successful(output), output)

    def _whole(self, output: Any) -> Any:
        """Return an output as it is; a stream, which can be read once, as a response."""
        if not self._calls.is_stream(output):
            return output
        reply = self._successful(output)
        headers: Dict[str, List[str]] = {}
        for name, value in reply.headers:
            headers.setdefault(name, []).append(value)
        return self._calls.response_class(headers, reply.body, status_code=reply.status)

    def _has_outputs(self, meta: wire.Meta) -> bool:
        return meta["pr"]["p"] == "v2" and bool(self._model.outputs)

    def _successful(self, output: Any) -> WorkerReply:
        reply = self._calls.convert_whole(output)
        if reply.status >= _ERROR_STATUS:
            raise _FinalReply(_as_error(reply))
        return reply

    def _payload(self, output: Any) -> Any:
        """Return the value that the handler has returned, without its status and headers."""
        value, status = output, 200
        if isinstance(output, self._calls.response_class):
            value, status = output.body, status_number(output.status_code)
        elif isinstance(output, tuple) and len(output) == 2:
            status, value = status_number(output[0]), output[1]
        if status < _ERROR_STATUS and (isinstance(value, (dict, list)) or hasattr(value, "tolist")):
            return value
        return json.loads(json_body(self._successful(output), output).decode("utf-8"))

    def _headers_of(self, output: Any) -> Headers:
        """Return the headers that the handler has set, but those of the body."""
        if not isinstance(output, self._calls.response_class):
            return []
        pairs = header_pairs(output.headers)
        return [pair for pair in pairs if not pair[0].lower().startswith("content-")]

    # Writing.

    def _write(self, call: InferenceCall, results: List[Result], headers: Headers) -> WorkerReply:
        if "part" in call.meta["pr"]:
            (result,) = results
            part = result if isinstance(result, bytes) else write_tensors(result.tensors, {})
            return WorkerReply(200, _JSON_HEADERS, part)
        if call.meta["pr"]["p"] == "v1":
            fragments = [result for result in results if isinstance(result, bytes)]
            reply = WorkerReply(200, _JSON_HEADERS, join_json(fragments, _v1_key(call.meta)))
        else:
            response = v2.write_response(self._outputs(results), self._model, call.options)
            reply = WorkerReply(200, response.headers, response.body)
        reply.headers = [*reply.headers, *headers]
        return reply

    def _outputs(self, results: List[Result]) -> v2.Outputs:
        rows = [result for result in results if isinstance(result, v2.Outputs)]
        if len(rows) == 1:
            return rows[0]
        if rows:
            return v2.Outputs(join_outputs([row.tensors for row in rows], self._model), {})
        replies = [result for result in results if isinstance(result, bytes)]
        return v2.Outputs([predictions_tensor(replies)], {})

    def _read_outputs(self, part: bytes) -> v2.Outputs:
        return v2.Outputs(read_tensors(part, self._model._replace(inputs=())), {})


def create_inference_handler(
    calls: HandlerCalls, settings: wire.Meta, function: wire.Meta
) -> InferenceHandler:
    """Return the function as a model; `settings` are `inference` of the BEGIN message."""
    model = read_model(settings["attributes"], function)
    assert model is not None
    if calls.answers_requests:
        model = model._replace(takes_requests=True)
    return InferenceHandler(calls, model, InferenceLimits(*settings["limits"]))


def _is_event(meta: wire.Meta) -> bool:
    """Return True for a plain event, and for a request of TorchServe's API, which is one."""
    return "pr" not in meta or bool(meta["pr"]["p"] == torchserve.PROTOCOL)


def _in_protocol(reply: WorkerReply, meta: wire.Meta) -> WorkerReply:
    """Return an error of V1 and V2 in the form of the request's protocol."""
    if meta["pr"]["p"] == torchserve.PROTOCOL:
        message = json.loads(reply.body.decode("utf-8"))["error"]
        answer = torchserve.error_answer(reply.status, message)
        reply.body = answer.encode(answer.value)
    return reply


def _v1_key(meta: wire.Meta) -> str:
    return "explanations" if meta["pr"]["m"] == "explain" else "predictions"


def _error_reply(status: int, message: str) -> WorkerReply:
    return WorkerReply(status, _JSON_HEADERS, json.dumps(error_body(message)).encode("ascii"))


def _as_error(reply: WorkerReply, error: Optional[BaseException] = None) -> WorkerReply:
    """Return an error in the protocol's form; one of an exception begins with its type."""
    try:
        value = json.loads(reply.body.decode("utf-8"))
    except ValueError:
        value = None
    if isinstance(value, dict) and isinstance(value.get("error"), str):
        return _error_reply(reply.status, value["error"])
    text = reply.body.decode("utf-8", "replace")
    if error is not None:
        text = "%s : %s" % (type(error).__name__, error)
    return _error_reply(reply.status, text)


def _compressed(reply: WorkerReply, meta: wire.Meta) -> WorkerReply:
    """Return the reply in a coding that the client accepts, if that is worth it."""
    names = {name.lower() for name, _ in reply.headers}
    if reply.one_message or reply.rest is not None or "content-encoding" in names:
        return reply
    accepted = header(meta, "accept-encoding")
    is_binary = v2.LENGTH_HEADER.lower() in names
    coding = content_coding.choose_coding(accepted, len(reply.body), is_binary)
    if coding is not None:
        reply.body = content_coding.compress(reply.body, coding)
        reply.headers = [*reply.headers, ("Content-Encoding", coding), ("Vary", "Accept-Encoding")]
    return reply
