"""buildah fulfils the contract of engines."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fnbuild.builder.image.engine import Engine
from tests.builder.image.engines.contract import *  # noqa: F403
from tests.engine import EngineResources, engine_resources, require_engine, small_base

pytestmark = pytest.mark.system


@pytest.fixture
def engine() -> Engine:
    return require_engine("buildah")


@pytest.fixture
def resources(engine: Engine) -> Iterator[EngineResources]:
    with engine_resources(engine) as resources:
        yield resources


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with engine_resources(require_engine("buildah")) as resources:
        yield small_base(resources, tmp_path_factory.mktemp("base"))
