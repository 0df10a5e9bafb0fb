"""The event and the environment of the handler."""

from __future__ import annotations

import json
import os
import socket
import sys
from typing import Any

import pytest

from fnbuild.runtime.worker import events

HANDLER = """
import os
import sys
import threading

import nuclio_sdk


def init_context(context):
    context.user_data.init = {
        "worker_id": context.worker_id,
        "kind": context.trigger.kind,
        "name": context.trigger.name,
        "platform": context.platform.kind,
        "namespace": context.platform.namespace,
        "response": context.Response is nuclio_sdk.Response,
        "real": type(context) is nuclio_sdk.Context,
    }


def handler(context, event):
    what = event.path.strip("/")
    if what == "context":
        return context.user_data.init
    if what == "world":
        return {
            "cwd": os.getcwd(),
            "path": sys.path,
            "argv": len(sys.argv),
            "env": dict(os.environ),
            "modules": sorted(m for m in sys.modules if m.startswith("fnbuild")),
            "threads": threading.active_count(),
        }
    if what == "repr":
        return repr(event)
    if what == "set":
        event.body = {"mine": 1}
        return event.body
    return {
        "body": event.body.decode("latin-1") if isinstance(event.body, bytes) else event.body,
        "kind": type(event.body).__name__,
        "event": isinstance(event, nuclio_sdk.Event),
        "headers": event.headers,
        "missing": event.get_header("x-none"),
        "found": event.get_header("X-CUSTOM"),
        "fields": event.fields,
        "path": event.path,
        "url": event.url,
        "method": event.method,
        "size": event.size,
        "id": event.id,
        "content_type": event.content_type,
        "timestamp": [event.timestamp.microsecond, event.timestamp.tzinfo],
        "trigger": [event.trigger.kind, event.trigger.name],
    }
"""


@pytest.fixture(scope="module")
def processor(serve_module: Any) -> Any:
    return serve_module(HANDLER, env={"PYTHONPATH": "/opt/nuclio/extra:/nowhere", "MINE": "1"})


