"""Logs of functions through the dashboard."""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fnbuild.platforms import function_log
from tests.dashboard.conftest import Dashboard, Started, write_function
from tests.dashboard.waiting import until

pytestmark = pytest.mark.system

TALKER = """\
def handler(context, event):
    asked = event.body
    for number in range(asked["first"], asked["first"] + asked["count"]):
        getattr(context.logger, asked.get("level", "info"))("line %d" % number)
"""


@pytest.fixture(scope="module")
def talker(dashboard: Dashboard, tmp_path_factory: pytest.TempPathFactory) -> str:
    return dashboard.deploy(write_function(tmp_path_factory.mktemp("functions"), "talker", TALKER))


@pytest.fixture
def folder(dashboard: Dashboard, tmp_path: Path) -> Iterator[Path]:
    """The folder of a function for one test."""
    path = write_function(tmp_path, "chatter", TALKER)
    dashboard.deploy(path)
    yield path
    dashboard.cli("delete", "function", "chatter")


def write_records(
    dashboard: Dashboard, name: str, first: int, count: int, level: str = "info"
) -> None:
    answer = dashboard.request(
        "POST",
        "/api/function_invocations",
        json={"first": first, "count": count, "level": level},
        headers={"X-Nuclio-Function-Name": name},
        token=False,
    )
    assert answer.status == 200, answer.text


def records(dashboard: Dashboard, name: str, query: str = "") -> list[Any]:
    answer = dashboard.request("GET", f"/api/functions/{name}/logs{query}", token=False)
    assert answer.status == 200, answer.text
    reply: list[Any] = answer.json["records"]
    return reply


class LogFollower:
    """A client that follows a log; `text` is what it received."""

    def __init__(self, dashboard: Dashboard, path: str):
        self.text = b""
        self._answer = dashboard.pool.request(
            "GET", dashboard.url + path, preload_content=False, timeout=300
        )
        assert self._answer.status == 200
        self.type = self._answer.headers["Content-Type"]
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with contextlib.suppress(Exception):  # the stream has ended
            while piece := self._answer.read1():
                self.text += piece

    @property
    def records(self) -> list[Any]:
        blocks = self.text[: self.text.rfind(b"\n\n") + 2].split(b"\n\n")
        events = [block.split(b"\n") for block in blocks if block.startswith(b"event: record")]
        return [json.loads(lines[1].removeprefix(b"data: ")) for lines in events]

    @property
    def numbers(self) -> list[int]:
        matches = (re.fullmatch(r"line (\d+)", record["message"]) for record in self.records)
        return [int(number[1]) for number in matches if number]

    def disconnect(self) -> None:
        self._answer.shutdown()
        self._thread.join(10)
        self._answer.close()


@contextlib.contextmanager
def follow_log(dashboard: Dashboard, path: str) -> Iterator[LogFollower]:
    client = LogFollower(dashboard, path)
    try:
        yield client
    finally:
        client.disconnect()


def test_replicas_have_names(dashboard: Dashboard, talker: str) -> None:
    answer = dashboard.request("GET", f"/api/functions/{talker}/replicas", token=False)
    assert answer.json == {"names": [talker]}


def test_records(dashboard: Dashboard, talker: str) -> None:
    write_records(dashboard, talker, 70, 2)
    *_, first, second = records(dashboard, talker)
    assert (first["message"], second["message"]) == ("line 70", "line 71")
    assert (second["level"], second["worker"]) == ("info", "0")
    assert abs(second["time"] - time.time()) < 60
    assert second["fields"]["request_id"]


def test_the_last_records(dashboard: Dashboard, talker: str) -> None:
    write_records(dashboard, talker, 0, 5)
    assert [record["message"] for record in records(dashboard, talker, "?tail=2")] == [
        "line 3",
        "line 4",
    ]
    assert records(dashboard, talker, "?tail=0") == []


def test_since(dashboard: Dashboard, talker: str) -> None:
    write_records(dashboard, talker, 0, 1)
    moment = time.time()
    write_records(dashboard, talker, 1, 1)
    written = datetime.fromtimestamp(moment, UTC).isoformat().replace("+00:00", "Z")
    for since in (str(moment), written):
        recent = records(dashboard, talker, f"?since={since}")
        assert [record["message"] for record in recent] == ["line 1"]
    assert len(records(dashboard, talker, "?since=10m")) > 2


def test_levels(dashboard: Dashboard, talker: str) -> None:
    write_records(dashboard, talker, 5, 1, "debug")
    write_records(dashboard, talker, 6, 1, "error")
    assert {record["level"] for record in records(dashboard, talker, "?level=error")} == {"error"}
    assert "line 5" in [record["message"] for record in records(dashboard, talker, "?level=debug")]
    assert "line 5" not in [
        record["message"] for record in records(dashboard, talker, "?level=info")
    ]


@pytest.mark.parametrize("query", ["tail=-1", "tail=x", "since=yesterday", "level=loud"])
def test_invalid_parameters(dashboard: Dashboard, talker: str, query: str) -> None:
    answer = dashboard.request("GET", f"/api/functions/{talker}/logs?{query}", token=False)
    assert answer.status == 400
    assert query.partition("=")[0] in answer.json["error"]


