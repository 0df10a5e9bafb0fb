"""The environment of documents about containers: the local engine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fnbuild.builder.image.engine import Engine
from tests import locks
from tests.engine import PYTHON_IMAGE, call, engine_resources, require_engine, require_image

# The base image of the library's functions; the local one has the same content.
_BASE = "python:3.11-slim-bookworm"
# Objects that the document creates under the names that readers use.
_IMAGES = ("face-haar:latest",)
_NETWORK = "fnbuild-docs"


@contextmanager
def containers() -> Iterator[dict[str, str]]:
    """Yield variables for a reader's shell; remove what was created with them."""
    engine = require_engine()
    require_image(engine)
    with locks.exclusive("docs"):
        before = {name: _id(engine, name) for name in (*_IMAGES, _BASE)}
        with engine_resources(engine) as resources:
            try:
                if not before[_BASE]:
                    engine.tag(PYTHON_IMAGE, _BASE)
                yield {"NUCTL_NAMESPACE": resources.name("docs")}
            finally:
                resources.remove()
                call(engine, "network", "rm", _NETWORK)
                for name, image in before.items():
                    _restore(engine, name, image)


def _restore(engine: Engine, name: str, image: str) -> None:
    result = _id(engine, name)
    if result == image:
        return
    call(engine, "rmi", name)
    if image:
        engine.tag(image, name)


def _id(engine: Engine, name: str) -> str:
    result = engine.inspect(name)
    return result.id if result else ""
