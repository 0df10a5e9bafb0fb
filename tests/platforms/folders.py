"""The folder of a small function, for platforms that run images."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

_CONFIG = """\
metadata:
  name: {name}
spec:
  handler: main:handler
  runtime: python:3.11
  build:
    image: {image}
    noBaseImagesPull: true
{spec}"""

_CODE = """\
def handler(context, event):
    return "{word}"
"""


def config(name: str, image: str, spec: str = "") -> str:
    """Return the text of a function.yaml; `spec` has additional lines."""
    return _CONFIG.format(name=name, image=image, spec=spec)


class Folders:
    """Functions in folders below `home`; `image` returns the names of their images."""

    def __init__(self, home: Path, image: Callable[[str], str]) -> None:
        self.home = home
        self._image = image

    def write(self, word: str = "hello", *, name: str = "greeter", spec: str = "") -> Path:
        """Write a function that answers every request with the word."""
        return self.write_code(_CODE.format(word=word), name=name, spec=spec)

    def write_code(self, code: str, *, name: str = "greeter", spec: str = "") -> Path:
        folder = self.home / "functions" / name
        folder.mkdir(parents=True, exist_ok=True)
        lines = textwrap.indent(textwrap.dedent(spec).strip(), "  ")
        (folder / "function.yaml").write_text(config(name, self._image(name), lines))
        (folder / "main.py").write_text(textwrap.dedent(code))
        return folder
