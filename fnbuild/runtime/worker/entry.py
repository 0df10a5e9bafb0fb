"""The worker process, from its first message to its end.

It is started by `bootstrap`, or forked from a template that has imported the handler. Its settings
are the first message, its role is the next. It ends with the processor: at the end of the socket
when idle, by the kernel's signal when busy.
"""

import faulthandler
import os
import signal
import socket
import sys
from typing import Any, Callable, List

from .. import wire
from . import fork_template, process_setup
from .channel import Channel
from .fork_template import ForkTemplate
from .loader import run_guarded
from .worker import ConnectionLostError, Worker


def main(arguments: List[str]) -> None:
    """Run a worker; `arguments` are those of `launch.start_interpreter`."""
    fd = int(arguments[arguments.index("--socket") + 1])
    os.set_inheritable(fd, False)
    sys.argv = [sys.argv[0]]
    faulthandler.enable()
    channel = Channel(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=fd))
    message = channel.receive()
    if message is None:
        return
    setup = message.meta
    if setup["group_lock"] is not None:
        # Held as long as this process lives, but not by programs that the handler starts.
        os.set_inheritable(setup["group_lock"], False)
    faulthandler.register(setup["dump_signal"], all_threads=False)
    folder, report = process_setup.prepare_process(setup)
    channel.send(wire.STARTED, report)
    opened = fork_template.open_descriptors()
    worker = Worker(setup, folder)
    _run_or_exit(worker.load, channel)
    if setup["template"]:
        channel = ForkTemplate(channel, folder, opened).serve()
    message = channel.receive()
    if message is None:
        return
    role = message.meta
    process_setup.end_with_parent(role["parent"])
    _run_or_exit(lambda: worker.begin(channel, role), channel)
    channel.send(wire.READY, worker.declared_tensors())
    try:
        orphaned = not worker.serve()
    except (OSError, ConnectionLostError):
        if worker.connected:
            raise
        sys.stderr.write("The handler closed the socket between this worker and the processor.\n")
        os._exit(1)
    if orphaned:
        _end_orphaned()
    worker.run_callback("termination")


def _run_or_exit(step: Callable[[], Any], channel: Channel) -> None:
    """Run code of the handler; report its error and end this process."""
    problem = run_guarded(step)
    if problem:
        channel.send(wire.FAILED, problem)
        # Threads of the handler's imports must not keep a failed worker alive.
        os._exit(1)


def _end_orphaned() -> None:
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(0)
