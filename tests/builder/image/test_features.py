"""Engines build the golden Dockerfiles, whose last lines check the result."""

import http.server
import threading
from pathlib import Path

import pytest

from tests.builder.image.builders import build, resources

pytestmark = pytest.mark.system

__all__ = ["resources"]

FEATURES = Path(__file__).parent / "features"
# Its base image is in a public registry.
ELSEWHERE = ("bare",)
BUILT = sorted(path.stem for path in FEATURES.glob("*.yaml") if path.stem not in ELSEWHERE)
WEB = "https://models.example.org"


@pytest.fixture
def web(tmp_path):
    """A server of one file, under any query."""
    (tmp_path / "web").mkdir()
    (tmp_path / "web/pose.pth").write_bytes(b"weights")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=tmp_path / "web")

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("name", BUILT)
def test_is_built(resources, name, tmp_path, web):
    source = tmp_path / "function"
    source.mkdir()
    (source / "main.py").write_text("def handler(context, event):\n    return 'ok'\n")
    text = (FEATURES / f"{name}.yaml").read_text().replace(WEB, web)
    (source / "function.yaml").write_text(text)
    facts = resources.engine.inspect(build(resources, source, runtime=False))
    assert facts.command == ("processor",)
    if name == "surroundings":
        assert facts.entrypoint == ("/usr/bin/env", "ENTERED=yes")
        assert (facts.user, facts.workdir) == ("worker", "/opt/nuclio")
