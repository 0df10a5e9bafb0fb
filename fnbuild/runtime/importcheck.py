"""Check that the handler can be imported, without running init_context.

A deploy runs this check if it has to stop the old processor before it can start the new one, since
both need the GPU. The check itself has no GPU. An error that the missing GPU may cause gives
`unknown` instead of `failed`; then the start with a GPU decides.

    python -m fnbuild.runtime.importcheck CONFIG

reads a configuration file, or stdin if it is `-`. The last line of stdout is

    {"verdict": "ok" | "failed" | "unknown", "reason": "", "detail": ""}

and the exit status is 1 for `failed`, else 0.
"""

import json
import os
import re
import socket
import sys
import threading
from typing import List, NamedTuple, Optional

from . import wire
from .config import ConfigFileError, ProcessorConfig
from .processor.launch import setup_message, start_interpreter, worker_environment
from .worker.channel import Channel

# Kubernetes shows the content of this file as the container's termination message.
TERMINATION_LOG = "/dev/termination-log"
_MAX_DETAIL_LENGTH = 3000

# These never depend on the machine, whatever their message.
_CODE_ERRORS = ("SyntaxError", "IndentationError", "TabError", "ModuleNotFoundError", "LoadError")
# These are errors in the code unless their message mentions a GPU or its libraries.
_CODE_OR_GPU_ERRORS = (
    "ImportError",
    "NameError",
    "UnboundLocalError",
    "AttributeError",
    "TypeError",
    "ValueError",
    "KeyError",
    "IndexError",
    "FileNotFoundError",
    "ZeroDivisionError",
)
_GPU = re.compile(r"gpu|cuda|cudnn|nvidia|nvml|nvrtc|tensorrt|libnv|rocm|driver", re.IGNORECASE)


class Verdict(NamedTuple):
    """The result of the check; `reason` is one line, `detail` the whole error."""

    verdict: str
    reason: str = ""
    detail: str = ""


def check(config: ProcessorConfig) -> Verdict:
    """Import the handler in a separate process, as a worker does."""
    env = worker_environment(config, 1)
    env["CUDA_VISIBLE_DEVICES"] = ""
    ours, theirs = wire.socket_pair()
    try:
        # stdout is for the verdict.
        process = start_interpreter(config, env, theirs.fileno(), sys.stderr, None)
    except (OSError, ValueError) as problem:
        ours.close()
        return Verdict("unknown", "%s cannot be started: %s" % (config.interpreter, problem))
    finally:
        theirs.close()
    timer = threading.Timer(config.readiness_timeout, process.kill)
    timer.daemon = True
    timer.start()
    try:
        return _receive_verdict(ours, config) or Verdict(
            "unknown", "the process that imported the handler ended without a result"
        )
    finally:
        timer.cancel()
        process.kill()
        process.wait()
        ours.close()


def _receive_verdict(sock: socket.socket, config: ProcessorConfig) -> Optional[Verdict]:
    """Return the verdict of the child process; None if it ended without one."""
    sock.setblocking(True)
    channel = Channel(sock)
    try:
        # As a template it reports after the import whether it can be forked, and runs nothing.
        channel.send(wire.SETUP, setup_message(config, template=True))
        while True:
            message = channel.receive()
            if message is None:
                return None
            if message.kind == wire.FAILED:
                return _verdict_of_error(message.meta)
            if message.kind in (wire.FORKABLE, wire.UNFORKABLE):
                return Verdict("ok")
    except OSError:
        return None


def _verdict_of_error(problem: wire.Meta) -> Verdict:
    kind, text = problem["type"], problem["message"]
    # Indented lines are paths and source code, which may contain any word.
    messages = "\n".join(line for line in text.splitlines() if not line.startswith(" "))
    is_certain = kind in _CODE_ERRORS or (kind in _CODE_OR_GPU_ERRORS and not _GPU.search(messages))
    return Verdict("failed" if is_certain else "unknown", problem["reason"], text)


def report(verdict: Verdict) -> int:
    """Print the verdict, write it for Kubernetes, and return the exit status."""
    detail = verdict.detail[-_MAX_DETAIL_LENGTH:]
    text = json.dumps(verdict._replace(detail=detail)._asdict())
    if os.path.exists(TERMINATION_LOG):
        with open(TERMINATION_LOG, "w") as log:
            log.write(text)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
    return 1 if verdict.verdict == "failed" else 0


def main(arguments: List[str]) -> int:
    """Check the function of a configuration, which may lack listeners."""
    defaults = {"listeners": {"http": {"host": "127.0.0.1", "port": 0}}}
    try:
        if arguments[0] == "-":
            config = ProcessorConfig.from_json(sys.stdin.buffer.read(), "stdin", defaults)
        else:
            config = ProcessorConfig.from_file(arguments[0], defaults)
    except ConfigFileError as problem:
        return report(Verdict("unknown", str(problem)))
    return report(check(config))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
