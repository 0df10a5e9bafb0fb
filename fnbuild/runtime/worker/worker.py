"""The worker of a process: one handler, one context, one event or batch at a time."""

import json
import logging
import os
import sys
import time
from typing import TYPE_CHECKING, Any, List, Optional, Sequence

from .. import tracebacks, wire
from ..load_error import LoadError
from . import offload, process_setup
from .channel import Channel
from .connection_provider import LocalConnectionProvider
from .coroutines import CoroutineRunner, GeneratorItems, is_generator
from .descriptors import DescriptorCheck
from .events import UNSHARED_REFERENCES, make_event_class, split_batch
from .handler_calls import HandlerCalls, NoExplainerError
from .loader import HandlerLoader, run_guarded, signature_problem
from .logger import ProcessorLogHandler, flush_output, make_logger
from .reply_sender import ErrorCallbacks, ReplySender
from .responses import (
    NO_RESPONSE,
    ReplyConverter,
    ReplyError,
    WorkerReply,
    failure_reply,
    match_items,
    match_responses,
)

if TYPE_CHECKING:
    from .inference import InferenceHandler


# The lowest status after which the descriptors are checked.
_ERROR_STATUS = 400


class ConnectionLostError(Exception):
    """The connection to the processor is lost."""


class Worker(HandlerCalls):
    """The handler from `folder`, its context, and the loop that serves events."""

    def __init__(self, setup: wire.Meta, folder: str) -> None:
        self._setup = setup
        self._folder = folder
        self._coroutines = CoroutineRunner()

    def load(self) -> None:
        """Import the handler, with any exception of its code."""
        self._sdk, encoder = process_setup.import_sdk(self._setup)
        process_setup.enter_folder(self._folder, self._setup["mount"])
        self._event_class = make_event_class(self._sdk)
        self.response_class = self._sdk.Response
        self._converter = ReplyConverter(self.response_class, encoder)
        setup = self._setup
        self._loader = HandlerLoader(
            setup["handler"], self._folder, setup["model"], setup["arguments"]
        )
        self._function = self._loader.load()
        self.answers_requests = self._loader.is_model
        if self.answers_requests:
            # As KServe's servers do.
            self._converter.write_arrays()

    def begin(self, channel: Channel, role: wire.Meta) -> None:
        """Take the role of a worker and run init_context, with any exception of its code."""
        os.environ.update(role["device"])
        self._channel = channel
        self._descriptors = DescriptorCheck(channel.sock.fileno())
        self._must_end = False
        self._log_handler = ProcessorLogHandler(channel, role["threshold"])
        on_error = ErrorCallbacks(self.invalid_reply, self.failed_event)
        self._sender = ReplySender(
            channel, self._coroutines, self._converter, role["max_reply"], on_error
        )
        self._inference = self._make_inference(role["inference"])
        if role["offload"]:
            offload.check_functions(self._loader)
        self._init_context(self._log_handler, role)

    def _init_context(self, log_handler: logging.Handler, role: wire.Meta) -> None:
        """Create the context and run init_context."""
        sdk = self._sdk
        self._logger = make_logger(sdk, log_handler)
        self._trigger = sdk.TriggerInfo(role["trigger"]["kind"], role["trigger"]["name"])
        self._platform = self._make_platform()
        self._context = sdk.Context(self._logger, self._platform, role["worker"], self._trigger)
        init_context = self._loader.init_context
        if init_context is not None:
            problem = signature_problem(init_context, "init_context", ("context",))
            if problem:
                raise LoadError(problem)
            self._channel.send(wire.IMPORTED, {})
            self._coroutines.resolve(init_context(self._context))

    @property
    def connected(self) -> bool:
        """Return False if the handler closed or replaced the socket to the processor."""
        return self._descriptors.connected()

    def _make_inference(self, settings: Optional[wire.Meta]) -> "Optional[InferenceHandler]":
        """Return the function as a model, if its trigger serves an inference protocol."""
        if settings is None:
            return None
        # Most workers do not need it.
        from .inference import create_inference_handler

        explain = self._loader.explain
        if explain is not None:
            problem = signature_problem(explain, "explain", ("context", "event"))
            if problem:
                raise LoadError(problem)
        return create_inference_handler(self, settings, self._setup["function"])

    def declared_tensors(self) -> wire.Meta:
        """Return the inputs and outputs that a model of KServe declares; {} for other handlers."""
        return getattr(self._function, "declared_tensors", {})

    def _make_platform(self) -> Any:
        namespace, folder = self._setup["namespace"], self._setup["neighbours"]
        provider = LocalConnectionProvider(folder, namespace) if folder else None
        return self._sdk.Platform("local", namespace, provider)

    def serve(self) -> bool:
        """Handle messages; return True at a stop, False if the processor has ended."""
        while not self._must_end:
            if not self._channel.pending:
                self._coroutines.wait(self._channel.sock)
            message = self._channel.receive()
            if message is None:
                return False
            kind = message.kind
            if kind == wire.EVENT:
                self._handle_event(message.meta, message.body)
            elif kind == wire.RELOAD:
                self._channel.send(wire.RELOADED, {"answer": self._reload()})
            elif kind == wire.DRAIN:
                self.run_callback("drain")
            elif kind == wire.FORGET:
                self._channel.unmap_segment(message.meta["segment"])
            elif kind == wire.STOP:
                return True
            elif kind in (wire.SLEEP, wire.WAKE):
                self._run_offload(kind == wire.SLEEP)
            # Or a large body would stay in memory until the next message.
            del message
        return True

    def _run_offload(self, sleep: bool) -> None:
        def call(function: Any) -> None:
            self._coroutines.resolve(function(self._context))

        offload.run_function("sleep" if sleep else "wake", self._loader, call, self._channel)
        self._channel.send(wire.ASLEEP if sleep else wire.READY, self.declared_tensors())

    def _handle_event(self, meta: wire.Meta, body: wire.Body) -> None:
        if "batch" in meta:
            self._handle_batch(meta, body)
        elif "pr" in meta:
            self._handle_inference(meta, body)
        else:
            self._handle(meta, body)

    def _handle(self, meta: wire.Meta, body: wire.Body) -> None:
        threshold = self._log_handler.threshold
        self._log_handler.threshold = min(threshold, meta.get("l", threshold))
        started = time.monotonic()
        raised = False
        event = None
        try:
            event = self._event_class(meta, body, self._trigger_of(meta))
            output = self._coroutines.resolve(self._function(self._context, event))
            reply = self.convert(output)
        except ReplyError as problem:
            reply = self.invalid_reply(str(problem))
        # SystemExit and KeyboardInterrupt, too: an error of the handler must not end the worker.
        except BaseException as error:  # noqa: BLE001
            reply = self.failed_event(error)
            raised = True
        output = None
        end = self._sender.send_parts(reply, started)
        if self._channel.in_forked_copy:
            # This is a process forked by the handler; its parent sends the reply.
            os._exit(0)
        if event is not None:
            # After the reply the processor reuses the body's memory.
            event.release_body(
                UNSHARED_REFERENCES is None or sys.getrefcount(event) > UNSHARED_REFERENCES
            )
        self._log_handler.threshold = threshold
        self._finish(reply, end, started, raised)

    def _finish(
        self, reply: WorkerReply, end: Optional[wire.Meta], started: float, raised: bool
    ) -> None:
        """Send the reply, or `end` after the items of a generator, which are sent already."""
        flush_output()
        if reply.status >= _ERROR_STATUS or (end and "x" in end):
            self._check_descriptors()
        duration = time.monotonic() - started
        if end is not None:
            self._channel.send(wire.END, dict(end, d=duration))
            return
        if len(reply.body) >= wire.LARGE_BODY and not reply.one_message:
            self._sender.send_large(reply, started, duration)
            return
        reply_meta = reply.meta(started, duration)
        if raised:
            reply_meta["x"] = 1
        self._channel.send(wire.REPLY, reply_meta, reply.body)

    def _handle_inference(self, meta: wire.Meta, body: wire.Body) -> None:
        """Handle a request of an inference protocol."""
        threshold = self._log_handler.threshold
        self._log_handler.threshold = min(threshold, meta.get("l", threshold))
        started = time.monotonic()
        assert self._inference is not None
        reply = self._inference.answer(meta, body)
        end = self._sender.send_parts(reply, started)
        if self._channel.in_forked_copy:
            os._exit(0)
        if isinstance(body, memoryview):
            # After the reply the processor reuses the body's memory.
            body.release()
        self._log_handler.threshold = threshold
        self._finish(reply, end, started, raised=False)

    def _handle_batch(self, meta: wire.Meta, body: wire.Body) -> None:
        """Handle a batch: the handler gets a list of events and returns a list of responses."""
        threshold = self._log_handler.threshold
        self._log_handler.threshold = min(threshold, meta.get("l", threshold))
        started = time.monotonic()
        reply_meta: wire.Meta = {}
        items = split_batch(meta, body)
        if isinstance(body, memoryview):
            body.release()
        if self._inference is not None:
            replies = self._inference.answer_batch(items)
        else:
            events = [self.make_event(part, raw) for part, raw in items]
            replies, raised = self.answer_batch(events)
            if raised:
                reply_meta["x"] = 1
        if self._channel.in_forked_copy:
            os._exit(0)
        self._log_handler.threshold = threshold
        flush_output()
        if any(reply.status >= _ERROR_STATUS for reply in replies):
            self._check_descriptors()
        parts = [[reply.status, reply.headers, len(reply.body)] for reply in replies]
        reply_meta.update(s=200, h=[], a=parts, t=(started, time.monotonic() - started))
        self._channel.send(wire.REPLY, reply_meta, b"".join(reply.body for reply in replies))

    def make_event(self, meta: wire.Meta, raw: wire.Body) -> Any:
        return self._event_class(meta, raw, self._trigger)

    def call(self, event: Any) -> Any:
        return self._coroutines.resolve(self._function(self._context, event))

    def explain(self, event: Any) -> Any:
        function = self._loader.explain
        if function is None:
            raise NoExplainerError()
        return self._coroutines.resolve(function(self._context, event))

    def call_batch(self, events: Sequence[Any]) -> List[Any]:
        output = self.call(list(events))
        identities = [event.id for event in events]
        if is_generator(output):
            return match_items(identities, GeneratorItems(self._coroutines, output))
        return match_responses(identities, output)

    def push_reply(self, output: Any) -> None:
        self._sender.push(self.convert(output))

    def is_stream(self, output: Any) -> bool:
        if isinstance(output, tuple):
            return len(output) == 2 and is_generator(output[1])
        return is_generator(output.body if isinstance(output, self._sdk.Response) else output)

    def convert_whole(self, output: Any) -> WorkerReply:
        if output is NO_RESPONSE:
            raise ReplyError("its list has no response with this event's id as event_id")
        reply = self.convert(output)
        if reply.rest is not None:
            # It is a part of one message, so that nothing can be sent before its end.
            parts = [reply.body, *map(self._converter.convert_item, reply.rest)]
            reply.body = b"".join(parts)
            self._sender.check_size(len(reply.body))
        return reply

    def _trigger_of(self, meta: wire.Meta) -> Any:
        # Events of a trigger that shares the worker with another contain their trigger.
        other = meta.get("tr")
        return self._trigger if other is None else self._sdk.TriggerInfo(*other)

    def convert(self, output: Any) -> WorkerReply:
        if self.is_stream(output):
            return self._begin_stream(output)
        reply = self._converter.convert(output)
        self._sender.check_size(len(reply.body))
        return reply

    def _begin_stream(self, output: Any) -> WorkerReply:
        """Return a generator's reply up to its first item; `rest` are the following items.

        The status and headers are those of the response or pair that has the generator, or else of
        the first item.
        """
        generator, response = output, None
        if isinstance(output, tuple):
            generator, response = output[1], self._sdk.Response(status_code=output[0])
        elif isinstance(output, self._sdk.Response):
            generator, response = output.body, output
        items = GeneratorItems(self._coroutines, generator)
        first = next(items, b"")
        try:
            if response is not None:
                response.body = getattr(first, "body", first)
                # A complete body that is a dict is JSON; an item has the type of its response.
                if response.content_type not in (None, "", "text/plain"):
                    response.body = self._converter.convert_item(response.body)
                first = response
            reply = self._converter.convert(first)
            self._sender.check_size(len(reply.body))
        except ReplyError:
            items.close()
            raise
        reply.rest = items
        return reply

    def _check_descriptors(self) -> None:
        """Announce the end of this process before its reply if its descriptors are broken."""
        if not self._descriptors.connected():
            raise ConnectionLostError()
        problem = self._descriptors.problem()
        if problem:
            self._must_end = True
            self._channel.send(wire.FAILED, {"reason": problem, "message": problem})

    def invalid_reply(self, reason: str) -> WorkerReply:
        self._logger.error(reason)
        text = "The handler's reply is invalid: " + reason
        return failure_reply(text)

    def failed_event(self, error: BaseException) -> WorkerReply:
        """Log an exception; return the reply of Nuclio (_nuclio_wrapper.py) with its last line.

        An exception with a `reply_status` from 400 to 499, such as those of fnbuild.vision, tells
        the caller what is wrong with the request.
        """
        status = getattr(error, "reply_status", None)
        if isinstance(status, int) and 400 <= status <= 499:
            text = tracebacks.error_message(error)
            self._logger.warn("%s", "answered %d: %s" % (status, text))
            body = json.dumps({"error": text}).encode("ascii")
            return WorkerReply(status, [("Content-Type", "application/json")], body)
        message = 'Exception caught in handler - "%s": ' % tracebacks.error_message(error)
        remedy = tracebacks.explain_missing_attribute(error, self._context.user_data)
        if remedy:
            remedy = "\n" + remedy
        self._logger.error("%s", message + tracebacks.format_error(error) + remedy)
        return failure_reply(message + tracebacks.summarize_error(error) + remedy)

    def _reload(self) -> str:
        try:
            self._function = self._loader.reload()
        except LoadError as problem:
            return str(problem)
        # The new code may raise anything; the old code goes on serving.
        except BaseException as error:  # noqa: BLE001
            return tracebacks.format_error(error)
        return "ok"

    def run_callback(self, name: str) -> None:
        """Run the handler's `drain` or `termination` callback; log its exceptions."""
        callback = getattr(self._platform, "_%s_callback" % name, None)
        if callback is None:
            return
        problem = run_guarded(lambda: self._coroutines.resolve(callback()))
        if problem:
            sys.stderr.write("The %s callback failed: %s\n" % (name, problem["message"]))
        flush_output()
