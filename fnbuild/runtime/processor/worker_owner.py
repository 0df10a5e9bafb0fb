"""The interface of a pool that its worker handles use."""

import abc
import asyncio
from typing import Callable, Dict, Generic, TypeVar

from .. import wire
from ..config import ProcessorConfig, TriggerConfig
from ..logs import Log
from .large_replies import ReplyMemory
from .pending_event import PendingEvent
from .shared_memory import Payload
from .spawner import ProcessRequester, Spawner

Handle = TypeVar("Handle", bound=ProcessRequester)


class WorkerOwner(abc.ABC, Generic[Handle]):
    """The owner of worker handles. `on_started` receives the report of each new process."""

    config: ProcessorConfig
    log: Log
    loop: asyncio.AbstractEventLoop
    on_started: Callable[[wire.Meta], None]
    reply_memory: ReplyMemory
    spawner: Spawner
    stopping: bool
    trigger: TriggerConfig
    was_ready: bool

    @abc.abstractmethod
    def device_of(self, number: int) -> Dict[str, str]:
        """Return the variables that assign a GPU to the worker with this number."""

    @abc.abstractmethod
    def worker_ready(self, declared_tensors: wire.Meta) -> None:
        """Handle a worker that has finished init_context; see wire.READY for the tensors."""

    @abc.abstractmethod
    def worker_failed(self) -> None:
        """Handle a worker that did not become ready."""

    @abc.abstractmethod
    def release(self, worker: Handle) -> None:
        """Take back an idle worker, for the next event."""

    @abc.abstractmethod
    def remove_idle(self, worker: Handle) -> None:
        """Remove a worker that can take no more events."""

    @abc.abstractmethod
    def redispatch(self, meta: wire.Meta, body: Payload, event: PendingEvent) -> None:
        """Find another worker for an event whose worker ended before it had read it."""

    @abc.abstractmethod
    def is_new_failure(self, text: str) -> bool:
        """Return True if the text differs from that of the last failed start."""
