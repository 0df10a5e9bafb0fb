"""Calls from one function to another on the same machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fnbuild.runtime.worker.connection_provider import LocalConnectionProvider
from tests.runtime import interpreters

pytestmark = pytest.mark.system

CALLEE = """
def handler(context, event):
    if event.path == "/refuse":
        return 418, "a teapot"
    target = event.get_header("x-nuclio-target")
    return {"got": event.body, "method": event.method, "target": target}
"""

CALLER = """
import nuclio_sdk


def handler(context, event):
    if event.path == "/twice":
        return [call(context, "callee") for _ in range(2)]
    return call(context, event.get_header("x-name"), event.path)


def call(context, name, path="/"):
    event = nuclio_sdk.Event(body={"a": 1}, method="PUT", path=path, headers={})
    reply = context.platform.call_function(name, event, timeout=10)
    body = reply.body.decode() if isinstance(reply.body, bytes) else reply.body
    return {"status": reply.status_code, "body": body}
"""


def note(folder: Path, name: str, port: Any, namespace: str = "nuclio", revision: int = 1) -> None:
    """The file that a supervisor writes for a processor that it has started."""
    listeners = {"http": [{"fd": 3, "port": port}]}
    text = json.dumps({"listeners": listeners})
    (folder / f"{namespace}.{name}.{revision}.json").write_text(text)


def port_of(processor: Any) -> int:
    return int(processor.url.rpartition(":")[2])


@pytest.fixture(params=interpreters.every())
def version(request: pytest.FixtureRequest) -> str:
    return request.param


def test_a_call(serve: Any, version: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    callee = serve(CALLEE, version=version)
    caller = serve(CALLER, version=version, neighbours=str(run))
    note(run, "callee", port_of(callee))
    answered = caller.call(x_name="callee")
    got = {"got": {"a": 1}, "method": "PUT", "target": "callee"}
    assert answered == {"status": 200, "body": got}
    assert caller.call(path="/refuse", x_name="callee") == {"status": 418, "body": "a teapot"}
    # Its port has changed.
    other = serve(CALLEE, version=version)
    callee.end()
    note(run, "callee", port_of(other), revision=2)
    assert [reply["status"] for reply in caller.call(path="/twice")] == [200, 200]

    gone = caller.send(x_name="nobody")
    assert gone.status == 500
    assert b'no function "nobody" runs in namespace "nuclio" on this machine' in gone.body


def test_names(tmp_path: Path) -> None:
    note(tmp_path, "a", 1001)
    note(tmp_path, "a", 1002, revision=10)
    note(tmp_path, "a", 1003, revision=9)
    note(tmp_path, "b-c.d", 1004)
    note(tmp_path, "c.d", 1005, namespace="nuclio-b")
    note(tmp_path, "new", 0)
    (tmp_path / "supervisor.lock").write_text("")
    (tmp_path / "nuclio.half.3.json").write_text("{")
    connect = LocalConnectionProvider(str(tmp_path), "nuclio")
    assert connect("nuclio-nuclio-a:8080").port == 1002
    assert connect("nuclio-nuclio-b-c.d:8080", timeout=3).port == 1004
    assert (
        LocalConnectionProvider(str(tmp_path), "nuclio-b")("nuclio-nuclio-b-c.d:8080").port == 1005
    )
    for name in ("half", "new", "x"):
        with pytest.raises(ConnectionError, match=f'no function "{name}"'):
            connect(f"nuclio-nuclio-{name}:8080")
    # A text that is not the name of a function is an ordinary address.
    assert (connect("example:8080").host, connect("example:8080").port) == ("example", 8080)
    assert connect("nuclio-nuclio-a:9090").port == 9090
    assert connect("nuclio-other-a:8080").host == "nuclio-other-a"