def test_one_replicas_log_is_text(dashboard: Dashboard, talker: str) -> None:
    write_records(dashboard, talker, 0, 3)
    path = f"/api/functions/{talker}/logs/{talker}?follow=false&tailLines=2"
    answer = dashboard.request("GET", path, token=False)
    assert answer.headers["Content-Type"].startswith("text/plain")
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [record["message"] for record in lines] == ["line 1", "line 2"]
    assert lines[0]["time"] > 1e12


def test_one_replicas_log_is_followed_by_default(dashboard: Dashboard, talker: str) -> None:
    with follow_log(dashboard, f"/api/functions/{talker}/logs/{talker}?tailLines=0") as client:
        write_records(dashboard, talker, 900, 1)
        until(lambda: b"line 900" in client.text, "the line arrives")


@pytest.mark.parametrize("path", ["nobody/logs", "nobody/replicas", "nobody/logs/nobody"])
def test_unknown_functions(dashboard: Dashboard, path: str) -> None:
    assert dashboard.request("GET", f"/api/functions/{path}", token=False).status == 404


def test_unknown_replicas(dashboard: Dashboard, talker: str) -> None:
    answer = dashboard.request("GET", f"/api/functions/{talker}/logs/another", token=False)
    assert answer.status == 404
    assert talker in answer.json["hint"]


def test_no_line_is_lost_or_repeated(dashboard: Dashboard, folder: Path) -> None:
    """1,000 lines, faster than 50 a second, with rotations and a redeploy among them."""
    log = dashboard.data_dir / "functions" / "nuclio" / "chatter" / "log.jsonl"
    path = "/api/functions/chatter/logs?follow=true&tail=0"
    with follow_log(dashboard, path) as first_client, follow_log(dashboard, path) as other:
        assert first_client.type.startswith("text/event-stream")
        redeploy = threading.Thread(target=dashboard.deploy, args=(folder, "--env", "A=1"))
        for first in range(0, 1000, 10):
            if first == 300:
                redeploy.start()
            if first % 250 == 200:
                # Otherwise 16 MB lie between two rotations, and no reader misses both.
                for follower in (first_client, other) if first > 200 else ():
                    until(lambda at=first, seen=follower: at - 250 in seen.numbers, "read")
                function_log.rotate(log, max_size=1)
            write_records(dashboard, "chatter", first, 10)
        redeploy.join()
        for follower in (first_client, other):
            until(lambda seen=follower: 999 in seen.numbers, "the last line arrives")
            assert follower.numbers == list(range(1000))


def test_earlier_records_come_first(dashboard: Dashboard, talker: str) -> None:
    write_records(dashboard, talker, 500, 3)
    with follow_log(dashboard, f"/api/functions/{talker}/logs?follow=true&tail=2") as client:
        write_records(dashboard, talker, 503, 1)
        until(lambda: len(client.numbers) >= 3, "the lines arrive")
        assert client.numbers == [501, 502, 503]


def test_an_incomplete_character_does_not_end_the_stream(
    dashboard: Dashboard, tmp_path: Path
) -> None:
    """A handler may log a lone surrogate, which UTF-8 cannot encode."""
    code = 'def handler(context, event):\n    context.logger.info("odd \\\\ud800 word")\n'
    name = dashboard.deploy(write_function(tmp_path, "odd", code.replace("\\\\", "\\")))
    dashboard.request(
        "POST", "/api/function_invocations", headers={"X-Nuclio-Function-Name": name}, token=False
    )
    assert any(record["message"].startswith("odd ") for record in records(dashboard, name))
    dashboard.cli("delete", "function", name)


def _threads(dashboard: Dashboard) -> int:
    return len(list(Path(f"/proc/{dashboard.process.pid}/task").iterdir()))


def _open(dashboard: Dashboard, name: str) -> int:
    """Return how many times the dashboard has the function's log open."""
    log = str(dashboard.data_dir / "functions" / "nuclio" / name / "log.jsonl")
    count = 0
    for path in Path(f"/proc/{dashboard.process.pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            count += os.readlink(path) == log
    return count


def test_a_client_that_disconnects_leaves_nothing(dashboard: Dashboard, greeter: str) -> None:
    path = f"/api/functions/{greeter}/logs?follow=true&tail=1"
    until(lambda: _open(dashboard, greeter) == 0, "no client follows the log")
    before = _threads(dashboard)
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(follow_log(dashboard, path))
        until(lambda: _open(dashboard, greeter) == 20, "the logs are followed")
        assert _threads(dashboard) >= 20
    # Nothing is written to that log meanwhile.
    until(lambda: _open(dashboard, greeter) == 0, "the logs are closed")
    until(lambda: _threads(dashboard) <= before + 3, "the threads end")


def test_the_number_of_followers_is_limited(started: Started, tmp_path: Path) -> None:
    with started() as dashboard, contextlib.ExitStack() as stack:
        dashboard.deploy(write_function(tmp_path, "quiet"))
        path = "/api/functions/quiet/logs?follow=true"
        for _ in range(100):
            stack.enter_context(follow_log(dashboard, path))
        answer = dashboard.request("GET", path, token=False)
        assert answer.status == 503
        assert "100 logs" in answer.json["error"]
        assert records(dashboard, "quiet")
