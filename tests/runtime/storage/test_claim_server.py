"""The server of a claim on each Python: paths inside its folder, parts and hashes."""

from __future__ import annotations

import hashlib
import http.client
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fnbuild.runtime.storage import claim_server
from tests.engine import free_port, until
from tests.runtime import interpreters

Ask = Callable[..., tuple[int, Any]]

CONTENT = b"weights" * 1000
HASH = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(params=interpreters.few())
def ask(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ask]:
    python = interpreters.find(request.param)
    assert python is not None
    port = free_port()
    source = Path(claim_server.__file__).read_text().replace("PORT = 18080", f"PORT = {port}")
    folder = tmp_path / "claim"
    folder.mkdir()

    def send(method: str, path: str, body: bytes = b"") -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def answers() -> bool:
        try:
            return send("GET", "/files")[0] == 200
        except OSError:
            return False

    with subprocess.Popen([python, "-c", source, f"{folder}/"]) as server:
        try:
            until("an answer", answers)
            yield send
        finally:
            server.kill()


def test_a_file_in_two_parts(ask: Ask, tmp_path: Path) -> None:
    query = "path=a/m.pt"
    assert ask("GET", f"/part?{query}") == (200, 0)
    assert ask("PUT", f"/part?{query}&offset=0", CONTENT[:3000]) == (200, 3000)
    assert ask("PUT", f"/part?{query}&offset=3000", CONTENT[3000:]) == (200, len(CONTENT))
    assert ask("GET", "/files") == (200, [])
    assert ask("POST", f"/complete?{query}&sha256={HASH}") == (200, "")
    assert ask("GET", f"/sha256?{query}") == (200, HASH)
    assert ask("GET", "/files") == (200, [["a/m.pt", len(CONTENT)]])
    assert (tmp_path / "claim" / "a" / "m.pt").read_bytes() == CONTENT


def test_other_content_is_refused(ask: Ask) -> None:
    ask("PUT", "/part?path=m.pt&offset=0", b"other")
    assert ask("POST", f"/complete?path=m.pt&sha256={HASH}")[0] == 409
    assert ask("GET", "/part?path=m.pt") == (200, 0)


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", ".."])
def test_paths_outside_of_the_claim_are_refused(path: str, ask: Ask, tmp_path: Path) -> None:
    assert ask("GET", f"/sha256?path={path}") == (500, "the path leads out of the folder")
    empty = hashlib.sha256(b"").hexdigest()
    assert ask("POST", f"/complete?path={path}&sha256={empty}")[0] == 500
    assert not (tmp_path / "x").exists()
