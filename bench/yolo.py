"""Compare functions/onnx/yolo with Ultralytics' predict: the objects, and requests per second.

python -m bench.yolo --python PATH [--seconds 10] [--rounds 3] [--no-compare]

PATH is an interpreter with ultralytics, onnx, onnxslim, onnxruntime, OpenCV and Pillow. Both
functions run on it as processes with two workers each, and get the same request at the same
concurrency, in turns. Models with random weights are exported once.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

from .catalog import CACHE, ROOT

_APPS = ROOT / "bench" / "apps" / "ultralytics"
_LIBRARY = ROOT / "functions" / "onnx" / "yolo"
_SAMPLES = ROOT / "fnbuild" / "dashboard" / "static" / "samples"
_PICTURES = sorted(_SAMPLES.glob("*.jpg"))
_MODEL = "yolov8n"


def main(arguments: list[str]) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(prog="python -m bench.yolo")
    parser.add_argument("--python", required=True, help="an interpreter with Ultralytics")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--no-compare", action="store_true")
    options = parser.parse_args(arguments)
    models = CACHE / "yolo"
    models.mkdir(parents=True, exist_ok=True)
    only = ("--only", _MODEL) if options.no_compare else ()
    _run_app(options.python, "models.py", models, *_PICTURES, *only)
    if not options.no_compare:
        files = sorted(models.glob("*.onnx"))
        places = ("--pictures", *_PICTURES, "--library", _LIBRARY)
        _run_app(options.python, "compare.py", *files, *places)
    with tempfile.TemporaryDirectory(prefix="yolo-") as folder:
        _measure(Path(folder), models / f"{_MODEL}.onnx", options)


def _run_app(python: str, name: str, *arguments: object) -> None:
    variables = {**os.environ, "YOLO_CONFIG_DIR": str(CACHE), "PYTHONPATH": str(ROOT)}
    command = [python, str(_APPS / name), *map(str, arguments)]
    subprocess.run(command, check=True, cwd=CACHE, env=variables)


def _measure(folder: Path, model: Path, options: argparse.Namespace) -> None:
    environment = {**os.environ, "FNBUILD_DATA_DIR": str(folder / "data")}
    environment["FNBUILD_PLATFORM"] = "process"

    def fnbuild(*words: object) -> str:
        command = [sys.executable, "-m", "fnbuild", *map(str, words)]
        done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        return done.stdout

    fnbuild("init", folder / "yolo", "--from", model)
    own = ("--env", f"NUCLIO_PYTHON_EXE_PATH={options.python}", "--env", f"YOLO_CONFIG_DIR={CACHE}")
    try:
        fnbuild("deploy", "--path", folder / "yolo", *own)
        fnbuild("deploy", "--path", _APPS, *own, "--env", f"MODEL={model}")
        functions = json.loads(fnbuild("get", "functions", "-o", "json"))
        ports = {each["metadata"]["name"]: each["status"]["httpPort"] for each in functions}
        image = base64.b64encode((_SAMPLES / "astronaut.jpg").read_bytes()).decode()
        body = json.dumps({"image": image, "threshold": 0.4}).encode()
        rates: dict[str, list[float]] = {name: [] for name in ports}
        for _ in range(options.rounds):
            for name, port in ports.items():
                url = f"http://127.0.0.1:{port}/"
                rates[name].append(_rate(url, body, options.concurrency, options.seconds))
    finally:
        fnbuild("down")
    print("| function | requests per second | rounds |\n|---|---|---|")
    for name, values in rates.items():
        rounds = ", ".join(f"{value:.1f}" for value in values)
        print(f"| {name} | {statistics.median(values):.1f} | {rounds} |")


def _rate(url: str, body: bytes, concurrency: int, seconds: float) -> float:
    """Return the requests per second of so many clients, after a second to warm up."""
    counts = [0] * concurrency
    start = time.monotonic() + 1
    end = start + seconds

    def send(number: int) -> None:
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
        while time.monotonic() < end:
            connection.request("POST", "/", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            response.read()
            assert response.status == 200, response.status
            counts[number] += start <= time.monotonic() < end
        connection.close()

    threads = [threading.Thread(target=send, args=(i,)) for i in range(concurrency)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / seconds


if __name__ == "__main__":
    main(sys.argv[1:])
