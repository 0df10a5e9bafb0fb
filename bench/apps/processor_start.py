"""Write the processor's configuration as a deploy does, and become the processor.

The argument is the interpreter of the workers.
"""

import json
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main():
    folder = Path(os.environ["BENCH_FOLDER"])
    trigger = {
        "kind": "http",
        "num_workers": int(os.environ["BENCH_WORKERS"]),
        "attributes": {"maxRequestBodySize": 32 * 1024 * 1024},
    }
    values = {
        "function": {"name": "bench", "namespace": "nuclio", "project": "bench", "revision": 1},
        "handler": "main:handler",
        "code": str(HERE.parent / "function"),
        "interpreter": sys.argv[1],
        "triggers": {"http": trigger},
        "event_timeout": 30.0,
        "listeners": {
            "http": {"host": "127.0.0.1", "port": int(os.environ["BENCH_PORT"])},
            "admin": {"host": "127.0.0.1", "port": 0},
            "control": str(folder / "control.sock"),
        },
        "log": {"level": "info", "format": "json"},
    }
    config = folder / "processor.json"
    config.write_text(json.dumps(values))
    os.environ["PYTHONPATH"] = str(HERE.parent.parent)
    command = [sys.executable, "-m", "fnbuild.runtime.processor", "--config", str(config)]
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted


main()