def ask(processor: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
    return json.loads(processor.send(*args, **kwargs).body)


def test_the_context(processor: Any) -> None:
    assert ask(processor, path="/context") == {
        "worker_id": "0",
        "kind": "http",
        "name": "http",
        "platform": "local",
        "namespace": "nuclio",
        "response": True,
        "real": True,
    }


def test_attributes(processor: Any) -> None:
    seen = ask(processor, b"12345", path="/a//b/../c%20d?x=1&y=a+b&x=2&flag", x_custom="hi")
    assert seen["event"] is True
    assert (seen["path"], seen["method"], seen["size"]) == ("/a/c d", "POST", 5)
    assert seen["url"] == "/a//b/../c%20d?x=1&y=a+b&x=2&flag"
    assert seen["fields"] == {"x": "2", "y": "a b", "flag": ""}
    assert (seen["found"], seen["missing"]) == ("hi", None)
    assert seen["headers"]["X-Custom"] == "hi"
    assert seen["trigger"] == ["http", "http"]
    assert seen["timestamp"] == [0, None]
    assert len(seen["id"]) == 36
    assert seen["id"][14] == "4"
    assert seen["id"] != ask(processor)["id"]


@pytest.mark.parametrize(
    "content_type", ["application/json", "application/json; charset=utf-8", "Application/JSON"]
)
def test_json_bodies_are_parsed(processor: Any, content_type: str) -> None:
    assert ask(processor, b'{"a": 1}', content_type=content_type)["body"] == {"a": 1}


@pytest.mark.parametrize("content_type", ["text/plain", "application/jsonlines", "image/png"])
def test_other_bodies_stay_bytes(processor: Any, content_type: str) -> None:
    seen = ask(processor, b'{"a": 1}', content_type=content_type)
    assert (seen["kind"], seen["body"]) == ("bytes", '{"a": 1}')


def test_invalid_json_stays_bytes_with_a_log_record(processor: Any) -> None:
    seen = ask(processor, b'{"a": ', content_type="application/json")
    assert (seen["kind"], seen["body"]) == ("bytes", '{"a": ')
    processor.await_record("The body should be JSON but is not", name="stderr")


def test_the_whole_event_as_json(processor: Any) -> None:
    seen = ask(processor, b'{"a": 1}', path="/repr", content_type="application/json")
    assert seen["body"] == {"a": 1}
    assert seen["headers"]["Content-Type"] == "application/json"


def test_the_body_can_be_replaced(processor: Any) -> None:
    assert ask(processor, b"old", path="/set") == {"mine": 1}


def test_events_of_equal_requests_share_nothing(serve: Any) -> None:
    """The common attributes of equal requests are computed once nevertheless."""
    server = serve("""
def handler(context, event):
    seen = [event.path, len(event.headers), len(event.fields), event.size]
    own = sorted(vars(event))
    event.headers["X-Mine"] = "1"
    event.fields["mine"] = 1
    event.path = "/moved"
    return {"seen": seen, "own": own, "id": event.id}
""")
    answers = [ask(server, b"xyz", path="/there?a=1") for _ in range(3)]
    assert len({answer["id"] for answer in answers}) == 3
    assert answers[0]["seen"] == answers[1]["seen"] == answers[2]["seen"]
    assert answers[0]["own"] == answers[1]["own"] == answers[2]["own"]
    assert ask(server, b"longer", path="/there?a=1")["seen"][-1] == 6


def test_the_environment_of_the_handler(processor: Any) -> None:
    world = ask(processor, path="/world")
    code = str(processor.code)
    assert world["cwd"] == code
    assert world["path"][0] == code
    assert "/opt/nuclio/extra" in world["path"]
    assert world["path"][-1].endswith(os.path.join("sdk", world["path"][-1].rpartition("/")[2]))
    own = os.path.dirname(os.path.dirname(os.path.abspath(events.__file__)))
    assert not [path for path in world["path"] if path.startswith(own)]
    assert world["threads"] == 1
    env = world["env"]
    assert env["NUCLIO_FUNCTION_NAME"] == "under-test"
    assert env["NUCLIO_FUNCTION_HANDLER"] == env["NUCLIO_HANDLER"] == "main:handler"
    assert env["NUCLIO_FUNCTION_VERSION"] == "latest"
    assert env["NUCLIO_FUNCTION_INSTANCE"] == socket.gethostname()
    assert env["NUCLIO_FUNCTION_DESCRIPTION"] == ""
    assert env["MINE"] == "1"
    assert env["OMP_NUM_THREADS"] == str(len(os.sched_getaffinity(0)))
    assert env["PYTHONPATH"].split(":")[0] == code


def test_thread_settings_of_the_function_are_kept(serve: Any) -> None:
    processor = serve(HANDLER, env={"OMP_NUM_THREADS": "3"}, workers=2)
    env = ask(processor, path="/world")["env"]
    assert env["OMP_NUM_THREADS"] == "3"
    assert env["MKL_NUM_THREADS"] == str(max(1, len(os.sched_getaffinity(0)) // 2))


def test_modules_named_like_those_of_fnbuild_and_python(serve: Any) -> None:
    names = ["wire", "worker", "config", "loader", "events", "logs", "processor", "pool", "mount"]
    handler = "".join(f"import {name}\n" for name in names)
    handler += "import json\nfrom http.client import OK\n\n"
    handler += "def handler(context, event):\n"
    handler += f"    return [m.MINE for m in [{', '.join(names)}]]\n"
    files = {f"{name}.py": f'MINE = "{name}"\n' for name in names}
    files["http.py"] = handler
    processor = serve("", handler="http:handler", files=files)
    assert processor.call() == names


def test_handlers_in_submodules_and_hyphenated_files(serve: Any) -> None:
    source = "from . import part\ndef run(context, event):\n    return part.NAME\n"
    files = {"sub/deep/mod.py": source, "sub/deep/part.py": 'NAME = "part"\n'}
    assert serve("", handler="sub.deep.mod:run", files=files).send().body == b"part"
    files = {"my-handler.py": "def handler(context, event):\n    return 'hyphen'\n"}
    assert serve("", handler="my-handler:handler", files=files).send().body == b"hyphen"


def test_async_init_context_and_background_tasks(serve: Any, soon: Any) -> None:
    processor = serve(
        """
        import asyncio

        async def tick(context):
            while True:
                context.user_data.ticks += 1
                await asyncio.sleep(0.01)

        async def init_context(context):
            context.user_data.ticks = 0
            context.user_data.task = asyncio.ensure_future(tick(context))

        async def handler(context, event):
            return context.user_data.ticks
        """
    )
    soon(lambda: int(processor.send().body) > 5)


def test_handlers_may_use_processes_of_their_own(serve: Any) -> None:
    processor = serve(
        """
        import multiprocessing
        import os
        import sys

        def square(number):
            return number * number

        def handler(context, event):
            if event.path == "/fork":
                child = os.fork()
                if child == 0:
                    return "a copy's reply goes nowhere"
                return os.waitpid(child, 0)[1]
            method = multiprocessing.get_context(event.path.strip("/"))
            with method.Pool(2) as pool:
                return pool.map(square, [1, 2, 3])
        """,
        mount="/opt/nuclio",
    )
    assert processor.call(path="/spawn") == [1, 4, 9]
    assert processor.call(path="/forkserver") == [1, 4, 9]
    assert processor.send(path="/fork").body == b"0"
    assert processor.send(path="/fork").body == b"0"


def test_event_loops_of_the_handler(serve: Any) -> None:
    processor = serve(
        """
        import asyncio

        async def answer(value):
            await asyncio.sleep(0)
            return value

        def handler(context, event):
            if event.path == "/run":
                return asyncio.run(answer("own loop"))
            if event.path == "/close":
                asyncio.get_event_loop().close()
                return "closed"
            return answer("ours")
        """
    )
    for path, reply in [("/run", b"own loop"), ("/", b"ours"), ("/run", b"own loop")] * 2:
        assert processor.send(path=path).body == reply
    processor.send(path="/close")
    assert processor.send().body == b"ours"


def test_canonical_headers_and_paths() -> None:
    pairs = [("x-nuclio-logs", "1"), ("ETAG", "a"), ("etag", "\xc3\xbc"), ("X-Raw", "\xff")]
    assert events.canonical_headers(pairs) == {"X-Nuclio-Logs": "1", "Etag": "ü", "X-Raw": "\xff"}
    paths = {"/": "/", "//": "/", "/a/./b/": "/a/b/", "/../a": "/a", "/a/..": "/", "/.a": "/.a"}
    assert {path: events.normalize_path(path) for path in paths} == paths


def test_workers_do_not_inherit_the_processors_path(serve: Any) -> None:
    from tests.runtime.conftest import ROOT

    processor = serve(HANDLER, environ={"PYTHONPATH": f"{ROOT}{os.pathsep}/elsewhere"})
    world = ask(processor, path="/world")
    assert "/elsewhere" in world["path"]
    assert str(ROOT) not in world["path"] or sys.prefix.startswith(str(ROOT))
