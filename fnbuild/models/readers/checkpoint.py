"""Export checkpoints of Ultralytics to ONNX, in an environment of its own."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from fnbuild.builder import environment, interpreter, requirements, torch_index
from fnbuild.errors import BuildError, InputError
from fnbuild.function.types import Function
from fnbuild.progress import Progress

# Ultralytics installs nothing itself: what the export needs is here.
_PACKAGES = "ultralytics>=8.3,<9\nonnx>=1.17,<2\nonnxslim>=0.1,<1\nonnxruntime>=1.20,<2\n"
_TIMEOUT_SECONDS = 900.0
_PROGRAM = """
import sys
from ultralytics import YOLO
print(YOLO(sys.argv[1]).export(format="onnx", dynamic=True))
"""


def export_checkpoint(path: Path, progress: Progress) -> bytes:
    """Return the ONNX file of a checkpoint, for images of any size and number.

    The checkpoint is a pickle, whose code runs. Raises `InputError` or `BuildError`.
    """
    with tempfile.TemporaryDirectory(prefix="fnbuild-") as name:
        folder = Path(name)
        (folder / "requirements.txt").write_text(_PACKAGES)
        python = _environment(folder, progress)
        progress(f"exporting {path} to ONNX with Ultralytics")
        return run_export(python, path, folder)


def _environment(folder: Path, progress: Progress) -> str:
    function = Function()
    chosen = interpreter.choose_interpreter(function)
    required = requirements.collect_requirements(function, folder)
    required = torch_index.prefer_cpu_builds(required, function)
    return str(environment.ensure_environment(chosen, required, progress) or chosen.path)


def run_export(python: str, path: Path, folder: Path) -> bytes:
    """Export a checkpoint with an interpreter that has Ultralytics, in an empty folder."""
    # The export is written beside the checkpoint.
    copy = folder / f"{path.stem}.pt"
    copy.write_bytes(path.read_bytes())
    variables = {**os.environ, "YOLO_CONFIG_DIR": str(folder), "YOLO_AUTOINSTALL": "false"}
    try:
        done = subprocess.run(
            [python, "-c", _PROGRAM, str(copy)],
            cwd=folder,
            env=variables,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"cannot export {path} with {python}: {error}") from None
    exported = copy.with_suffix(".onnx")
    if done.returncode != 0 or not exported.is_file():
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise InputError(
            f"Ultralytics cannot export {path}: {lines[-1] if lines else 'it gave no reason'}",
            hint="export it where it was trained, and name the file: `yolo export format=onnx`",
        )
    return exported.read_bytes()
