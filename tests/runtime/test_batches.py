"""Batches of the http trigger: several requests, one call, a reply for each."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from fnbuild.runtime.worker.responses import NO_RESPONSE, ReplyError, match_responses
from tests.runtime import interpreters
from tests.runtime.conftest import Answer

pytestmark = pytest.mark.system

HANDLER = """
import os
import time


def handler(context, events):
    assert isinstance(events, list)
    context.logger.info_with("called", count=len(events))
    what = events[0].path.strip("/")
    if what == "raise":
        raise ValueError("no such label: cat")
    if what == "die":
        os._exit(3)
    if what == "hang":
        time.sleep(60)
    if what == "plain":
        return [{"said": event.body.decode(), "count": len(events)} for event in events]
    if what == "one":
        return {"boxes": []}
    if what == "short":
        return ["only one"]
    found = []
    # Their order does not matter.
    for event in reversed(events):
        text = event.body.decode()
        if text == "forget":
            continue
        response = context.Response(
            body=text + " of %d" % len(events), headers={"x-mark": text}, status_code=201,
            content_type="text/x-mark",
        )
        response.event_id = event.id
        if text == "wrong":
            response.status_code = 7000
        found.append(response)
    return found
"""


def send_concurrently(
    processor: Any, *bodies: str, path: str = "/", **headers: str
) -> list[Answer]:
    """Return the replies to requests sent at the same time, in the order of the bodies."""
    with ThreadPoolExecutor(len(bodies)) as pool:
        return list(pool.map(lambda body: processor.send(body, path, **headers), bodies))


def batch(size: int, timeout: float = 15.0) -> dict[str, Any]:
    return {"batch": {"size": size, "timeout": timeout}}


@pytest.fixture(params=interpreters.every())
def version(request: pytest.FixtureRequest) -> str:
    return request.param


def test_a_full_batch_is_sent_at_once(serve: Any, version: str) -> None:
    processor = serve(HANDLER, version=version, trigger=batch(3))
    answers = send_concurrently(processor, "a", "b", "c")
    assert [answer.body for answer in answers] == [b"a of 3", b"b of 3", b"c of 3"]
    assert {answer.status for answer in answers} == {201}
    assert [answer.header("x-mark") for answer in answers] == ["a", "b", "c"]
    assert answers[0].header("content-type") == "text/x-mark"
    assert len({answer.header("x-request-id") for answer in answers}) == 3
    assert answers[0].header("server-timing")
    (record,) = processor.records(message="called")
    assert record["count"] == 3


def test_an_incomplete_batch_is_sent_after_the_timeout(serve: Any) -> None:
    processor = serve(HANDLER, trigger=batch(10, 0.05))
    assert processor.send("alone").body == b"alone of 1"
    assert processor.send(path="/__internal/health").status == 200


def test_large_bodies(serve: Any) -> None:
    processor = serve(HANDLER, trigger=batch(2))
    a, b = "a" * 600_000, "b" * 300_000
    headers = {"path": "/plain"}
    answers = send_concurrently(processor, a, b, **headers)
    assert [json.loads(answer.body)["said"] for answer in answers] == [a, b]


def test_a_missing_or_invalid_reply_does_not_affect_the_others(serve: Any) -> None:
    processor = serve(HANDLER, trigger=batch(3))
    good, missing, wrong = send_concurrently(processor, "good", "forget", "wrong")
    assert (good.status, good.body) == (201, b"good of 3")
    assert missing.status == wrong.status == 500
    assert b"no response with this event's id" in missing.body
    assert b"not between 200 and 599" in wrong.body


def test_a_list_without_ids_is_read_by_position(serve: Any) -> None:
    processor = serve(HANDLER, trigger=batch(2))
    answers = send_concurrently(processor, "a", "b", path="/plain")
    values = [json.loads(answer.body) for answer in answers]
    assert values == [{"said": "a", "count": 2}, {"said": "b", "count": 2}]


ERRORS = """
class Unreadable(Exception):
    reply_status = 415


