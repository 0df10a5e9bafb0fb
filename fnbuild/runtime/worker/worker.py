"""The worker process: one handler, one context, one event or batch at a time.

It is started by `bootstrap`, or forked from a template that has imported the handler. Its settings
are the first message, its role is the next. It ends with the processor: at the end of the socket
when idle, by the kernel's signal when busy.
"""

import faulthandler
import json
import os
import signal
import socket
import sys
import time
from typing import Any, Callable, Dict, List, Optional

from .. import tracebacks, wire
from . import fork_template, process_setup
from .channel import Channel
from .connection_provider import LocalConnectionProvider
from .coroutines import CoroutineRunner, GeneratorItems, is_generator
from .descriptors import DescriptorCheck
from .events import make_event_class, split_batch
from .fork_template import ForkTemplate
from .loader import HandlerLoader, LoadError, signature_problem
from .logger import ProcessorLogHandler, make_logger
from .reply_sender import ErrorCallbacks, ReplySender
from .responses import NO_RESPONSE, ReplyConverter, ReplyError, WorkerReply, match_responses


def _count_references() -> Optional[int]:
    """Return the reference count of an object in one local variable; None if unsupported."""
    if not hasattr(sys, "getrefcount"):
        return None
    probe = object()
    return sys.getrefcount(probe)


_UNSHARED_REFERENCES = _count_references()
# The lowest status after which the descriptors are checked.
_ERROR_STATUS = 400


class ConnectionLostError(Exception):
    """The connection to the processor is lost."""


