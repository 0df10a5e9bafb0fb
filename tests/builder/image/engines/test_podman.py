"""podman fulfils the contract of engines."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fnbuild.builder.image.engine import Engine
from tests.builder.image.engines.contract import *  # noqa: F403
from tests.engine import Made, making, require_engine, small_base

pytestmark = pytest.mark.system


@pytest.fixture
def engine() -> Engine:
    return require_engine("podman")


@pytest.fixture
def made(engine: Engine) -> Iterator[Made]:
    with making(engine) as made:
        yield made


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with making(require_engine("podman")) as made:
        yield small_base(made, tmp_path_factory.mktemp("base"))
