"""The real TorchServe that tests start."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.torchserve_server import archive, running_torchserve

pytestmark = pytest.mark.system

_HANDLER = """\
def handle(data, context):
    if data is None:
        return None
    return [{"model": context.model_name, "body": str(row["body"])} for row in data]
"""


def test_a_server_answers_with_the_models_of_its_store_and_ends(tmp_path: Path) -> None:
    handler = tmp_path / "echo.py"
    handler.write_text(_HANDLER)
    store = tmp_path / "store"
    store.mkdir()
    archive("digits", handler, store)

    with running_torchserve(store, options=()) as server:
        assert server.models() == ["digits"]
        reply = server.predict("digits", b"hello", {"Content-Type": "text/plain"})
        assert reply.json() == {"model": "digits", "body": "hello"}
        assert server.key("API") != server.key("inference")
        assert "Torch worker started" in server.log()

    assert server.process.returncode is not None
    assert not server.folder.exists()