class Worker:
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
        self._converter = ReplyConverter(self._sdk.Response, encoder)
        self._loader = HandlerLoader(self._setup["handler"], self._folder)
        self._function = self._loader.load()

    def begin(self, channel: Channel, role: wire.Meta) -> None:
        """Take the role of a worker and run init_context, with any exception of its code."""
        sdk = self._sdk
        self._channel = channel
        self._descriptors = DescriptorCheck(channel.sock.fileno())
        self._must_end = False
        self._log_handler = ProcessorLogHandler(channel, role["threshold"])
        self._logger = make_logger(sdk, self._log_handler)
        self._trigger = sdk.TriggerInfo(role["trigger"]["kind"], role["trigger"]["name"])
        on_error = ErrorCallbacks(self._invalid_reply, self._failed_event)
        self._sender = ReplySender(
            channel, self._coroutines, self._converter, role["max_reply"], on_error
        )
        self._platform = self._make_platform()
        self._context = sdk.Context(self._logger, self._platform, role["worker"], self._trigger)
        init_context = getattr(self._loader.module, "init_context", None)
        if init_context is not None:
            problem = signature_problem(init_context, "init_context", ("context",))
            if problem:
                raise LoadError(problem)
            channel.send(wire.IMPORTED, {})
            self._coroutines.resolve(init_context(self._context))

    @property
    def connected(self) -> bool:
        """Return False if the handler closed or replaced the socket to the processor."""
        return self._descriptors.connected()

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
            if kind == wire.EVENT and "batch" in message.meta:
                self._handle_batch(message.meta, message.body)
            elif kind == wire.EVENT:
                self._handle(message.meta, message.body)
            elif kind == wire.RELOAD:
                self._channel.send(wire.RELOADED, {"answer": self._reload()})
            elif kind == wire.DRAIN:
                self.run_callback("drain")
            elif kind == wire.FORGET:
                self._channel.unmap_segment(message.meta["segment"])
            elif kind == wire.STOP:
                return True
            # Or a large body would stay in memory until the next message.
            del message
        return True

    def _handle(self, meta: wire.Meta, body: wire.Body) -> None:
        threshold = self._log_handler.threshold
        self._log_handler.threshold = min(threshold, meta.get("l", threshold))
        started = time.monotonic()
        raised = False
        event = None
        try:
            event = self._event_class(meta, body, self._trigger_of(meta))
            output = self._coroutines.resolve(self._function(self._context, event))
            reply = self._convert(output)
        except ReplyError as problem:
            reply = self._invalid_reply(str(problem))
        # SystemExit and KeyboardInterrupt, too: an error of the handler must not end the worker.
        except BaseException as error:  # noqa: BLE001
            reply = self._failed_event(error)
            raised = True
        output = end = None
        if reply.rest is not None:
            end = self._sender.stream(reply, started)
        if self._channel.in_forked_copy:
            # This is a process forked by the handler; its parent sends the reply.
            os._exit(0)
        if event is not None:
            # After the reply the processor reuses the body's memory.
            event.release_body(
                _UNSHARED_REFERENCES is None or sys.getrefcount(event) > _UNSHARED_REFERENCES
            )
        self._log_handler.threshold = threshold
        _flush_output()
        if reply.status >= _ERROR_STATUS or (end and "x" in end):
            self._check_descriptors()
        if end is not None:
            self._channel.send(wire.END, dict(end, d=time.monotonic() - started))
            return
        duration = time.monotonic() - started
        if len(reply.body) >= wire.LARGE_BODY:
            self._sender.send_large(reply, started, duration)
            return
        reply_meta = reply.meta(started, duration)
        if raised:
            reply_meta["x"] = 1
        self._channel.send(wire.REPLY, reply_meta, reply.body)

    def _handle_batch(self, meta: wire.Meta, body: wire.Body) -> None:
        """Handle a batch: the handler gets a list of events and returns a list of responses."""
        threshold = self._log_handler.threshold
        self._log_handler.threshold = min(threshold, meta.get("l", threshold))
        started = time.monotonic()
        reply_meta: wire.Meta = {}
        items = split_batch(meta, body)
        if isinstance(body, memoryview):
            body.release()
        events = [self._event_class(part, raw, self._trigger) for part, raw in items]
        try:
            output = self._coroutines.resolve(self._function(self._context, events))
            if is_generator(output):
                output = list(GeneratorItems(self._coroutines, output))
            outputs = match_responses([event.id for event in events], output)
            replies = [self._convert_item(output) for output in outputs]
        except ReplyError as problem:
            replies = [self._invalid_reply(str(problem))] * len(events)
        # As for one event: an error of the handler must not end the worker.
        except BaseException as error:  # noqa: BLE001
            replies = [self._failed_event(error)] * len(events)
            reply_meta["x"] = 1
        if self._channel.in_forked_copy:
            os._exit(0)
        self._log_handler.threshold = threshold
        _flush_output()
        if any(reply.status >= _ERROR_STATUS for reply in replies):
            self._check_descriptors()
        parts = [[reply.status, reply.headers, len(reply.body)] for reply in replies]
        reply_meta.update(s=200, h=[], a=parts, t=(started, time.monotonic() - started))
        self._channel.send(wire.REPLY, reply_meta, b"".join(reply.body for reply in replies))

    def _convert_item(self, output: Any) -> WorkerReply:
        """Convert the response to one event of a batch; an invalid one does not affect others."""
        try:
            if output is NO_RESPONSE:
                raise ReplyError("its list has no response with this event's id as event_id")
            reply = self._convert(output)
            if reply.rest is not None:
                # The reply to a batch is one message, so that no part can be sent before its end.
                parts = [reply.body, *map(self._converter.convert_item, reply.rest)]
                reply.body = b"".join(parts)
                self._sender.check_size(len(reply.body))
            return reply
        except ReplyError as problem:
            return self._invalid_reply(str(problem))

    def _trigger_of(self, meta: wire.Meta) -> Any:
        # Events of a trigger that shares the worker with another contain their trigger.
        other = meta.get("tr")
        return self._trigger if other is None else self._sdk.TriggerInfo(*other)

    def _convert(self, output: Any) -> WorkerReply:
        if isinstance(output, tuple):
            if len(output) == 2 and is_generator(output[1]):
                return self._begin_stream(output[1], self._sdk.Response(status_code=output[0]))
        elif isinstance(output, self._sdk.Response):
            if is_generator(output.body):
                return self._begin_stream(output.body, output)
        elif is_generator(output):
            return self._begin_stream(output, None)
        reply = self._converter.convert(output)
        self._sender.check_size(len(reply.body))
        return reply

    def _begin_stream(self, generator: Any, response: Any) -> WorkerReply:
        """Return a generator's reply up to its first item; `rest` are the following items.

        The status and headers are those of `response`, or else of the first item.
        """
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

    def _invalid_reply(self, reason: str) -> WorkerReply:
        self._logger.error(reason.replace("%", "%%"))
        text = "The handler's reply is invalid: " + reason
        return _failure_reply(text)

    def _failed_event(self, error: BaseException) -> WorkerReply:
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
        return _failure_reply(message + tracebacks.summarize_error(error) + remedy)

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
        problem = _run_guarded(lambda: self._coroutines.resolve(callback()))
        if problem:
            sys.stderr.write("The %s callback failed: %s\n" % (name, problem["message"]))
        _flush_output()


