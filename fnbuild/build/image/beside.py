"""Base images whose Dockerfile lies beside the function, as in CVAT's folder of functions.

Its script (serverless/deploy_cpu.sh) builds `a/b/nuclio/Dockerfile` as `cvat.a.b.base`, and the one
that several stand on, `openvino/base/Dockerfile`, as `cvat.openvino.base`. The functions name these
images as their base images.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from fnbuild.build.image.engine import BuildRequest, Engine, Progress
from fnbuild.spec.types import Function

_NAME = re.compile(r"cvat\.(?P<place>.+)\.base(?::latest)?")
_FROM = re.compile(r"^\s*FROM\s+(?:--\S+\s+)*(\S+)", re.IGNORECASE | re.MULTILINE)
_FILE = "Dockerfile"


@dataclass(slots=True)
class Bases:
    """The base images of many functions; each is built once, one at a time."""

    engine: Engine
    _built: set[Path] = field(default_factory=set)
    _building: Lock = field(default_factory=Lock)

    def make(self, function: Function, folder: Path, progress: Progress) -> None:
        """Build what the function stands on, when that lies beside it. Raises `BuildError`."""
        image = function.spec.build.base_image
        root = _root(image, folder.resolve())
        if root is not None and (folder / _FILE).is_file():
            with self._building:
                self._make(image, folder.resolve(), root, progress)

    def _make(self, image: str, folder: Path, root: Path, progress: Progress) -> None:
        if folder in self._built:
            return
        file = folder / _FILE
        for below in _FROM.findall(file.read_text(errors="replace")):
            shared = _shared(below, root)
            if shared is not None:
                self._make(below, shared, root, progress)
        progress(f"building the base image {image}")
        self.engine.build(BuildRequest(folder, file, (image,)), progress)
        self._built.add(folder)


def _root(image: str, folder: Path) -> Path | None:
    """The folder from which the name counts; None when it is not the name of this folder's."""
    found = _NAME.fullmatch(image)
    if found is None:
        return None
    above = folder.parent
    for root in above.parents:
        if ".".join(above.relative_to(root).parts) == found["place"]:
            return root
    return None


def _shared(image: str, root: Path) -> Path | None:
    """The folder of an image that others stand on; None when it is none of these."""
    found = _NAME.fullmatch(image)
    if found is None:
        return None
    folder = root.joinpath(*found["place"].split("."), "base")
    return folder if (folder / _FILE).is_file() else None
