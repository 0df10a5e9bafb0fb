"""Compare `fnbuild package torchserve` with torch-model-archiver on a large file of weights.

python -m bench.torchserve_packing [--mebibytes 500] [--rounds 3] [--archiver PATH]

Both pack the same files with the same compression level, in turns, each as a process of its own.
The table has the median of the ratios of fnbuild to torch-model-archiver, and fnbuild's memory.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from .catalog import SHARED, load_catalog

_FORMATS = ("default", "zip-store", "tgz", "no-archive")
_CHUNK = 1 << 20


class PackingRun(NamedTuple):
    """The cost of one run: seconds of wall-clock and CPU time, and the largest memory in MiB."""

    wall: float
    cpu: float
    memory: float


def main(arguments: list[str]) -> None:
    """Print the table."""
    archiver = load_catalog().environments[SHARED].python.parent / "torch-model-archiver"
    parser = argparse.ArgumentParser(prog="python -m bench.torchserve_packing")
    parser.add_argument("--mebibytes", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--archiver", type=Path, default=archiver)
    parser.add_argument("--formats", default=",".join(_FORMATS))
    options = parser.parse_args(arguments)
    print("| format | time | CPU time | memory | fnbuild's memory (MiB) |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="packing-") as name:
        folder = Path(name)
        _write_sources(folder, options.mebibytes)
        for archive_format in options.formats.split(","):
            pairs = [
                (_pack(folder, archive_format), _pack(folder, archive_format, options.archiver))
                for _ in range(options.rounds)
            ]
            ratios = [
                statistics.median(ours[column] / theirs[column] for ours, theirs in pairs)
                for column in range(len(PackingRun._fields))
            ]
            memory = statistics.median(ours.memory for ours, _ in pairs)
            cells = [archive_format, *(f"{ratio:.2f}" for ratio in ratios), f"{memory:.0f}"]
            print(f"| {' | '.join(cells)} |", flush=True)


def _write_sources(folder: Path, mebibytes: int) -> None:
    """Write a handler and weights: random mantissas, and exponents that repeat."""
    for name in ("tmp", "export"):
        (folder / name).mkdir()
    (folder / "handler.py").write_text("def handle(data, context): ...\n")
    with (folder / "weights.pt").open("wb") as weights:
        for _ in range(mebibytes):
            chunk = bytearray(os.urandom(_CHUNK))
            chunk[3::4] = b"\x3d" * (_CHUNK // 4)
            weights.write(chunk)


def _pack(folder: Path, archive_format: str, archiver: Path | None = None) -> PackingRun:
    program = [str(archiver)] if archiver else [sys.executable, "-m", "fnbuild"]
    command = [*program, *([] if archiver else ["package", "torchserve"])]
    command += ["--model-name", "m", "--version", "1", "--handler", str(folder / "handler.py")]
    command += [
        "--serialized-file",
        str(folder / "weights.pt"),
        "--export-path",
        str(folder / "export"),
    ]
    command += ["--archive-format", archive_format, "--force"]
    # torch-model-archiver copies the files to its temporary folder first.
    environment = {**os.environ, "TMPDIR": str(folder / "tmp")}
    os.sync()
    began = time.monotonic()
    with (folder / "output").open("wb") as output:
        actions = [(os.POSIX_SPAWN_DUP2, output.fileno(), number) for number in (1, 2)]
        pid = os.posix_spawn(command[0], command, environment, file_actions=actions)
        _, status, usage = os.wait4(pid, 0)
    wall = time.monotonic() - began
    assert status == 0, (folder / "output").read_text()
    return PackingRun(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


if __name__ == "__main__":
    main(sys.argv[1:])