def main(arguments: List[str]) -> None:
    """Run a worker; `arguments` are those of `launch.start_interpreter`."""
    fd = int(arguments[arguments.index("--socket") + 1])
    os.set_inheritable(fd, False)
    sys.argv = [sys.argv[0]]
    faulthandler.enable()
    channel = Channel(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=fd))
    message = channel.receive()
    if message is None:
        return
    setup = message.meta
    faulthandler.register(setup["dump_signal"], all_threads=False)
    folder, report = process_setup.prepare_process(setup)
    channel.send(wire.STARTED, report)
    opened = fork_template.open_descriptors()
    worker = Worker(setup, folder)
    _run_or_exit(worker.load, channel)
    if setup["template"]:
        channel = ForkTemplate(channel, folder, opened).serve()
    message = channel.receive()
    if message is None:
        return
    role = message.meta
    process_setup.end_with_parent(role["parent"])
    _run_or_exit(lambda: worker.begin(channel, role), channel)
    channel.send(wire.READY, {})
    try:
        orphaned = not worker.serve()
    except (OSError, ConnectionLostError):
        if worker.connected:
            raise
        sys.stderr.write("The handler closed the socket between this worker and the processor.\n")
        os._exit(1)
    if orphaned:
        _end_orphaned()
    worker.run_callback("termination")


def _run_guarded(step: Callable[[], Any]) -> Dict[str, str]:
    """Run code of the handler; return its error as reason and full text, or an empty dict."""
    try:
        step()
    except LoadError as problem:
        return {"reason": str(problem), "message": str(problem), "type": "LoadError"}
    # Any exception of the handler's code is reported to its author and ends this process only.
    except BaseException as error:  # noqa: BLE001
        reason, message = tracebacks.summarize_error(error), tracebacks.format_error(error)
        return {"reason": reason, "message": message, "type": type(error).__name__}
    return {}


def _run_or_exit(step: Callable[[], Any], channel: Channel) -> None:
    """Run code of the handler; report its error and end this process."""
    problem = _run_guarded(step)
    if problem:
        channel.send(wire.FAILED, problem)
        # Threads of the handler's imports must not keep a failed worker alive.
        os._exit(1)


def _flush_output() -> None:
    """Flush partial lines, so that they are logged with the event that printed them."""
    for stream in (sys.stdout, sys.stderr):
        # The handler may have replaced them with anything.
        try:  # noqa: SIM105 - `suppress` takes five times as long, for every event
            stream.flush()
        except (AttributeError, OSError, ValueError):
            pass


def _end_orphaned() -> None:
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(0)


def _failure_reply(text: str) -> WorkerReply:
    body = text.encode("utf-8", "backslashreplace")
    return WorkerReply(500, [("Content-Type", "text/plain")], body)
