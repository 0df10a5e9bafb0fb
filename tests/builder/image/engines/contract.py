"""The contract of engines, independent of how they build and store images.

An engine's own test module imports these tests and provides three fixtures: `engine`, `resources`
(what a test creates in it) and `base` (a small image with a shell).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fnbuild.builder.image.engine import BuildRequest, Engine
from tests.builder.image.engines.build_tests import *  # noqa: F403
from tests.builder.image.engines.image_tests import *  # noqa: F403
from tests.engine import EngineResources

Build = Callable[..., str]


@pytest.fixture
def context(tmp_path: Path) -> Path:
    folder = tmp_path / "context"
    folder.mkdir()
    return folder


@pytest.fixture
def lines() -> list[str]:
    """The progress of the engine."""
    return []


@pytest.fixture
def build(engine: Engine, resources: EngineResources, context: Path, lines: list[str]) -> Build:
    """Build a Dockerfile's text; options are those of `BuildRequest`."""

    def build(text: str, **options: object) -> str:
        file = context / "Dockerfile"
        file.write_text(text)
        request = BuildRequest(context, file, options.pop("tags", ()), **options)  # type: ignore[arg-type]
        return engine.build(request, lines.append)

    return build
