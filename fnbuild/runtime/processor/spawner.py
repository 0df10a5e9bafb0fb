"""Spawn worker processes: fork a template where that is safe, else start a new interpreter.

There is one template, which imports the handler once and reports whether it can be forked. If not,
it becomes the first worker, and the others are started as new interpreters.
"""

import asyncio
from collections import deque
from typing import Any, Callable, Deque, Dict, List, Optional

from .. import wire
from ..config import ProcessorConfig
from ..logs import Log, LogRecord
from ..tracebacks import last_output
from .children import become_subreaper, reap_orphan
from .launch import setup_message
from .worker_failure import WorkerFailure, describe_exit, startup_timeout
from .worker_process import ProcessOwner, WorkerProcess

# With the value `spawn` in the function's environment, no worker is forked.
START_VARIABLE = "FNBUILD_START"
# After this many deaths of templates in a row, workers are no longer forked.
_MAX_TEMPLATE_LOSSES = 3


class ProcessRequester(ProcessOwner):
    """A worker handle that requests a process and then owns it.

    `device` are the variables of its environment that assign a GPU to it.
    """

    name = ""
    device: Dict[str, str] = {}  # noqa: RUF012 - never changed in place

    def on_process(self, process: WorkerProcess) -> None:
        """Take the process, which imports or has imported the handler; BEGIN makes it a worker."""

    def on_spawn_failure(self, failure: WorkerFailure) -> None:
        """Handle that no process could be started."""


