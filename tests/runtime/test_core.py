"""What every interpreter must do: the same handler, the same behaviour, on each release."""

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


def line(text: str) -> int:
    """The number of the handler's line that begins with the text."""
    lines = [one.strip() for one in HANDLER.splitlines()]
    return 1 + next(n for n, one in enumerate(lines) if one.startswith(text))


@pytest.fixture(scope="module", params=interpreters.every(interpreters.PYPY))
def version(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def one(serve_module: Any, version: str) -> Any:
    files = {"sibling.py": 'NAME = "beside"'}
    environ = dict.fromkeys(["LC_ALL", "LC_CTYPE", "LANG", "PYTHONIOENCODING"], "")
    return serve_module(
        HANDLER, environ=environ, version=version, workers=2, event_timeout=1.0, files=files
    )


def test_it_runs_on_the_interpreter(one: Any, version: str) -> None:
    assert one.send(path="/python").body.decode() == version.removeprefix("pypy")


def test_bytes_come_back_as_they_were(one: Any) -> None:
    body = bytes(range(256)) * 1000
    answer = one.send(body, content_type="image/jpeg")
    assert (answer.status, answer.body) == (201, body)
    assert answer.header("content-type") == "application/octet-stream"
    assert int(answer.header("x-count")) > 0


def test_large_bodies(one: Any) -> None:
    body = b"x" * 4_000_000
    assert one.send(body).body == body


def test_json_is_parsed_and_written(one: Any) -> None:
    reply = one.call({"image": "ü", "n": 1.5}, "/json")
    assert reply["body"] == {"image": "ü", "n": 1.5}
    assert reply["sibling"] == "beside"


def test_coroutines_are_awaited(one: Any) -> None:
    assert one.send(path="/async").body == b"later"


def test_an_exception_is_told_and_logged(one: Any) -> None:
    answer = one.send(path="/raise", x_request_id="r-17")
    assert answer.status == 500
    assert answer.header("content-type") == "text/plain"
    text = answer.body.decode()
    assert text.startswith('Exception caught in handler - "no such label: cat": ')
    assert text.endswith(f"ValueError: no such label: cat (main.py:{line('raise')}, in handler)")
    record = one.await_record("Traceback", request_id="r-17")
    assert record["level"] == "error"
    assert 'raise ValueError("no such label: cat")' in record["message"]
    assert "fnbuild" not in record["message"]


def test_prints_and_records_are_logged(one: Any) -> None:
    one.send(path="/print", x_request_id="p-1")
    assert one.await_record("seen by people")["name"] == "stdout"
    assert one.await_record("seen too")["name"] == "stderr"
    record = one.await_record("3 boxes")
    assert (record["level"], record["request_id"]) == ("warn", "p-1")
    loaded = one.await_record("model loaded")
    assert (loaded["level"], loaded["size"]) == ("info", 3)


def test_any_text_can_be_printed(one: Any) -> None:
    assert one.send(path="/unicode").body == "ü".encode()
    one.await_record("ümläut \\ud800", name="stdout")


def test_a_worker_that_ends_costs_its_own_event(one: Any) -> None:
    answer = one.send(path="/die")
    assert answer.status == 500
    assert "exit code 3" in json.loads(answer.body)["error"]
    assert one.send(b"still here").body == b"still here"
    one.await_state("ready")


def test_an_event_that_takes_too_long(one: Any, version: str) -> None:
    began = time.monotonic()
    answer = one.send(path="/sleep")
    assert answer.status == 408
    assert "eventTimeout" in json.loads(answer.body)["error"]
    assert 0.9 < time.monotonic() - began < 30
    record = one.await_record("eventTimeout")
    # PyPy tells where the function begins.
    place = line("def handler" if version.startswith("pypy") else "time.sleep")
    assert f'main.py", line {place} in handler' in record["message"]
    assert one.send(b"still here").body == b"still here"


def test_new_code_keeps_user_data(one: Any) -> None:
    one.await_workers("ready", "ready")
    one.write(HANDLER.replace('return "', 'return "new ').replace("= 0", "= -1000"))
    answer = one.tell("/reload")
    assert json.loads(answer.body) == {"ok": True, "workers": {"0": "ok", "1": "ok"}}
    assert one.send(path="/python").body.startswith(b"new ")
    assert one.call(None, "/json")["count"] > 0
