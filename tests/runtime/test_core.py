"""The same handler behaves in the same way on every interpreter."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tests.runtime import interpreters

HANDLER = """
import os
import sys
import time

import sibling


def init_context(context):
    context.user_data.count = 0
    context.logger.info_with("model loaded", size=3)


def handler(context, event):
    context.user_data.count += 1
    what = event.path.strip("/")
    if what == "unicode":
        print("\\u00fcml\\u00e4ut \\ud800")
        return open("sibling.py").read() and "\\u00fc"
    if what == "json":
        return {"body": event.body, "count": context.user_data.count, "sibling": sibling.NAME}
    if what == "python":
        return "%d.%d" % sys.version_info[:2]
    if what == "raise":
        raise ValueError("no such label: cat")
    if what == "print":
        print("seen by people")
        sys.stderr.write("seen too\\n")
        context.logger.warn("%d boxes", 3)
        return ""
    if what == "die":
        os._exit(3)
    if what == "sleep":
        time.sleep(60)
    if what == "async":
        return answer_later()
    return context.Response(
        body=event.body,
        headers={"X-Count": context.user_data.count},
        content_type="application/octet-stream",
        status_code=201,
    )


async def answer_later():
    import asyncio

    await asyncio.sleep(0)
    return "later"
"""


def line_number(text: str) -> int:
    """The number of the handler's line that begins with the text."""
    lines = [line.strip() for line in HANDLER.splitlines()]
    return 1 + next(n for n, line in enumerate(lines) if line.startswith(text))


@pytest.fixture(scope="module", params=interpreters.every(interpreters.PYPY))
def version(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def processor(serve_module: Any, version: str) -> Any:
    files = {"sibling.py": 'NAME = "beside"'}
    environ = dict.fromkeys(["LC_ALL", "LC_CTYPE", "LANG", "PYTHONIOENCODING"], "")
    return serve_module(
        HANDLER, environ=environ, version=version, workers=2, event_timeout=1.0, files=files
    )


def test_the_worker_runs_on_the_interpreter(processor: Any, version: str) -> None:
    assert processor.send(path="/python").body.decode() == version.removeprefix("pypy")


def test_bytes_are_returned_unchanged(processor: Any) -> None:
    body = bytes(range(256)) * 1000
    answer = processor.send(body, content_type="image/jpeg")
    assert (answer.status, answer.body) == (201, body)
    assert answer.header("content-type") == "application/octet-stream"
    assert int(answer.header("x-count")) > 0


def test_large_bodies(processor: Any) -> None:
    body = b"x" * 4_000_000
    assert processor.send(body).body == body


def test_json_is_parsed_and_written(processor: Any) -> None:
    reply = processor.call({"image": "ü", "n": 1.5}, "/json")
    assert reply["body"] == {"image": "ü", "n": 1.5}
    assert reply["sibling"] == "beside"


def test_coroutines_are_awaited(processor: Any) -> None:
    assert processor.send(path="/async").body == b"later"


def test_an_exception_is_returned_and_logged(processor: Any) -> None:
    answer = processor.send(path="/raise", x_request_id="r-17")
    assert answer.status == 500
    assert answer.header("content-type") == "text/plain"
    text = answer.body.decode()
    assert text.startswith('Exception caught in handler - "no such label: cat": ')
    assert text.endswith(
        f"ValueError: no such label: cat (main.py:{line_number('raise')}, in handler)"
    )
    record = processor.await_record("Traceback", request_id="r-17")
    assert record["level"] == "error"
    assert 'raise ValueError("no such label: cat")' in record["message"]
    assert "fnbuild" not in record["message"]


def test_prints_and_records_are_logged(processor: Any) -> None:
    processor.send(path="/print", x_request_id="p-1")
    assert processor.await_record("seen by people")["name"] == "stdout"
    assert processor.await_record("seen too")["name"] == "stderr"
    record = processor.await_record("3 boxes")
    assert (record["level"], record["request_id"]) == ("warn", "p-1")
    loaded = processor.await_record("model loaded")
    assert (loaded["level"], loaded["size"]) == ("info", 3)


def test_any_text_can_be_printed(processor: Any) -> None:
    assert processor.send(path="/unicode").body == "ü".encode()
    processor.await_record("ümläut \\ud800", name="stdout")


def test_a_worker_that_ends_fails_only_its_own_event(processor: Any) -> None:
    answer = processor.send(path="/die")
    assert answer.status == 500
    assert "exit code 3" in json.loads(answer.body)["error"]
    assert processor.send(b"still here").body == b"still here"
    processor.await_state("ready")


def test_an_event_beyond_the_timeout(processor: Any, version: str) -> None:
    began = time.monotonic()
    answer = processor.send(path="/sleep")
    assert answer.status == 408
    assert "eventTimeout" in json.loads(answer.body)["error"]
    assert 0.9 < time.monotonic() - began < 30
    record = processor.await_record("eventTimeout")
    # PyPy reports the first line of the function.
    place = line_number("def handler" if version.startswith("pypy") else "time.sleep")
    assert f'main.py", line {place} in handler' in record["message"]
    assert processor.send(b"still here").body == b"still here"


def test_new_code_keeps_user_data(processor: Any) -> None:
    processor.await_workers("ready", "ready")
    processor.write(HANDLER.replace('return "', 'return "new ').replace("= 0", "= -1000"))
    answer = processor.tell("/reload")
    assert json.loads(answer.body) == {"ok": True, "workers": {"0": "ok", "1": "ok"}}
    assert processor.send(path="/python").body.startswith(b"new ")
    assert processor.call(None, "/json")["count"] > 0
