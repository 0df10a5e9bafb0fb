"""The reports of a processor: its status, its metrics and the result of an import check."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, NoReturn

import msgspec

from fnbuild.errors import NotReadyError, PreconditionError, UsageError
from fnbuild.platforms.base import (
    Deployment,
    FunctionState,
    SleepAction,
    Statistics,
    WorkerStatus,
)
from fnbuild.platforms.revision_records import failure_prefix
from fnbuild.platforms.sleep_status import SleepStatus
from fnbuild.runtime.health import PORT
from fnbuild.runtime.processor.gpu_memory import GPU_MEMORY_METRIC as GPU_MEMORY

ADMIN_PORT = PORT
"""The port on which a processor in a container serves its status to platforms."""

ProcessorState = Literal["starting", "ready", "unhealthy", "draining", "stopped"]


_PREFIX = "nuclio_processor_"
_HANDLED = _PREFIX + "handled_events_total"
_BUCKET = _PREFIX + "handled_events_duration_milliseconds_bucket"
_SUM = _PREFIX + "handled_events_duration_milliseconds_sum"
_ALLOCATIONS = _PREFIX + "worker_allocation_total"
_REFUSALS = _PREFIX + "http_refusals_total"
_WORKERS = _PREFIX + "workers"
_RESTARTS = _PREFIX + "worker_restarts"
_METRICS = frozenset(
    (_HANDLED, _BUCKET, _SUM, _ALLOCATIONS, _REFUSALS, _WORKERS, _RESTARTS, GPU_MEMORY)
)
_BOUND = re.compile(r'[{,]le="([^"]*)"')
_RESULT = re.compile(r'[{,]result="([^"]*)"')
_STATE = re.compile(r'[{,]state="([^"]*)"')


class SleepAnswer(msgspec.Struct, frozen=True):
    """A processor's answer to a request to sleep or wake: the new state, or an error."""

    state: str = ""
    error: str = ""
    reason: str = ""

    @classmethod
    def check(cls, body: bytes, name: str, action: SleepAction) -> None:
        """Raise the error in an answer: the handler's own, or the reason of a refusal."""
        try:
            answer = _SLEEP_DECODER.decode(body)
        except msgspec.MsgspecError:
            answer = cls(error="the processor does not know the request")
        if answer.state:
            return
        if answer.reason:
            raise NotReadyError(f"{name} did not wake: {answer.reason}", detail=answer.error)
        if " is not one of " in answer.error or not answer.error.startswith("the function"):
            hint = f"`fnbuild redeploy {name}` starts one that does"
            raise UsageError(f"the processor of {name} does not know `{action}`", hint=hint)
        raise PreconditionError(f"{name}: {answer.error}", hint="try again later")


class ProcessorStatus(msgspec.Struct, frozen=True):
    """A processor's report about itself.

    If it is unhealthy, `reason` is one line, and `message` the traceback or other details.
    """

    state: ProcessorState
    pid: int
    revision: int
    reason: str = ""
    message: str = ""
    workers: list[WorkerStatus] = msgspec.field(default_factory=list)
    connections: int = 0
    in_flight: int = 0
    mount: str | None = None
    warnings: list[str] = msgspec.field(default_factory=list)
    sleep: SleepStatus | None = None

    @property
    def note(self) -> str:
        """Describe the workers that are down or asleep; "" if there are none."""
        sleep = self.sleep.description if self.sleep else ""
        return "; ".join(filter(None, (self.lost_workers, sleep)))

    @property
    def waits_for_group(self) -> bool:
        """True while the workers wait for room in their GPU group."""
        return self.sleep is not None and self.sleep.state == "waiting"

    @property
    def available(self) -> bool:
        return self.state == "ready"

    @property
    def detail(self) -> str:
        """Return the message, without its first line if that is the reason."""
        return self.message.removeprefix(self.reason).lstrip("\n") if self.reason else self.message

    @property
    def full_reason(self) -> str:
        """Return the reason, followed by the detail."""
        return "\n".join(part for part in (self.reason, self.detail) if part)

    @property
    def lost_workers(self) -> str:
        """Describe the workers that are down, and why; "" if there are none."""
        down = [
            worker
            for worker in self.workers
            if worker.reason and worker.state not in ("ready", "busy")
        ]
        if not down:
            return ""
        verb = "is" if len(down) == 1 else "are"
        count = f"{len(down)} of {len(self.workers)} workers {verb} down"
        return f"{count}: {down[0].reason}"


