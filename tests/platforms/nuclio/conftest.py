"""A separate Nuclio on this machine for each test, with its dashboard."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fnbuild.deploy import artifacts
from fnbuild.function import reader
from fnbuild.platforms.nuclio import NuclioPlatform
from tests.engine import EngineResources, engine_resources, require_engine, require_image
from tests.platforms.folders import config
from tests.platforms.nuclio.fake_dashboard import serve
from tests.platforms.nuclio.fake_nuclio import Nuclio
from tests.platforms.nuclio.scenario import Scenario

GREETER = """\
import os


def init_context(context):
    context.logger.info("the model is loaded")


def handler(context, event):
    context.logger.info("asked")
    got = event.body or None
    return {{"word": "{word}", "greeting": os.environ.get("GREETING", ""), "got": got}}
"""
CODES = {
    "one": GREETER.format(word="one"),
    "two": GREETER.format(word="two"),
    "broken": "import nowhere_to_be_found\n",
}


@pytest.fixture(scope="session")
def images(fetched: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Images of functions by the word that they answer; the image `broken` cannot start.

    They are kept for the whole test run, as are the layers that they share with other images.
    """
    engine = require_engine()
    require_image(engine)
    with engine_resources(engine) as names, pytest.MonkeyPatch.context() as patch:
        patch.setenv("FNBUILD_DATA_DIR", str(fetched.parent))
        references = {}
        for word, code in CODES.items():
            folder = tmp_path_factory.mktemp(word)
            references[word] = names.image(word, tag="latest")
            (folder / "function.yaml").write_text(
                config("shared", image=references[word].partition(":")[0])
            )
            (folder / "main.py").write_text(code)
            artifacts.build_image(reader.load_function(folder), engine, lambda _: None)
        yield references


@pytest.fixture
def resources(images: dict[str, str]) -> Iterator[EngineResources]:
    with engine_resources(require_engine()) as names:
        yield names


@pytest.fixture
def namespace(resources: EngineResources) -> str:
    return resources.name("ns")


@contextmanager
def dashboard(folder: Path, namespace: str) -> Iterator[Nuclio]:
    """Run a dashboard with its default project; the environment has its URL."""
    nuclio = Nuclio(folder / "nuclio")
    nuclio.create_project({"metadata": {"name": "default", "namespace": namespace}})
    server = serve(nuclio)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("FNBUILD_NUCLIO_URL", f"http://127.0.0.1:{server.server_address[1]}")
            yield nuclio
    finally:
        server.shutdown()
        server.server_close()
        nuclio.end()
    assert nuclio.broken == []


@pytest.fixture
def nuclio(tmp_path: Path, namespace: str) -> Iterator[Nuclio]:
    with dashboard(tmp_path, namespace) as nuclio:
        yield nuclio


@pytest.fixture
def scenario(nuclio: Nuclio, namespace: str, images: dict[str, str], data: Path) -> Scenario:
    return Scenario(NuclioPlatform(), namespace, images, nuclio)


@pytest.fixture
def platform(nuclio: Nuclio, data: Path) -> NuclioPlatform:
    return NuclioPlatform()


@pytest.fixture
def platform_name() -> str:
    return "nuclio"
