"""The start of a worker process: its command line, environment and first messages."""

import math
import os
import signal
import socket
import subprocess
from typing import Any, Dict, List, Optional

from .. import wire
from ..config import DEFAULT_BACKLOG, ProcessorConfig, TriggerConfig, attribute_number
from ..http.messages import ConnectionLimits
from ..protocols.mapping import ATTRIBUTES
from ..storage.uris import URI_VARIABLE, model_path
from ..worker.process_setup import function_variables

# A container sees its own control group as the root of the hierarchy.
_CGROUP_ROOT = "/sys/fs/cgroup"

_RUNTIME = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_BOOTSTRAP = os.path.join(_RUNTIME, "bootstrap.py")
# The folder that holds the fnbuild package.
_HOME = os.path.dirname(os.path.dirname(_RUNTIME))

# On this signal, which libraries hardly use, a worker prints its stack.
DUMP_SIGNAL = int(signal.SIGRTMIN) + 7

# The thread counts of libraries that by default start one thread per core in each process.
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "OPENCV_FOR_THREADS_NUM",
)


def available_cores(groups: str = _CGROUP_ROOT) -> int:
    """Return the number of CPU cores for this process, limited by its CPU quota (`--cpus`)."""
    # PyPy has no function for the cores that this process may use.
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    quota = _cgroup_quota(groups)
    return max(1, min(count, math.ceil(quota))) if quota > 0 else count


def _cgroup_quota(groups: str) -> float:
    """Return the CPU quota of the control group in cores; 0 without one."""
    limit = _read_words(os.path.join(groups, "cpu.max"))
    if not limit:
        # In version 1 of control groups, each controller is a hierarchy of its own.
        files = ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")
        limit = [word for name in files for word in _read_words(os.path.join(groups, name))]
    try:
        quota, period = map(int, limit)
        return quota / period
    except (ValueError, ZeroDivisionError):
        return 0.0


def _read_words(path: str) -> List[str]:
    try:
        with open(path) as file:
            return file.read().split()
    except OSError:
        return []


def start_interpreter(
    config: ProcessorConfig, env: Dict[str, str], fd: int, stdout: Any, stderr: Any
) -> "subprocess.Popen[bytes]":
    """Start a worker or a template with the socket `fd`; raise OSError or ValueError if it fails.

    The function's name is shown by `ps`.
    """
    name = str(config.function.get("name", ""))
    return subprocess.Popen(
        [config.interpreter, "-u", _BOOTSTRAP, "--socket", str(fd), name],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        pass_fds=[fd] if config.group_lock is None else [fd, config.group_lock],
        env=env,
        cwd=config.code,
        start_new_session=True,
    )


def worker_environment(config: ProcessorConfig, workers: int) -> Dict[str, str]:
    """Return a worker's environment: the processor's, Nuclio's variables and the function's."""
    env = dict(os.environ)
    _drop_own_path(env)
    env.update(function_variables(config.function, config.handler))
    # On Kubernetes it is the pod's name already.
    env.setdefault("NUCLIO_FUNCTION_INSTANCE", socket.gethostname())
    env.update(config.env)
    if config.models and env.get(URI_VARIABLE):
        env[URI_VARIABLE] = model_path(env[URI_VARIABLE], config.models)
    if not any(env.get(name) for name in ("LC_ALL", "LC_CTYPE", "LANG")):
        env["LANG"] = "C.UTF-8"
    # Printing any text must succeed; Python 3.6 uses ASCII in an environment without locale.
    if not env.get("PYTHONIOENCODING"):
        env["PYTHONIOENCODING"] = "utf-8:backslashreplace"
    # The home of a user that the image does not know is `/`, where it may not write.
    if env.get("HOME", "/") == "/" and not os.access("/", os.W_OK):
        env["HOME"] = "/tmp"  # noqa: S108 - for caches of libraries, private to the container
    share = str(max(1, available_cores() // max(1, workers)))
    for name in _THREAD_VARIABLES:
        env.setdefault(name, share)
    return env


def setup_message(config: ProcessorConfig, template: bool) -> wire.Meta:
    """Return the SETUP message; with `template` the process becomes a fork template."""
    return {
        "parent": os.getpid(),
        "handler": config.handler,
        "model": config.model_name,
        "arguments": config.arguments,
        "code": config.code,
        "mount": config.mount,
        "immutable": config.immutable,
        "sdk_path": config.sdk_path,
        "neighbours": config.neighbours,
        "namespace": config.function.get("namespace") or "nuclio",
        "function": {key: config.function.get(key) for key in ("name", "revision")},
        "dump_signal": DUMP_SIGNAL,
        "template": template,
        "group_lock": config.group_lock,
    }


def begin_message(
    config: ProcessorConfig, trigger: TriggerConfig, worker: str, threshold: int
) -> wire.Meta:
    """Return the BEGIN message. Records below the level `threshold` need not be sent.

    `max_reply` is the largest reply in bytes; 0 means no limit. `inference` is None if the trigger
    serves no inference protocol. With `offload` the handler must have `sleep` and `wake`.
    """
    return {
        "parent": os.getpid(),
        "worker": worker,
        "trigger": {"kind": trigger.kind, "name": trigger.name},
        "threshold": threshold,
        "max_reply": trigger.max_reply,
        "offload": config.sleep.offload,
        "inference": _inference_settings(trigger),
    }


def _inference_settings(trigger: TriggerConfig) -> Optional[wire.Meta]:
    """Return the attributes of the inference protocols and the limits; None without protocols.

    The limits are those of `worker.inference.InferenceLimits`.
    """
    attributes = trigger.attributes
    if not attributes.get("protocols"):
        return None
    return {
        "attributes": {name: attributes[name] for name in ATTRIBUTES if name in attributes},
        "limits": [
            attribute_number(attributes, "maxRequestBodySize", ConnectionLimits().max_body),
            attribute_number(attributes, "maxBacklog", DEFAULT_BACKLOG, "requests"),
            trigger.batch.size if trigger.batch is not None else 0,
        ],
    }


def _drop_own_path(env: Dict[str, str]) -> None:
    # The runtime may be on PYTHONPATH; the handler must not see what is next to it.
    parts = [p for p in env.get("PYTHONPATH", "").split(os.pathsep) if p and p != _HOME]
    if parts:
        env["PYTHONPATH"] = os.pathsep.join(parts)
    else:
        env.pop("PYTHONPATH", None)