@dataclass(frozen=True, slots=True)
class LiveState:
    """The state of a function now, and its processor's status if that answers."""

    state: FunctionState
    message: str = ""
    status: ProcessorStatus | None = None

    @classmethod
    def from_status(cls, status: ProcessorStatus) -> LiveState:
        """Return the state of a function whose only processor has this status."""
        if status.state == "ready":
            return cls("ready", status.note, status)
        if status.state == "starting":
            return cls("building", "its workers are starting", status)
        return cls("unhealthy", status.full_reason or status.state, status)


class HandlerImportVerdict(msgspec.Struct, frozen=True):
    """The result of the runtime's `importcheck` for a handler."""

    verdict: Literal["ok", "failed", "unknown"]
    reason: str = ""
    detail: str = ""

    @classmethod
    def parse(cls, output: bytes) -> HandlerImportVerdict:
        """Return the verdict in the check's output, `unknown` if there is none."""
        for line in reversed(output.splitlines()):
            with suppress(msgspec.MsgspecError):
                return _VERDICT_DECODER.decode(line)
        return cls("unknown", "the check ended without a result")

    @property
    def extra_detail(self) -> str:
        """Return the detail, unless the reason says the same."""
        return "" if self.detail == self.reason else self.detail

    def raise_if_failed(self, number: int, name: str) -> None:
        """Raise `NotReadyError` for the revision if its handler could not be imported."""
        if self.verdict == "failed":
            message = failure_prefix(number, name) + self.reason
            raise NotReadyError(message, detail=self.extra_detail or None)


def raise_without_processor(deployment: Deployment) -> NoReturn:
    """Raise the reason why no processor of the function can sleep or wake."""
    if deployment.foreground:
        raise PreconditionError(
            f"{deployment.name} runs in the foreground, where only its idle timeout has an effect",
            hint="`fnbuild deploy` runs it in the background",
        )
    raise PreconditionError(
        f"{deployment.name} is {deployment.state}, so it neither sleeps nor wakes",
        hint=f"`fnbuild get function {deployment.name}` says more",
    )


def inconclusive_check_message(reason: object) -> str:
    return f"the import check was inconclusive: {reason}"


def decode_status(body: bytes) -> ProcessorStatus:
    """Return the status in a processor's reply; raise `msgspec.MsgspecError` if there is none."""
    return _STATUS_DECODER.decode(body)


# Decoders are created at import, which runs in one thread: msgspec completes a type when it first
# decodes it, and two threads that do so at the same time crash the interpreter.
_STATUS_DECODER = msgspec.json.Decoder(ProcessorStatus)
_SLEEP_DECODER = msgspec.json.Decoder(SleepAnswer)
_VERDICT_DECODER = msgspec.json.Decoder(HandlerImportVerdict)


def parse_metrics(text: str) -> Statistics | None:
    """Sum up the metrics of a processor; return None if the text has none of them.

    The names are Nuclio's where it has them (pkg/processor/metricsink/prometheus), so metrics of
    its processors can be parsed as well.
    """
    sums: defaultdict[str, float] = defaultdict(float)
    handled: Counter[str] = Counter()
    buckets: defaultdict[float, int] = defaultdict(int)
    workers: Counter[str] = Counter()
    for line in text.splitlines():
        name, brace, rest = line.partition("{")
        if not brace or name not in _METRICS:
            continue
        labels, _, number = (brace + rest).rpartition(" ")
        value = int(float(number))
        if name == _BUCKET:
            buckets[float(_label_value(_BOUND, labels))] += value
        elif name == _HANDLED:
            handled[_label_value(_RESULT, labels)] += value
        elif name == _WORKERS:
            workers[_label_value(_STATE, labels)] += value
        elif name != _ALLOCATIONS or _label_value(_RESULT, labels).startswith("error"):
            sums[name] += float(number)
    if not (sums or handled or buckets or workers):
        return None
    unserved = int(sums[_ALLOCATIONS] + sums[_REFUSALS])
    return Statistics(
        requests=handled.total() + unserved,
        errors=handled.total() - handled["success"] + unserved,
        durations=tuple(sorted(buckets.items())),
        total_milliseconds=sums[_SUM],
        workers=+workers,
        restarts=int(sums[_RESTARTS]),
        gpu_memory=int(sums[GPU_MEMORY]) if GPU_MEMORY in sums else None,
    )


def _label_value(pattern: re.Pattern[str], labels: str) -> str:
    match = pattern.search(labels)
    return match[1] if match else "nan"
