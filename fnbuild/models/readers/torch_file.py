"""Recognize files of torch without loading them: they are pickles, which run code."""

from __future__ import annotations

import pickletools
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from fnbuild.errors import InputError

# In the first pickle of files that torch wrote before 1.6; the objects are in the fourth.
_OLD_MAGIC = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
_OLD_PARTS = 4
_ULTRALYTICS = "ultralytics."
# Modules of the repositories of YOLOv5, YOLOv7 and YOLOv9, and of YOLOv6.
_REPOSITORIES = ("models.yolo", "models.common", "yolov6.")
# What plain weights consist of.
_PLAIN = ("torch", "collections", "numpy", "_codecs", "builtins", "__builtin__", "pathlib")
_ONNX = "export it to ONNX where its code is, and name that file"
_DAMAGED = (OSError, EOFError, ValueError, zlib.error, zipfile.BadZipFile, RuntimeError)


def is_torchscript(path: Path) -> bool:
    """Return True if a file is an archive of TorchScript, which has code."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False
    has_code = any("/code/" in name for name in names)
    return has_code and any(name.endswith("/constants.pkl") for name in names)


def check_checkpoint(path: Path) -> None:
    """Raise `InputError` unless a file is a checkpoint of Ultralytics, by its classes' modules."""
    try:
        with _open_pickles(path) as (file, count):
            modules = {module for _ in range(count) for module in _modules(file)}
    except _DAMAGED:
        raise InputError(
            f"{path} is neither a checkpoint of Ultralytics nor TorchScript, or it is incomplete",
            hint="copy the whole file, or name an ONNX file",
        ) from None
    if any(module.startswith(_ULTRALYTICS) for module in modules):
        return
    if any(module.startswith(_REPOSITORIES) for module in modules):
        raise InputError(
            f"{path} is a checkpoint of the code of YOLOv5, v6, v7 or v9, which it needs",
            hint="name its ONNX file, which `python export.py --include onnx` writes there",
        )
    others = sorted(m for m in modules if m.partition(".")[0] not in _PLAIN)
    content = f"objects of {others[0]}" if others else "weights alone, without their network"
    raise InputError(f"{path} has {content}: it is no checkpoint of Ultralytics", hint=_ONNX)


@contextmanager
def _open_pickles(path: Path) -> Iterator[tuple[IO[bytes], int]]:
    """Open a file at its objects, and yield the number of their pickles, too."""
    with path.open("rb") as file:
        if _OLD_MAGIC in file.read(32):
            file.seek(0)
            yield file, _OLD_PARTS
            return
        with zipfile.ZipFile(file) as archive:
            names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            if len(names) != 1:
                raise ValueError(names)
            with archive.open(names[0]) as part:
                yield part, 1


def _modules(file: IO[bytes]) -> Iterator[str]:
    """Yield the modules that the next pickle names."""
    for opcode, argument, _ in pickletools.genops(file):
        if not isinstance(argument, str):
            continue
        if opcode.name == "GLOBAL":
            yield argument.partition(" ")[0]
        # Since protocol 4, modules are texts like others.
        elif argument.startswith((_ULTRALYTICS, *_REPOSITORIES)):
            yield argument
