"""The handler's callbacks: at a drain, and at the end of its worker."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest

from tests.runtime import interpreters
from tests.runtime.conftest import PATIENCE

pytestmark = pytest.mark.system

HANDLER = """
import asyncio
import json
import os
import sys
import time


def init_context(context):
    async def drained():
        await asyncio.sleep(0)
        context.logger.info("drained")

    def ended():
        context.logger.info("ended")
        what = os.environ.get("ENDING")
        if what == "raise":
            raise RuntimeError("the model is stuck")
        if what == "hang":
            time.sleep(600)

    context.platform.set_drain_callback(drained)
    context.platform.set_termination_callback(ended)


def handler(context, event):
    time.sleep(float(event.get_header("x-seconds") or 0))
    context.logger.info("answered")
    return "ok"
"""


def reported(processor: Any) -> list[str]:
    events = ("answered", "drained", "ended")
    return [r["message"] for r in processor.records(name="handler") if r["message"] in events]


@pytest.fixture(params=interpreters.every())
def version(request: pytest.FixtureRequest) -> str:
    return request.param


def test_a_drain_calls_both_after_the_running_event(serve: Any, soon: Any, version: str) -> None:
    processor = serve(HANDLER, version=version)
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(processor.send(x_seconds="0.5")))
    thread.start()
    soon(lambda: processor.status()["workers"][0]["state"] == "busy")
    processor.tell("/drain")
    processor.tell("/drain")
    thread.join()
    assert answers[0].body == b"ok"
    assert processor.process.wait(PATIENCE) == 0
    assert reported(processor) == ["answered", "drained", "ended"]


def test_a_stop_is_not_a_drain(serve: Any) -> None:
    processor = serve(HANDLER, workers=2)
    assert processor.end() == 0
    assert reported(processor) == ["ended", "ended"]


def test_a_restart_of_workers_ends_them_first(serve: Any) -> None:
    processor = serve(HANDLER)
    assert json.loads(processor.tell("/reload", {"restart": True}).body)["ok"]
    assert reported(processor) == ["ended"]


def test_a_callback_that_raises_is_logged(serve: Any) -> None:
    processor = serve(HANDLER, env={"ENDING": "raise"})
    assert processor.end() == 0
    processor.await_record("The termination callback failed", name="stderr")
    processor.await_record("the model is stuck", name="stderr")


def test_a_callback_that_hangs_is_ended_by_the_termination_timeout(serve: Any) -> None:
    processor = serve(HANDLER, env={"ENDING": "hang"}, trigger={"termination_timeout": 0.5})
    began = time.monotonic()
    assert processor.end() == 0
    assert 0.4 < time.monotonic() - began < 15
    assert reported(processor) == ["ended"]
