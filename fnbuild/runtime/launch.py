"""How a worker process is started: its command line and its environment."""

import os
from typing import Dict, List

from .config import ProcessorConfig

_HERE = os.path.dirname(os.path.abspath(__file__))
_BOOTSTRAP = os.path.join(_HERE, "bootstrap.py")
# The folder that holds the fnbuild package.
_HOME = os.path.dirname(os.path.dirname(_HERE))

# Libraries that start one thread per core in every process unless told otherwise.
_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "OPENCV_FOR_THREADS_NUM",
)


def command(config: ProcessorConfig, worker: str, fd: int) -> List[str]:
    """The worker's command line; the function's name is there for people who look at `ps`."""
    name = str(config.function.get("name", ""))
    return [config.interpreter, "-u", _BOOTSTRAP, "--socket", str(fd), "--worker", worker, name]


def environment(config: ProcessorConfig, workers: int) -> Dict[str, str]:
    """The worker's environment: the processor's, what Nuclio gives, and the function's own.

    The NUCLIO_ names are those of pkg/processor/runtime/python/runtime.go and
    pkg/processor/runtime/rpc/abstract.go.
    """
    env = dict(os.environ)
    _drop_own_path(env)
    function = config.function
    env.update(
        NUCLIO_FUNCTION_NAME=str(function.get("name", "")),
        NUCLIO_FUNCTION_DESCRIPTION=str(function.get("description") or ""),
        NUCLIO_FUNCTION_VERSION=str(function.get("version") or "latest"),
        NUCLIO_FUNCTION_HANDLER=config.handler,
        NUCLIO_HANDLER=config.handler,
    )
    env.update(config.env)
    share = str(max(1, len(os.sched_getaffinity(0)) // max(1, workers)))
    for name in _THREADS:
        env.setdefault(name, share)
    return env


def _drop_own_path(env: Dict[str, str]) -> None:
    # The processor may have been found through PYTHONPATH; the handler must not see what lies
    # beside it.
    parts = [p for p in env.get("PYTHONPATH", "").split(os.pathsep) if p and p != _HOME]
    if parts:
        env["PYTHONPATH"] = os.pathsep.join(parts)
    else:
        env.pop("PYTHONPATH", None)
