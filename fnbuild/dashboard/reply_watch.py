"""Check samples of the replies that the dashboard relays, by the rules of `fnbuild check`.

A function of CVAT has at most one reply checked in ten seconds, in a process of low priority. Large
bodies are never sampled, and a sample is dropped while others are checked.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from fnbuild.cvat.check.probe import TargetReply
from fnbuild.dashboard.cpu_pool import CpuPool
from fnbuild.dashboard.cpu_tasks import CpuTask, pack_exchange
from fnbuild.dashboard.inventory import Inventory
from fnbuild.errors import FnbuildError
from fnbuild.function.labels import function_kind
from fnbuild.function.types import Raw

INTERVAL_SECONDS = 10.0
MAX_REQUEST, MAX_REPLY = 16 << 20, 4 << 20
_MAX_FUNCTIONS, _MAX_FINDINGS = 500, 50

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class ReplySample:
    """Copies of a request and its reply, as far as they are small enough."""

    namespace: str
    name: str
    request: bytearray = field(default_factory=bytearray)
    reply: bytearray = field(default_factory=bytearray)
    status: int = 200
    is_complete: bool = True

    async def copy_request(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            self._add(self.request, chunk, MAX_REQUEST)
            yield chunk

    def add_reply(self, chunk: bytes) -> None:
        self._add(self.reply, chunk, MAX_REPLY)

    def _add(self, copy: bytearray, chunk: bytes, limit: int) -> None:
        if self.is_complete and len(copy) + len(chunk) <= limit:
            copy += chunk
            return
        self.is_complete = False
        self.request.clear()
        self.reply.clear()


@dataclass(slots=True)
class WatchedFunction:
    """The checked replies of one revision of a function, and the findings about them."""

    revision: int = 0
    checked: int = 0
    faulty: int = 0
    next_sample: float = 0.0
    findings: dict[str, Raw] = field(default_factory=dict)

    def add(self, findings: list[Raw]) -> None:
        """Count a reply and its findings; those of one rule are counted together."""
        self.checked += 1
        self.faulty += bool(findings)
        for rule, finding in {str(finding["rule"]): finding for finding in findings}.items():
            if rule not in self.findings and len(self.findings) >= _MAX_FINDINGS:
                continue
            replies = int(self.findings.get(rule, {}).get("replies", 0)) + 1
            self.findings[rule] = {**finding, "replies": replies, "time": time.time()}


class ReplyWatch:
    """The findings about relayed replies, by function."""

    def __init__(self, inventory: Inventory, cpu_pool: CpuPool):
        self._inventory = inventory
        self._cpu_pool = cpu_pool
        self._functions: dict[tuple[str, str], WatchedFunction] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Do nothing: checks start with the first sample."""

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def watched(self, namespace: str, name: str) -> WatchedFunction:
        return self._functions.get((namespace, name)) or WatchedFunction()

    def new_sample(self, namespace: str, name: str) -> ReplySample | None:
        """Return a sample to fill with the next exchange; None if that is not to be checked."""
        key, now = (namespace, name), time.monotonic()
        watched = self._functions.get(key)
        is_busy = self._task is not None and not self._task.done()
        if is_busy or (watched is not None and now < watched.next_sample):
            return None
        if watched is None:
            if len(self._functions) >= _MAX_FUNCTIONS:
                del self._functions[next(iter(self._functions))]
            watched = self._functions[key] = WatchedFunction()
        watched.next_sample = now + INTERVAL_SECONDS
        return ReplySample(namespace, name)

    def submit(self, sample: ReplySample) -> None:
        """Check a complete sample in the background, unless another one is being checked."""
        if sample.is_complete and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._check(sample))

    async def _check(self, sample: ReplySample) -> None:
        try:
            entry = await self._inventory.function(sample.namespace, sample.name)
            function = entry.deployment.function
            watched = self._functions.get((sample.namespace, sample.name))
            if function_kind(function) is None or watched is None:
                return
            reply = TargetReply(sample.status, bytes(sample.reply))
            body = pack_exchange(function, bytes(sample.request), reply)
            result = json.loads(await self._cpu_pool.run(CpuTask("exchange"), body))
            if watched.revision != entry.deployment.revision:
                watched = WatchedFunction(
                    entry.deployment.revision, next_sample=watched.next_sample
                )
                self._functions[sample.namespace, sample.name] = watched
            if result["checked"]:
                watched.add(result["findings"])
        except FnbuildError as error:
            _log.debug("the sampled reply of %s was not checked: %s", sample.name, error)
