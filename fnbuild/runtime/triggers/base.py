"""The interface of triggers, the sources of events."""

import abc
import time
from typing import Any, Dict, NamedTuple, Optional, Sequence, Tuple

from .. import wire
from ..config import TriggerConfig
from ..http.server import HttpServer
from ..processor.metrics import TriggerMetrics
from ..processor.pool import WorkerPool
from ..processor.refusal_log import RefusalLog
from ..recording.recorder import Recorder


class TriggerContext(NamedTuple):
    """The parts of the processor that a trigger uses.

    `server` serves the http listeners, whether or not a trigger answers their requests. `recorder`
    keeps requests and replies if the function asks for it.
    """

    config: TriggerConfig
    pool: WorkerPool
    metrics: TriggerMetrics
    server: HttpServer
    refusal_log: RefusalLog
    recorder: Optional[Recorder] = None


class Trigger(abc.ABC):
    """A trigger: it creates events, acquires a worker of its pool for each, and dispatches them.

    Constructors take a `TriggerContext` and raise ConfigFileError for an invalid attribute.
    """

    @abc.abstractmethod
    def start(self) -> None:
        """Begin to create events. Called once all workers have been ready."""

    @abc.abstractmethod
    def stop(self) -> None:
        """Create no more events; those in flight are finished. Further calls have no effect."""

    def waiting_outside_pool(self) -> int:
        """Return the number of events that wait, but not in the pool's queue."""
        return 0

    def to_dict(self) -> Optional[Dict[str, Any]]:
        """Return the trigger's entry in the status, or None if the metrics suffice."""
        return None


def event_meta(
    config: TriggerConfig,
    event_id: str,
    method: str = "",
    headers: Sequence[Tuple[str, str]] = (),
    content_type: str = "",
) -> wire.Meta:
    """Return the meta of an event that is not a request.

    The keys are the event's id, its Unix time, method, path, query, URL, headers and content type,
    its trigger if the worker's own is another, and whether the names of the headers stay as they
    are. A request that asks for logs also has their level as `l`.
    """
    return {
        "i": event_id,
        "ts": int(time.time()),
        "m": method,
        "p": "/",
        "q": "",
        "u": "",
        "h": headers,
        "ct": content_type,
        # Workers may be shared with another trigger.
        "tr": [config.kind, config.name],
        # The handler gets the names of headers in this form.
        "as_written": 1,
    }
