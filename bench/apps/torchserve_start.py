"""Pack the handler, write torchserve's configuration, and become torchserve.

python torchserve_start.py [ENVELOPE]
"""

import os
import socket
import subprocess
import sys
from pathlib import Path

BIN = Path(sys.executable).parent
HERE = Path(__file__).resolve().parent

CONFIG = """\
inference_address=http://127.0.0.1:{port}
management_address=http://127.0.0.1:{management}
metrics_address=http://127.0.0.1:{metrics}
grpc_inference_port={grpc}
grpc_management_port={grpc_management}
default_workers_per_model={workers}
max_request_size=33554432
max_response_size=33554432
load_models=bench.mar
model_store={folder}
disable_token_authorization=true
enable_envvars_config=false
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def main():
    folder = Path(os.environ["BENCH_FOLDER"])
    archiver = [str(BIN / "torch-model-archiver"), "--model-name", "bench", "--version", "1.0"]
    archiver += ["--handler", str(HERE / "torchserve_app.py"), "--export-path", str(folder)]
    subprocess.run([*archiver, "--force"], check=True)
    config = CONFIG + (f"service_envelope={sys.argv[1]}\n" if sys.argv[1:] else "")
    text = config.format(
        port=os.environ["BENCH_PORT"],
        management=free_port(),
        metrics=free_port(),
        grpc=free_port(),
        grpc_management=free_port(),
        workers=os.environ["BENCH_WORKERS"],
        folder=folder,
    )
    (folder / "config.properties").write_text(text)
    os.chdir(folder)
    # Its process id and its workers' sockets are in this folder; one machine has two servers.
    os.environ["TMPDIR"] = str(folder)
    os.environ["PATH"] = str(BIN) + os.pathsep + os.environ["PATH"]
    command = [str(BIN / "torchserve"), "--start", "--foreground", "--disable-token-auth"]
    command += ["--ts-config", str(folder / "config.properties"), "--model-store", str(folder)]
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted


main()
