"""The handler as the inference protocols use it."""

import abc
from typing import Any, List, Sequence

from .. import wire
from .responses import WorkerReply


class NoExplainerError(Exception):
    """The module has no function `explain`."""


class HandlerCalls(abc.ABC):
    """The handler with its events and replies.

    `answers_requests` is True for a model of KServe, whose result is the whole answer to a request.
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
