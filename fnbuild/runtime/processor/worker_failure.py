"""Messages about worker processes that ended or hang, and the delay before a restart."""

import signal
from typing import List, NamedTuple

from ..tracebacks import handler_location

_SIGNAL_MEANINGS = {
    "SIGKILL": "likely out of memory",
    "SIGSEGV": "a segmentation fault in a native library",
    "SIGBUS": "a bus error: often a full /dev/shm or a truncated memory-mapped file",
    "SIGABRT": "a native library gave up",
    "SIGILL": "an instruction this processor lacks: a library built for another one",
    "SIGFPE": "a division by zero in a native library",
}


# The first step of a start.
IMPORT = "the import of the handler"


class WorkerFailure(NamedTuple):
    """The reason why a worker is down, in one line, and the full text (a traceback, a stack)."""

    reason: str
    text: str

    @classmethod
    def from_reason(cls, reason: str, details: str = "") -> "WorkerFailure":
        """Return a failure whose text is the reason, followed by details."""
        return cls(reason, reason + "\n" + details if details else reason)


def describe_exit(worker: str, status: int, activity: str = "") -> str:
    """Return a sentence about a process that ended with `status`, negative for a signal.

    `activity` is what the process was doing, for example `in init_context`.
    """
    if status >= 0:
        ending = "ended itself with exit code %d%s (os._exit, or a library that ends the process)"
        return "worker %s %s" % (worker, ending % (status, activity and " " + activity))
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = "signal %d" % -status
    meaning = _SIGNAL_MEANINGS.get(name, "")
    crashed = name in ("SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE")
    if activity:
        verb = "crashed" if crashed else "was killed"
        text = "worker %s %s %s (%s)" % (worker, verb, activity, name)
    else:
        verb = "crashed with" if crashed else "was killed by"
        text = "worker %s %s signal %d (%s)" % (worker, verb, -status, name)
    return text + (", " + meaning if meaning else "")


def exit_failure(worker: str, status: int) -> WorkerFailure:
    """Describe a process that ended after it was ready."""
    return WorkerFailure.from_reason(describe_exit(worker, status))


def startup_failure(worker: str, status: int, step: str, output: str) -> WorkerFailure:
    """Describe a process that ended in a step of its start; `output` is what it printed last."""
    activity = "while the handler was imported" if step == IMPORT else "in " + step
    return WorkerFailure.from_reason(describe_exit(worker, status, activity), output)


def startup_timeout(activity: str, seconds: float, frames: List[str]) -> WorkerFailure:
    """Describe a start that exceeded the readiness timeout; `frames` are its stack by then."""
    reason = "%s did not finish within %g s (readiness timeout)" % (activity, seconds)
    location = handler_location(frames)
    if location:
        reason += "; it was at " + location
    return WorkerFailure.from_reason(reason, "\n".join(frames))


class Backoff:
    """The delay before a start, in seconds: 0 at first, then 0.5, doubling up to 30."""

    LONGEST = 30.0

    def __init__(self) -> None:
        self._failures = 0

    @property
    def is_reset(self) -> bool:
        """True if there was no failure since the last stable run."""
        return not self._failures

    def reset(self) -> None:
        """Forget the failures after a stable run."""
        self._failures = 0

    def next(self) -> float:
        """Return the delay after one more failure."""
        self._failures += 1
        if self._failures == 1:
            return 0.0
        return float(min(self.LONGEST, 0.5 * 2 ** (self._failures - 2)))
