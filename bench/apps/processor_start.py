"""Write the processor's configuration as a deploy does, and become the processor.

    python processor_start.py INTERPRETER [MODE SIZE TIMEOUT]

INTERPRETER is that of the workers. MODE, SIZE and TIMEOUT are those of the batches of the function
`batched`; in mode `disable` it has none. BENCH_PROTOCOLS has the inference protocols.
"""

import json
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def grpc_packages():
    from fnbuild.builder.grpc_packages import GrpcPython, ensure_packages, own_system

    python = GrpcPython(sys.version_info[:2], own_system())
    return str(ensure_packages(python, lambda text: print(text, file=sys.stderr)))


def main():
    folder = Path(os.environ["BENCH_FOLDER"])
    protocols = os.environ["BENCH_PROTOCOLS"].split()
    attributes = {"maxRequestBodySize": 32 * 1024 * 1024}
    if protocols:
        attributes["protocols"] = protocols
    trigger = {
        "kind": "http",
        "num_workers": int(os.environ["BENCH_WORKERS"]),
        "attributes": attributes,
    }
    if sys.argv[2:] and sys.argv[2] != "disable":
        mode, size, timeout = sys.argv[2:]
        adaptive = mode == "adaptive"
        trigger["batch"] = {"size": int(size), "timeout": float(timeout), "adaptive": adaptive}
    values = {
        "function": {"name": "bench", "namespace": "nuclio", "project": "bench", "revision": 1},
        "handler": "batched:handler" if sys.argv[2:] else "main:handler",
        "code": str(HERE.parent / "function"),
        "interpreter": sys.argv[1],
        "triggers": {"http": trigger},
        "event_timeout": 30.0,
        "listeners": {
            "http": {"host": "127.0.0.1", "port": int(os.environ["BENCH_PORT"])},
            "grpc": {"host": "127.0.0.1", "port": int(os.environ["BENCH_GRPC_PORT"])},
            "admin": {"host": "127.0.0.1", "port": 0},
            "control": str(folder / "control.sock"),
        },
        "log": {"level": "info", "format": "json"},
    }
    if "grpc" in protocols:
        values["grpc_packages"] = grpc_packages()
    config = folder / "processor.json"
    config.write_text(json.dumps(values))
    os.environ["PYTHONPATH"] = str(HERE.parent.parent)
    command = [sys.executable, "-m", "fnbuild.runtime.processor", "--config", str(config)]
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted


main()
