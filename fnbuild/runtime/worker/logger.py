"""The worker's side of the log: nuclio_sdk's logger, whose records travel to the processor."""

import json
import logging
import sys
from contextlib import suppress
from typing import Any, Dict

from .. import wire
from .channel import Channel

_LEVEL_NAMES = {
    logging.DEBUG: "debug",
    logging.INFO: "info",
    logging.WARNING: "warn",
    logging.ERROR: "error",
    logging.CRITICAL: "error",
}


class ProcessorLogHandler(logging.Handler):
    """Sends records as messages, in the order in which the handler wrote them.

    Records below `threshold` stay here; a request that asks for logs lowers it for its time.
    """

    def __init__(self, channel: Channel, threshold: int) -> None:
        logging.Handler.__init__(self)
        self._channel = channel
        self.threshold = threshold

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno < self.threshold:
            return
        try:
            message = record.getMessage()
        except Exception as problem:  # noqa: BLE001 - arguments that do not fit lose no record
            message = "%s (its arguments do not fit: %s)" % (record.msg, problem)
        if record.exc_info and record.exc_info[0]:
            message += "\n" + logging.Formatter().formatException(record.exc_info)
        level = _LEVEL_NAMES.get(record.levelno, "info")
        variables = json_variables(getattr(record, "with", {}))
        if self._channel.foreign:
            # A forked copy of this worker would cut the processor's messages in two.
            sys.stderr.write("%s: %s %s\n" % (level, message, variables or ""))
            return
        meta = {"l": level, "m": message, "t": record.created * 1000.0, "w": variables}
        # Without its processor this worker ends in a moment.
        with suppress(OSError):
            self._channel.send(wire.RECORD, meta)


def make_logger(sdk: Any, handler: ProcessorLogHandler) -> Any:
    """A nuclio_sdk.Logger that writes through `handler` alone."""
    logger = sdk.Logger(level=logging.DEBUG)
    inner = logger._logger
    inner.handlers = [handler]
    # What a library adds to the root logger would print every record a second time.
    inner.propagate = False
    return logger


def json_variables(variables: Any) -> Dict[str, Any]:
    """The record's variables as JSON can carry them."""
    if not variables:
        return {}
    try:
        json.dumps(variables, default=repr)
    except (TypeError, ValueError, RecursionError):
        return {str(key): repr(value) for key, value in variables.items()}
    return dict(variables)
