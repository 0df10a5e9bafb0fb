"""The handler as the inference protocols use it."""

import abc
from typing import Any, Dict, List, Sequence, Tuple

from .. import wire
from .responses import ReplyError, WorkerReply


class NoExplainerError(Exception):
    """The module has no function `explain`."""


class HandlerCalls(abc.ABC):
    """The handler with its events and replies.

    `answers_requests` is True for a model of KServe or TorchServe, whose result is the whole answer
    to a request.
    """

    response_class: Any
    answers_requests = False

    @abc.abstractmethod
    def make_event(self, meta: wire.Meta, raw: wire.Body) -> Any:
        """Return the event of a request."""

    @abc.abstractmethod
    def call(self, event: Any) -> Any:
        """Return the handler's result for an event, with any exception of its code."""

    @abc.abstractmethod
    def explain(self, event: Any) -> Any:
        """Return the result of the module's `explain`; raise NoExplainerError if it has none."""

    @abc.abstractmethod
    def call_batch(self, events: Sequence[Any]) -> List[Any]:
        """Return the handler's result for each event of a batch, with any exception of its code."""

    @abc.abstractmethod
    def push_reply(self, output: Any) -> None:
        """Send a part of the reply to the event that the handler is called with, if it is alone."""

    @abc.abstractmethod
    def is_stream(self, output: Any) -> bool:
        """Return True if a result is a generator, or a response or pair with one."""

    @abc.abstractmethod
    def convert(self, output: Any) -> WorkerReply:
        """Return the reply for a result, that of a stream up to its first item.

        Raises ReplyError if it is invalid.
        """

    @abc.abstractmethod
    def convert_whole(self, output: Any) -> WorkerReply:
        """Return the complete reply for a result; raise ReplyError if it is invalid."""

    @abc.abstractmethod
    def failed_event(self, error: BaseException) -> WorkerReply:
        """Log an exception of the handler; return the reply."""

    @abc.abstractmethod
    def invalid_reply(self, reason: str) -> WorkerReply:
        """Log that the handler's result is invalid; return the reply."""

    def answer_batch(self, events: Sequence[Any]) -> Tuple[List[WorkerReply], bool]:
        """Return the reply to each event of a batch, and True if the handler has failed."""
        try:
            return self._convert_items(self.call_batch(events)), False
        except ReplyError as problem:
            return [self.invalid_reply(str(problem))] * len(events), False
        # As for one event: an error of the handler must not end the worker.
        except BaseException as error:  # noqa: BLE001
            return [self.failed_event(error)] * len(events), True

    def _convert_items(self, outputs: List[Any]) -> List[WorkerReply]:
        """Convert the response to each event of a batch; an error does not affect the others."""
        # One exception may be the response to several events, and is logged once.
        failures: Dict[int, WorkerReply] = {}
        replies = []
        for output in outputs:
            reply = failures.get(id(output)) or self._convert_item(output)
            if isinstance(output, BaseException):
                failures[id(output)] = reply
            replies.append(reply)
        return replies

    def _convert_item(self, output: Any) -> WorkerReply:
        try:
            if isinstance(output, BaseException):
                raise output
            return self.convert_whole(output)
        except ReplyError as problem:
            return self.invalid_reply(str(problem))
        # Also of a generator that is the body of the response.
        except BaseException as error:  # noqa: BLE001
            return self.failed_event(error)
