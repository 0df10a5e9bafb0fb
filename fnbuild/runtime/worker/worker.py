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
from typing import Any, Callable, Dict, List, Optional, Tuple

from .. import tracebacks, wire
from ..tracebacks import explain_missing_attribute
from . import sandbox, template
from .channel import Channel
from .connection_provider import LocalConnectionProvider
from .coroutines import CoroutineRunner, GeneratorItems, is_generator
from .descriptors import DescriptorCheck
from .events import make_event_class
from .loader import HandlerLoader, LoadError, signature_problem
from .logger import ProcessorLogHandler, make_logger
from .reply_sender import ErrorReport, ReplySender
from .responses import ReplyConverter, ReplyError, WorkerReply
from .template import ForkTemplate

# In the place of a response that the handler did not give.
NO_RESPONSE = object()


# Meta, body, and mark: id and time.
BatchItem = Tuple[wire.Meta, bytes, Tuple[str, int]]


def split_batch(meta: wire.Meta, body: Any) -> List[BatchItem]:
    """The events, as `triggers.batch` joined them."""
    found: List[BatchItem] = []
    start = 0
    parts = zip(meta["batch"], meta["sizes"], meta["marks"])  # noqa: B905 - no strict in 3.6
    for one, size, mark in parts:
        found.append((one, bytes(body[start : start + size]), mark))
        start += size
    return found


def match_responses(identities: List[str], output: Any) -> List[Any]:
    """What the handler returned for each event, `MISSING` where there is nothing.

    By `event_id`, as in Nuclio; when no response has one, by position. ReplyError when it is no
    list, or one of another length whose items do not say what they answer.
    """
    count = len(identities)
    if not isinstance(output, (list, tuple)):
        raise ReplyError(
            "for a batch of %d events the handler returned a %s, not a list of responses"
            % (count, type(output).__name__)
        )
    named = {str(one.event_id): one for one in output if getattr(one, "event_id", None)}
    if named:
        return [named.get(identity, NO_RESPONSE) for identity in identities]
    if len(output) != count:
        raise ReplyError(
            "for a batch of %d events the handler returned a list of %d without event_id"
            % (count, len(output))
        )
    return list(output)


def _count_references() -> Optional[int]:
    """What sys.getrefcount says of something that one local variable holds; None without it."""
    if not hasattr(sys, "getrefcount"):
        return None
    probe = object()
    return sys.getrefcount(probe)


_UNSHARED_REFERENCES = _count_references()
# The lowest status that counts as a failure of the handler.
_ERROR_STATUS = 400


class ConnectionLostError(Exception):
    """The connection to the processor is lost."""