def handler(context, events):
    if events[0].path == "/yield":
        return yielded(context, events)
    return [respond(event.body.decode()) for event in events]


def respond(text):
    try:
        if text == "unreadable":
            raise Unreadable("not a JPEG")
        return {"length": len(text), "share": 1 / len(text)}
    except Exception as error:
        return error


def yielded(context, events):
    for event in sorted(events, key=lambda event: event.body):
        if event.body == b"c":
            raise ValueError("no such label")
        yield context.Response(body=event.body, event_id=event.id)
"""


def test_an_exception_in_place_of_a_response_concerns_its_event_only(serve: Any) -> None:
    processor = serve(ERRORS, trigger=batch(3))
    good, unreadable, empty = send_concurrently(processor, "good", "unreadable", "")
    assert json.loads(good.body) == {"length": 4, "share": 0.25}
    assert (unreadable.status, json.loads(unreadable.body)) == (415, {"error": "not a JPEG"})
    assert (empty.status, empty.header("content-type")) == (500, "text/plain")
    assert b"ZeroDivisionError: division by zero (main.py:1" in empty.body
    (record,) = processor.records(level="error")
    assert "Traceback" in record["message"]


def test_responses_before_an_exception_are_sent(serve: Any) -> None:
    processor = serve(ERRORS, trigger=batch(2))
    before, after = send_concurrently(processor, "b", "c", path="/yield")
    assert (before.status, before.body) == (200, b"b")
    assert after.status == 500
    assert b"no such label" in after.body


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/raise", b"no such label: cat"),
        ("/one", b"for a batch of 2 events the handler returned a dict, not a list"),
        ("/short", b"a list of 1 without event_id"),
        ("/die", b"exit code 3"),
    ],
)
def test_failures_reach_every_client(serve: Any, path: str, message: bytes) -> None:
    processor = serve(HANDLER, trigger=batch(2))
    for answer in send_concurrently(processor, "a", "b", path=path):
        assert answer.status == 500
        assert message in answer.body


def test_a_batch_beyond_the_timeout(serve: Any) -> None:
    processor = serve(HANDLER, trigger=batch(2), event_timeout=0.5)
    assert [answer.status for answer in send_concurrently(processor, "a", "b", path="/hang")] == [
        408,
        408,
    ]
    processor.await_workers("ready")
    assert [answer.status for answer in send_concurrently(processor, "a", "b")] == [201, 201]


def test_logs_are_sent_to_every_client_that_requested_them(serve: Any) -> None:
    processor = serve(HANDLER, trigger=batch(2))
    for answer in send_concurrently(processor, "a", "b", x_nuclio_log_level="info"):
        (record,) = json.loads(answer.header("x-nuclio-logs") or "[]")
        assert (record["message"], record["count"]) == ("called", 2)


def test_no_worker_before_the_timeout(serve: Any) -> None:
    trigger = {**batch(2), "availability_timeout_ms": 300}
    processor = serve(HANDLER, trigger=trigger)
    with ThreadPoolExecutor(4) as pool:
        busy = [pool.submit(processor.send, "x", "/hang") for _ in range(2)]
        processor.await_workers("busy")
        answers = send_concurrently(processor, "a", "b")
        assert [answer.status for answer in answers] == [503, 503]
        assert b"all 1 workers were busy" in answers[0].body
        processor.process.kill()
        assert all(future.exception() for future in busy)


def test_surplus_replies_are_ignored() -> None:
    class Response:
        def __init__(self, event_id: str) -> None:
            self.event_id = event_id

    valid, unknown = Response("1"), Response("9")
    assert match_responses(["1", "2"], [unknown, valid, "no id"]) == [
        valid,
        NO_RESPONSE,
    ]
    assert match_responses(["1"], ("text",)) == ["text"]
    with pytest.raises(ReplyError, match="a list of 0"):
        match_responses(["1"], [])
