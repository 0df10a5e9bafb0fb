"""Where workers get their processes: copies of a template where that is safe, else fresh ones.

There is one template for a function. It imports the handler once; whether it can be copied it says
itself. When it cannot, it becomes the first worker, and the others are started afresh.
"""

import asyncio
from collections import deque
from typing import Any, Callable, Deque, Dict, List, Optional

from .. import wire
from ..config import ProcessorConfig
from ..event_loop import EventLoop
from ..logs import Log, LogRecord
from ..tracebacks import handler_location, last_output
from . import worker_process
from .launch import setup_message
from .worker_failure import WorkerFailure, describe_exit
from .worker_process import ProcessOwner, StackDump, WorkerProcess

# Set to `spawn` in the function's environment, every worker starts afresh.
START_VARIABLE = "FNBUILD_START"
# A template that is lost so often in a row is given up.
_MAX_TEMPLATE_LOSSES = 3


class ProcessRequester(ProcessOwner):
    """Who asks for a process, and then owns it."""

    name = ""

    def process_given(self, process: WorkerProcess) -> None:
        """It imports the handler, or has done so; BEGIN makes it a worker."""

    def process_refused(self, trouble: WorkerFailure) -> None:
        """There is none, and this is why."""


class Spawner(ProcessOwner):
    """See the module. `on_facts` gets what the first message of a template says."""

    def __init__(
        self,
        config: ProcessorConfig,
        env: Dict[str, str],
        log: Log,
        on_facts: Callable[[wire.Meta], None],
        loop: EventLoop,
    ) -> None:
        self._loop = loop
        self._config = config
        self._env = env
        self._log = log
        self._on_facts = on_facts
        self._template: Optional[WorkerProcess] = None
        self._dismissed: List[WorkerProcess] = []
        self._ready = False
        self._losses = 0
        self._waiting: Deque[ProcessRequester] = deque()
        self._served: Optional[ProcessRequester] = None
        self._copy: Optional[WorkerProcess] = None
        self._strays: Dict[int, int] = {}
        self._failure: Optional[WorkerFailure] = None
        self._timer: Optional[asyncio.TimerHandle] = None
        self._hang: Optional[StackDump] = None
        self._fixed = env.get(START_VARIABLE) == "spawn"
        self._obstacle = START_VARIABLE + " says so" if self._fixed else ""

    def open(self) -> None:
        """Before the first request."""
        if not self._fixed and not worker_process.become_subreaper():
            self._fixed = True
            self._obstacle = "this system cannot hand over orphaned processes"

    def request(self, customer: ProcessRequester) -> None:
        """Get a process for the customer, who is told of it by a call, perhaps at once."""
        if self._obstacle:
            self._spawn_for(customer)
            return
        self._waiting.append(customer)
        if self._template is None:
            self._start()
        else:
            self._next()

    def cancel(self, customer: ProcessRequester) -> None:
        """It needs none any more."""
        if customer in self._waiting:
            self._waiting.remove(customer)
        if self._served is customer:
            self._served = None

    def renew(self) -> None:
        """The code has changed: what is imported now must not be copied any more."""
        if not self._fixed:
            self._obstacle = ""
        self._losses = 0
        if self._template is not None:
            self._drop()
            self._start()

    def stop(self) -> None:
        """End the template; workers are not touched."""
        self._waiting.clear()
        self._served = None
        self._drop()

    def reap(self, known: Callable[[int], bool]) -> None:
        """Reap the template, and what came from dead workers. Called on SIGCHLD."""
        own = [*self._dismissed, self._template] if self._template else self._dismissed
        for process in own:
            process.reap()
        self._dismissed = [process for process in self._dismissed if not process.gone]
        pids = {process.pid for process in own}
        while True:
            stray = worker_process.reap_orphan(lambda pid: pid in pids or known(pid))
            if stray is None:
                return
            if self._copy is not None:
                # It may be the copy whose pid the template is about to tell.
                self._strays[stray[0]] = stray[1]

    def to_dict(self) -> Dict[str, Any]:
        """How workers start, for the status."""
        if self._obstacle:
            return {"by": "spawn", "reason": self._obstacle, "template": 0}
        pid = self._template.pid if self._template is not None else 0
        return {"by": "fork", "reason": "", "template": pid}

    def on_line(self, stream: str, line: str) -> None:
        if stream == "stderr" and self._hang is not None:
            self._hang.add(line)
        else:
            self._log.write(LogRecord("info", line, stream))

    def on_message(self, message: wire.Message) -> None:
        kind, meta = message.kind, message.meta
        if kind == wire.STARTED:
            self._on_facts(meta)
        elif kind == wire.FAILED:
            self._failure = WorkerFailure(meta["reason"], meta["message"])
        elif kind == wire.FORKABLE:
            self._stop_timer()
            self._ready = True
            self._next()
        elif kind == wire.UNFORKABLE:
            self._stop_timer()
            self._be_worker(meta["reason"])
        elif kind == wire.FORKED:
            self._deliver(meta["pid"], meta["problem"])

    def on_end(self, status: int) -> None:
        """The template is gone: it failed, found its code changed, or was killed."""
        process, self._template = self._template, None
        ready, self._ready = self._ready, False
        self._stop_timer()
        self._take_back()
        if ready:
            self._losses = self._losses + 1 if status else 0
            if self._losses >= _MAX_TEMPLATE_LOSSES:
                self._obstacle = "what workers are copied from died %d times" % self._losses
            waiting, self._waiting = self._waiting, deque()
            for customer in waiting:
                self.request(customer)
            return
        words = last_output(list(process.last_lines)) if process is not None else ""
        where = "while the handler was imported"
        self._refuse(
            lambda name: (
                self._failure or WorkerFailure.of(describe_exit(name, status, where), words)
            )
        )

    def _start(self) -> None:
        self._failure = None
        self._hang = None
        self._ready = False
        process = self._spawn(self)
        if process is not None:
            self._template = process
            limit = self._config.readiness_timeout
            self._timer = self._loop.call_later(limit, self._hangs, process, limit)

    def _spawn(self, owner: ProcessOwner) -> Optional[WorkerProcess]:
        try:
            process = WorkerProcess(self._loop, owner)
            process.spawn(self._config, self._env)
        except (OSError, ValueError) as problem:
            text = "%s cannot be started: %s" % (self._config.interpreter, problem)
            if isinstance(owner, ProcessRequester):
                owner.process_refused(WorkerFailure.of(text))
            else:
                self._refuse(lambda _name: WorkerFailure.of(text))
            return None
        process.send(wire.SETUP, setup_message(self._config, template=owner is self))
        return process

    def _spawn_for(self, customer: ProcessRequester) -> None:
        process = self._spawn(customer)
        if process is not None:
            customer.process_given(process)

    def _next(self) -> None:
        """Ask for the next copy; one at a time."""
        template = self._template
        if not self._ready or self._copy is not None or not self._waiting or template is None:
            return
        customer = self._waiting.popleft()
        try:
            copy = WorkerProcess(self._loop, customer)
        except OSError as problem:
            # Out of descriptors or memory: the worker tries again later.
            customer.process_refused(WorkerFailure.of("no worker can be forked: %s" % problem))
            self._loop.call_soon(self._next)
            return
        if copy.copy_from(template):
            self._served, self._copy = customer, copy
        else:
            # It is gone, as its end will tell in a moment.
            self._waiting.appendleft(customer)

    def _deliver(self, pid: int, problem: str) -> None:
        customer, self._served = self._served, None
        copy, self._copy = self._copy, None
        strays, self._strays = self._strays, {}
        if copy is None:
            return
        if not pid:
            copy.give_up()
            if customer is not None:
                customer.process_refused(WorkerFailure.of("no worker could be forked: " + problem))
        elif customer is None:
            copy.give_up()
        else:
            self._losses = 0
            copy.copied(pid, strays.get(pid))
            customer.process_given(copy)
        self._next()

    def _be_worker(self, reason: str) -> None:
        """The template cannot be copied: it is the first worker, others start afresh."""
        self._obstacle = reason
        self._log.info("Every worker imports the handler by itself, since " + reason)
        process, self._template = self._template, None
        waiting, self._waiting = self._waiting, deque()
        if process is not None:
            if waiting:
                waiting.popleft().process_given(process)
            else:
                self._dismiss(process)
        for customer in waiting:
            self._spawn_for(customer)

    def _refuse(self, trouble_of: Callable[[str], WorkerFailure]) -> None:
        waiting, self._waiting = self._waiting, deque()
        for customer in waiting:
            customer.process_refused(trouble_of(customer.name))
        if not waiting:
            self._log.warn(trouble_of("to come").text)

    def _hangs(self, process: WorkerProcess, seconds: float) -> None:
        def report(frames: List[str]) -> None:
            reason = "the import of the handler did not finish within %g s (readiness timeout)"
            reason = reason % seconds
            where = handler_location(frames)
            if where:
                reason += "; it was at " + where
            self._failure = WorkerFailure.of(reason, "\n".join(frames))

        self._hang = StackDump(self._loop, process, report)

    def _drop(self) -> None:
        """Forget the template and end it; who waits for a copy goes on waiting."""
        process, self._template = self._template, None
        self._ready = False
        self._stop_timer()
        self._take_back()
        if process is not None:
            self._dismiss(process)

    def _dismiss(self, process: WorkerProcess) -> None:
        process.owner = ProcessOwner()
        process.kill()
        self._dismissed.append(process)

    def _take_back(self) -> None:
        """A copy that was asked for will not come."""
        customer, self._served = self._served, None
        copy, self._copy = self._copy, None
        if copy is not None:
            copy.give_up()
        if customer is not None:
            self._waiting.appendleft(customer)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
