"""The worker's logger: nuclio_sdk's, with a handler that sends records to the processor."""

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
    """A logging handler that sends records as messages, in the order in which they were written.

    Records below `threshold` are dropped. A request that asks for logs lowers it while it runs.
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
        except Exception as problem:  # noqa: BLE001 - invalid arguments must not lose the record
            message = "%s (its arguments do not fit: %s)" % (record.msg, problem)
        if record.exc_info and record.exc_info[0]:
            message += "\n" + logging.Formatter().formatException(record.exc_info)
        level = _LEVEL_NAMES.get(record.levelno, "info")
        variables = json_variables(getattr(record, "with", {}))
        if self._channel.in_forked_copy:
            # A process forked by the handler would interleave its messages with the worker's.
            sys.stderr.write("%s: %s %s\n" % (level, message, variables or ""))
            return
        meta = {"l": level, "m": message, "t": record.created * 1000.0, "w": variables}
        # Without its processor this worker is about to end.
        with suppress(OSError):
            self._channel.send(wire.RECORD, meta)


def make_logger(sdk: Any, handler: logging.Handler) -> Any:
    """Return a nuclio_sdk.Logger that writes to `handler` only."""
    logger = sdk.Logger(level=logging.DEBUG)
    inner = logger._logger
    inner.handlers = [handler]
    # Handlers of the root logger would write every record a second time.
    inner.propagate = False
    return logger


def json_variables(variables: Any) -> Dict[str, Any]:
    """Return variables that JSON can encode."""
    if not variables:
        return {}
    try:
        json.dumps(variables, default=repr)
    except (TypeError, ValueError, RecursionError):
        return {str(key): repr(value) for key, value in variables.items()}
    return dict(variables)


def flush_output() -> None:
    """Flush partial lines, so that they are logged with the event that printed them."""
    for stream in (sys.stdout, sys.stderr):
        # The handler may have replaced them with anything.
        try:  # noqa: SIM105 - `suppress` takes five times as long, for every event
            stream.flush()
        except (AttributeError, OSError, ValueError):
            pass