class Spawner(ProcessOwner):
    """The source of worker processes. `on_started` receives the first message of a template."""

    def __init__(
        self,
        config: ProcessorConfig,
        env: Dict[str, str],
        log: Log,
        on_started: Callable[[wire.Meta], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._loop = loop
        self._config = config
        self._env = env
        self._log = log
        self._on_started = on_started
        self._template: Optional[WorkerProcess] = None
        self._dismissed: List[WorkerProcess] = []
        self._ready = False
        self._losses = 0
        self._waiting: Deque[ProcessRequester] = deque()
        self._fork_requester: Optional[ProcessRequester] = None
        self._fork: Optional[WorkerProcess] = None
        self._orphans: Dict[int, int] = {}
        self._failure: Optional[WorkerFailure] = None
        self._timer: Optional[asyncio.TimerHandle] = None
        self._never_fork = env.get(START_VARIABLE) == "spawn"
        self._spawn_reason = START_VARIABLE + " says so" if self._never_fork else ""

    def open(self) -> None:
        """Prepare for the first request."""
        if not self._never_fork and not become_subreaper():
            self._never_fork = True
            self._spawn_reason = "this system has no subreapers for forked workers"

    def request(self, requester: ProcessRequester) -> None:
        """Get a process for the requester, which is called back, possibly at once."""
        if self._spawn_reason:
            self._spawn_for(requester)
            return
        self._waiting.append(requester)
        if self._template is None:
            self._start()
        else:
            self._fork_next()

    def cancel(self, requester: ProcessRequester) -> None:
        """Withdraw the request."""
        if requester in self._waiting:
            self._waiting.remove(requester)
        if self._fork_requester is requester:
            self._fork_requester = None

    def renew(self) -> None:
        """Replace the template after a change of the code."""
        if not self._never_fork:
            self._spawn_reason = ""
        self._losses = 0
        if self._template is not None:
            self._end_template()
            self._start()

    def stop(self) -> None:
        """End the template; workers keep running."""
        self._waiting.clear()
        self._fork_requester = None
        self._end_template()

    def reap(self, is_worker: Callable[[int], bool]) -> None:
        """Reap the template and processes left by dead workers. Called on SIGCHLD."""
        own = [*self._dismissed, self._template] if self._template else self._dismissed
        for process in own:
            process.reap()
        self._dismissed = [process for process in self._dismissed if not process.gone]
        pids = {process.pid for process in own}
        while True:
            orphan = reap_orphan(lambda pid: pid in pids or is_worker(pid))
            if orphan is None:
                return
            if self._fork is not None:
                # This may be the fork whose pid the template is about to report.
                self._orphans[orphan[0]] = orphan[1]

    def to_dict(self) -> Dict[str, Any]:
        """Return how workers start, for the status."""
        if self._spawn_reason:
            return {"by": "spawn", "reason": self._spawn_reason, "template": 0}
        pid = self._template.pid if self._template is not None else 0
        return {"by": "fork", "reason": "", "template": pid}

    def on_line(self, stream: str, line: str) -> None:
        self._log.write(LogRecord("info", line, stream))

    def on_message(self, message: wire.Message) -> None:
        kind, meta = message.kind, message.meta
        if kind == wire.STARTED:
            self._on_started(meta)
        elif kind == wire.FAILED:
            self._failure = WorkerFailure(meta["reason"], meta["message"])
        elif kind == wire.FORKABLE:
            self._stop_timer()
            self._ready = True
            self._fork_next()
        elif kind == wire.UNFORKABLE:
            self._stop_timer()
            self._give_up_forking(meta["reason"])
        elif kind == wire.FORKED:
            self._on_forked(meta["pid"], meta["problem"])

    def on_end(self, status: int) -> None:
        """Handle the end of the template: it failed, its code has changed, or it was killed."""
        process, self._template = self._template, None
        ready, self._ready = self._ready, False
        self._stop_timer()
        self._abandon_fork()
        if ready:
            self._losses = self._losses + 1 if status else 0
            if self._losses >= _MAX_TEMPLATE_LOSSES:
                self._spawn_reason = "the template of the workers died %d times" % self._losses
            waiting, self._waiting = self._waiting, deque()
            for requester in waiting:
                self.request(requester)
            return
        output = last_output(list(process.last_lines)) if process is not None else ""
        activity = "while the handler was imported"
        self._fail_requests(
            lambda name: (
                self._failure
                or WorkerFailure.from_reason(describe_exit(name, status, activity), output)
            )
        )

    def _start(self) -> None:
        self._failure = None
        self._ready = False
        process = self._spawn(self)
        if process is not None:
            self._template = process
            limit = self._config.readiness_timeout
            self._timer = self._loop.call_later(limit, self._on_timeout, process, limit)

    def _spawn(self, owner: ProcessOwner) -> Optional[WorkerProcess]:
        env = dict(self._env, **owner.device) if isinstance(owner, ProcessRequester) else self._env
        try:
            process = WorkerProcess(self._loop, owner)
            process.spawn(self._config, env)
        except (OSError, ValueError) as problem:
            text = "%s cannot be started: %s" % (self._config.interpreter, problem)
            if isinstance(owner, ProcessRequester):
                owner.on_spawn_failure(WorkerFailure.from_reason(text))
            else:
                self._fail_requests(lambda _name: WorkerFailure.from_reason(text))
            return None
        process.send(wire.SETUP, setup_message(self._config, template=owner is self))
        return process

    def _spawn_for(self, requester: ProcessRequester) -> None:
        process = self._spawn(requester)
        if process is not None:
            requester.on_process(process)

    def _fork_next(self) -> None:
        """Request the next fork; one at a time."""
        template = self._template
        if not self._ready or self._fork is not None or not self._waiting or template is None:
            return
        requester = self._waiting.popleft()
        try:
            fork = WorkerProcess(self._loop, requester)
        except OSError as problem:
            # Out of descriptors or memory: the worker handle tries again later.
            requester.on_spawn_failure(
                WorkerFailure.from_reason("no worker can be forked: %s" % problem)
            )
            self._loop.call_soon(self._fork_next)
            return
        if fork.request_fork(template):
            self._fork_requester, self._fork = requester, fork
        else:
            # The template has ended; `on_end` will follow.
            self._waiting.appendleft(requester)

    def _on_forked(self, pid: int, problem: str) -> None:
        requester, self._fork_requester = self._fork_requester, None
        fork, self._fork = self._fork, None
        orphans, self._orphans = self._orphans, {}
        if fork is None:
            return
        if not pid:
            fork.discard()
            if requester is not None:
                requester.on_spawn_failure(
                    WorkerFailure.from_reason("no worker could be forked: " + problem)
                )
        elif requester is None:
            fork.discard()
        else:
            self._losses = 0
            fork.forked(pid, orphans.get(pid))
            requester.on_process(fork)
        self._fork_next()

    def _give_up_forking(self, reason: str) -> None:
        """Make the template, which cannot be forked, the first worker; spawn the others.

        A worker with a GPU of its own is spawned in any case: the template may have used another.
        """
        self._spawn_reason = reason
        self._log.info("Every worker imports the handler itself, since " + reason)
        process, self._template = self._template, None
        waiting, self._waiting = self._waiting, deque()
        if process is not None:
            if waiting and not waiting[0].device:
                waiting.popleft().on_process(process)
            else:
                self._dismiss(process)
        for requester in waiting:
            self._spawn_for(requester)

    def _fail_requests(self, failure_of: Callable[[str], WorkerFailure]) -> None:
        waiting, self._waiting = self._waiting, deque()
        for requester in waiting:
            requester.on_spawn_failure(failure_of(requester.name))
        if not waiting:
            self._log.warn(failure_of("to come").text)

    def _on_timeout(self, process: WorkerProcess, seconds: float) -> None:
        def report(frames: List[str]) -> None:
            self._failure = startup_timeout("the import of the handler", seconds, frames)

        process.dump_stack(report)

    def _end_template(self) -> None:
        """End the template; requesters go on waiting for a fork."""
        process, self._template = self._template, None
        self._ready = False
        self._stop_timer()
        self._abandon_fork()
        if process is not None:
            self._dismiss(process)

    def _dismiss(self, process: WorkerProcess) -> None:
        process.owner = ProcessOwner()
        process.kill()
        self._dismissed.append(process)

    def _abandon_fork(self) -> None:
        """Withdraw the fork in progress, which will not come."""
        requester, self._fork_requester = self._fork_requester, None
        fork, self._fork = self._fork, None
        if fork is not None:
            fork.discard()
        if requester is not None:
            self._waiting.appendleft(requester)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