class Worker:
    """See the module."""

    def __init__(self, setup: wire.Meta) -> None:
        self._setup = setup
        self._coroutines = CoroutineRunner()
        self._replies = wire.ReplyEncoder()

    def load(self) -> None:
        """Import the handler; whatever that raises gets out."""
        self._sdk, encoder = sandbox.import_sdk(self._setup)
        folder = sandbox.enter_folder(self._setup)
        self._event_class = make_event_class(self._sdk)
        self._responder = ReplyConverter(self._sdk.Response, encoder)
        self._loader = HandlerLoader(self._setup["handler"], folder)
        self._function = self._loader.load()

    def begin(self, channel: Channel, role: wire.Meta) -> None:
        """Be the worker that `role` says: run init_context; whatever it raises gets out."""
        sdk = self._sdk
        self._channel = channel
        self._fitness = DescriptorCheck(channel.sock.fileno())
        self._unfit = False
        self._records = ProcessorLogHandler(channel, role["threshold"])
        self._logger = make_logger(sdk, self._records)
        self._trigger = sdk.TriggerInfo(role["trigger"]["kind"], role["trigger"]["name"])
        report = ErrorReport(self._refuse, self._caught)
        self._sender = ReplySender(
            channel, self._coroutines, self._responder, role["max_reply"], report
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
        return self._fitness.connected()

    def _make_platform(self) -> Any:
        namespace, folder = self._setup["namespace"], self._setup["neighbours"]
        provider = LocalConnectionProvider(folder, namespace) if folder else None
        return self._sdk.Platform("local", namespace, provider)

    def serve(self) -> bool:
        """Handle messages until the processor says stop (True) or is gone (False)."""
        while not self._unfit:
            if not self._channel.pending:
                self._coroutines.wait(self._channel.sock)
            message = self._channel.receive()
            if message is None:
                return False
            kind = message.kind
            if kind == wire.EVENT and "batch" in message.meta:
                self._handle_batch(message.meta, message.body)
            elif kind == wire.EVENT:
                self._handle(message.meta, message.body, message.mark)
            elif kind == wire.RELOAD:
                self._channel.send(wire.RELOADED, {"answer": self._reload()})
            elif kind == wire.DRAIN:
                self.tell("drain")
            elif kind == wire.FORGET:
                self._channel.forget(message.meta["segment"])
            elif kind == wire.STOP:
                return True
            # Otherwise a large body would stay until the next one arrives.
            del message
        return True

    def _handle(self, meta: wire.Meta, body: wire.Body, mark: Tuple[str, int]) -> None:
        usual = self._records.threshold
        self._records.threshold = min(usual, meta.get("l", usual))
        began = time.monotonic()
        raised = False
        event = None
        try:
            event = self._event_class(meta, body, self._trigger_of(meta), mark)
            output = self._coroutines.resolve(self._function(self._context, event))
            answer = self._answer(output)
        except ReplyError as problem:
            answer = self._refuse(str(problem))
        # SystemExit and KeyboardInterrupt too: a handler's mistake costs one event, not a worker.
        except BaseException as error:  # noqa: BLE001
            answer = self._caught(error)
            raised = True
        output = end = None
        if answer.rest is not None:
            end = self._sender.stream(answer, began)
        if self._channel.foreign:
            # The handler forked, and this is the copy: the reply is the original's to give.
            os._exit(0)
        if event is not None:
            # With the reply the processor uses the body's memory anew.
            event.settle(
                _UNSHARED_REFERENCES is None or sys.getrefcount(event) > _UNSHARED_REFERENCES
            )
        self._records.threshold = usual
        _flush_output()
        if answer.status >= _ERROR_STATUS or (end and "x" in end):
            self._check_fitness()
        if end is not None:
            self._channel.send(wire.END, dict(end, d=time.monotonic() - began))
            return
        took = time.monotonic() - began
        if len(answer.body) >= wire.LARGE_BODY:
            self._sender.send_large(answer, began, took)
            return
        told = self._replies.encode(answer.status, answer.headers, raised)
        self._channel.send(wire.REPLY, wire.encode_reply(told, began, took), answer.body)

    def _handle_batch(self, meta: wire.Meta, body: wire.Body) -> None:
        """Several events at once: the handler gets a list of them and returns one of responses."""
        usual = self._records.threshold
        self._records.threshold = min(usual, meta.get("l", usual))
        began = time.monotonic()
        reply: wire.Meta = {}
        found = split_batch(meta, body)
        if isinstance(body, memoryview):
            body.release()
        events = [self._event_class(part, raw, self._trigger, mark) for part, raw, mark in found]
        try:
            output = self._coroutines.resolve(self._function(self._context, events))
            if is_generator(output):
                output = list(GeneratorItems(self._coroutines, output))
            outputs = match_responses([event.id for event in events], output)
            answers = [self._answer_part(output) for output in outputs]
        except ReplyError as problem:
            answers = [self._refuse(str(problem))] * len(events)
        # As for one event: a handler's mistake costs this batch, not the worker.
        except BaseException as error:  # noqa: BLE001
            answers = [self._caught(error)] * len(events)
            reply["x"] = 1
        if self._channel.foreign:
            os._exit(0)
        self._records.threshold = usual
        _flush_output()
        if any(answer.status >= _ERROR_STATUS for answer in answers):
            self._check_fitness()
        parts = [[answer.status, answer.headers, len(answer.body)] for answer in answers]
        reply.update(s=200, h=[], a=parts)
        encoded = wire.encode_reply(wire.encode(reply), began, time.monotonic() - began)
        self._channel.send(wire.REPLY, encoded, b"".join(answer.body for answer in answers))

    def _answer_part(self, output: Any) -> WorkerReply:
        """The answer to one event of a batch; a wrong one costs no other."""
        try:
            if output is NO_RESPONSE:
                raise ReplyError("its list has no response with this event's id as event_id")
            answer = self._answer(output)
            if answer.rest is not None:
                # A batch is answered as a whole, so no part can be sent before its end.
                parts = [answer.body, *map(self._responder.piece, answer.rest)]
                answer.body = b"".join(parts)
                self._sender.check_size(len(answer.body))
            return answer
        except ReplyError as problem:
            return self._refuse(str(problem))

    def _trigger_of(self, meta: wire.Meta) -> Any:
        # A trigger that shares this worker with another says so with its events.
        other = meta.get("tr")
        return self._trigger if other is None else self._sdk.TriggerInfo(*other)

    def _answer(self, output: Any) -> WorkerReply:
        if isinstance(output, tuple):
            if len(output) == 2 and is_generator(output[1]):
                return self._begin_answer(output[1], self._sdk.Response(status_code=output[0]))
        elif isinstance(output, self._sdk.Response):
            if is_generator(output.body):
                return self._begin_answer(output.body, output)
        elif is_generator(output):
            return self._begin_answer(output, None)
        answer = self._responder.answer(output)
        self._sender.check_size(len(answer.body))
        return answer

    def _begin_answer(self, generator: Any, response: Any) -> WorkerReply:
        """Return a generator's answer up to its first item; `rest` are the following items.

        The status and headers are those of `response`, or else of the first item.
        """
        items = GeneratorItems(self._coroutines, generator)
        first = next(items, b"")
        try:
            if response is not None:
                response.body = getattr(first, "body", first)
                # A whole body that is a dict is JSON; an item has the type of its response.
                if response.content_type not in (None, "", "text/plain"):
                    response.body = self._responder.piece(response.body)
                first = response
            answer = self._responder.answer(first)
            self._sender.check_size(len(answer.body))
        except ReplyError:
            items.close()
            raise
        answer.rest = items
        return answer

    def _check_fitness(self) -> None:
        """Announce the end of this process, before its reply, if an error has left it unfit."""
        if not self._fitness.connected():
            raise ConnectionLostError()
        trouble = self._fitness.trouble()
        if trouble:
            self._unfit = True
            self._channel.send(wire.FAILED, {"reason": trouble, "message": trouble})

    def _refuse(self, reason: str) -> WorkerReply:
        self._logger.error(reason.replace("%", "%%"))
        text = "The handler's reply is invalid: " + reason
        return _failure_reply(text)

    def _caught(self, error: BaseException) -> WorkerReply:
        """Log an exception; return Nuclio's answer (_nuclio_wrapper.py) with its last line.

        An exception with a `reply_status` from 400 to 499, such as those of fnbuild.vision, tells
        the caller what is wrong with the request.
        """
        status = getattr(error, "reply_status", None)
        if isinstance(status, int) and 400 <= status <= 499:
            text = tracebacks.error_message(error)
            self._logger.warn("%s", "answered %d: %s" % (status, text))
            body = json.dumps({"error": text}).encode("ascii")
            return WorkerReply(status, [("Content-Type", "application/json")], body)
        said = 'Exception caught in handler - "%s": ' % tracebacks.error_message(error)
        remedy = explain_missing_attribute(error, self._context.user_data)
        if remedy:
            remedy = "\n" + remedy
        self._logger.error("%s", said + tracebacks.format_error(error) + remedy)
        return _failure_reply(said + tracebacks.summarize_error(error) + remedy)

    def _reload(self) -> str:
        try:
            self._function = self._loader.reload()
        except LoadError as problem:
            return str(problem)
        # The new code may raise anything while it is imported; the old one goes on serving.
        except BaseException as error:  # noqa: BLE001
            return tracebacks.format_error(error)
        return "ok"

    def tell(self, what: str) -> None:
        """Call what the handler set for `drain` or `termination`; what it raises is logged."""
        callback = getattr(self._platform, "_%s_callback" % what, None)
        if callback is None:
            return
        problem = _run_guarded(lambda: self._coroutines.resolve(callback()))
        if problem:
            sys.stderr.write("The %s callback failed: %s\n" % (what, problem["message"]))
        _flush_output()


def main(arguments: List[str]) -> None:
    """Run a worker; `arguments` are those of `launch.command`."""
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
    channel.send(wire.STARTED, sandbox.prepare_process(setup))
    opened = template.open_descriptors()
    worker = Worker(setup)
    problem = _run_guarded(worker.load)
    if problem:
        _exit_failed(channel, problem)
    if setup["template"]:
        channel = ForkTemplate(channel, setup["place"], opened).serve()
    message = channel.receive()
    if message is None:
        return
    role = message.meta
    sandbox.end_with_parent(role["parent"])
    problem = _run_guarded(lambda: worker.begin(channel, role))
    if problem:
        _exit_failed(channel, problem)
    channel.send(wire.READY, {})
    try:
        alone = not worker.serve()
    except (OSError, ConnectionLostError):
        if worker.connected:
            raise
        sys.stderr.write("The handler closed the socket between this worker and the processor.\n")
        os._exit(1)
    if alone:
        _end_orphaned()
    worker.tell("termination")


def _run_guarded(step: Callable[[], Any]) -> Dict[str, str]:
    """Run the handler's code; return its error in one line and as a whole, or nothing."""
    try:
        step()
    except LoadError as problem:
        return {"reason": str(problem), "message": str(problem), "type": "LoadError"}
    # Whatever the handler's code raises is its author's to read, and ends this process alone.
    except BaseException as error:  # noqa: BLE001
        reason, message = tracebacks.summarize_error(error), tracebacks.format_error(error)
        return {"reason": reason, "message": message, "type": type(error).__name__}
    return {}


def _exit_failed(channel: Channel, problem: Dict[str, str]) -> None:
    channel.send(wire.FAILED, problem)
    # Threads that the handler's imports started must not keep a failed worker alive.
    os._exit(1)


def _flush_output() -> None:
    """Let go of half a line, which is logged under the event that printed it."""
    for stream in (sys.stdout, sys.stderr):
        # The handler may have put anything in their place.
        try:  # noqa: SIM105 - `suppress` takes five times as long, and every event comes by here
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
