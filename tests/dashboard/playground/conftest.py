"""A dashboard with functions of the library and of every kind for the playground."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser

from tests.dashboard.conftest import (
    Dashboard,
    end_functions,
    new_data_dir,
    running,
    write_function,
)
from tests.dashboard.page.browsing import opened
from tests.dashboard.page.conftest import browser  # noqa: F401  (a fixture)
from tests.dashboard.playground.playground_page import Playground

LIBRARY = Path(__file__).resolve().parents[3] / "functions"
OWN = Path(__file__).parent / "functions"


@pytest.fixture(scope="session")
def gallery(tmp_path_factory: pytest.TempPathFactory, fetched: Path) -> Iterator[Dashboard]:
    """A separate dashboard without the functions of other tests."""
    home = tmp_path_factory.mktemp("gallery")
    place = new_data_dir(home, fetched)
    with running(place, "--show", "process") as running_dashboard:
        running_dashboard.deploy(OWN / "every-shape")
        running_dashboard.deploy(OWN / "faults")
        running_dashboard.deploy(write_function(home, "plain"))
        for name in ("face-haar", "grabcut", "optical-flow"):
            running_dashboard.deploy(LIBRARY / "opencv" / name)
        running_dashboard.cli("init", str(home / "again"), "--kind", "reid")
        running_dashboard.deploy(home / "again")
        grabcut = str(LIBRARY / "opencv" / "grabcut")
        running_dashboard.cli(
            "deploy", "grabcut-rows", "--path", grabcut, "--env", "MASK_FORMAT=rows"
        )
        yield running_dashboard
    end_functions(place)


Play = Callable[..., Playground]


@pytest.fixture
def play(browser: Browser, gallery: Dashboard) -> Iterator[Play]:  # noqa: F811
    """Open the playground of a function; keywords are those of the browser context."""
    with ExitStack() as pages:

        def play_with(name: str, **options: Any) -> Playground:
            at = f"/functions/{name}/playground"
            page = pages.enter_context(opened(browser, gallery, signed_in=False, at=at, **options))
            return Playground(page, name)

        yield play_with


@pytest.fixture(scope="session")
def scenery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A grey image of 400 x 300: every other colour was drawn by the page."""
    path = tmp_path_factory.mktemp("scenery") / "grey.png"
    Image.new("RGB", (400, 300), (90, 90, 90)).save(path)
    return path
