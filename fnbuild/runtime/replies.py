"""Send replies that do not fit into one message: large ones and those of generators."""

import os
import time
from contextlib import suppress
from typing import Callable, NamedTuple

from . import wire
from .channel import Channel
from .coroutines import Coroutines, Items
from .responses import Answer, ReplyError, Responder
from .streaming import ClientGoneError, ReplyStream, copy_to


class Report(NamedTuple):
    """Log the errors that end a reply: content that HTTP cannot carry, and exceptions."""

    refused: Callable[[str], object]
    raised: Callable[[BaseException], object]


class ReplySender:
    """See the module. `limit` is the largest body in bytes; 0 stands for no limit."""

    def __init__(
        self,
        channel: Channel,
        coroutines: Coroutines,
        responder: Responder,
        limit: int,
        report: Report,
    ) -> None:
        self._channel = channel
        self._coroutines = coroutines
        self._responder = responder
        self._limit = limit
        self._report = report

    def check_size(self, size: int) -> None:
        """Raise ReplyError if a body of this size is above the limit."""
        if 0 < self._limit < size:
            raise ReplyError(
                "it has %d bytes, and the limit is %d bytes; raise maxReplyBodySize of the http "
                "trigger to send it" % (size, self._limit)
            )

    def send_large(self, answer: Answer, began: float, took: float) -> None:
        """Send a large body in shared memory, or in pieces if there is none available."""
        size = len(answer.body)
        stream = ReplyStream(self._channel, self._coroutines)
        fd = stream.room(size)
        if fd >= 0 and copy_to(fd, answer.body):
            meta = wire.encode_special_reply(answer.status, answer.headers, wire.SHARED)
            self._channel.send(wire.REPLY, wire.encode_reply(meta, began, took))
            stream.close()
            return
        meta = wire.encode_special_reply(answer.status, answer.headers, wire.PIECES, size)
        self._channel.send(wire.REPLY, wire.encode_reply(meta, began, took))
        with suppress(ClientGoneError):
            stream.write(answer.body)
        stream.close()
        self._channel.send(wire.END, {"d": took})

    def stream(self, answer: Answer, began: float) -> wire.Meta:
        """Send the items of a generator as they are yielded; return the meta of END, but the time.

        The meta has `x` if an error, which is logged, cut the reply short.
        """
        items = answer.rest
        assert items is not None
        answer.rest = None
        meta = wire.encode_special_reply(answer.status, answer.headers, wire.PIECES)
        self._channel.send(wire.REPLY, wire.encode_reply(meta, began, time.monotonic() - began))
        stream = ReplyStream(self._channel, self._coroutines)
        items.watch = self._channel.sock, stream.cancelled
        end: wire.Meta = {}
        try:
            self._send_items(stream, answer.body, items)
        except ClientGoneError:
            pass
        except ReplyError as problem:
            self._report.refused(str(problem))
            end["x"] = 1
        # SystemExit and KeyboardInterrupt too: a handler's mistake costs one event, not a worker.
        except BaseException as error:  # noqa: BLE001
            # An async generator that was waiting is cancelled when the client has left.
            if not (stream.cancelled() and type(error).__name__ == "CancelledError"):
                self._report.raised(error)
                end["x"] = 1
        items.watch = None
        try:
            items.close()
        except BaseException as error:  # noqa: BLE001 - what a generator raises as it is closed
            self._report.raised(error)
        stream.close()
        return end

    def _send_items(self, stream: ReplyStream, first: bytes, items: Items) -> None:
        stream.write(first)
        for item in items:
            if self._channel.foreign:
                # The handler forked, and this is the copy: the reply is the original's to give.
                os._exit(0)
            data = self._responder.piece(item)
            self.check_size(stream.sent + len(data))
            stream.write(data)
