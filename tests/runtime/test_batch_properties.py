"""Random requests in batches: each caller gets its own reply, or an error, and no other's reply."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.runtime.conftest import eventually

pytestmark = pytest.mark.system

HANDLER = """
import json
import os
import random
import time


def handler(context, events):
    orders = [json.loads(event.body.decode()) for event in events]
    kinds = [order["kind"] for order in orders]
    time.sleep(0.002 + 0.001 * len(events))
    if "die" in kinds:
        os._exit(3)
    if "raise" in kinds:
        raise RuntimeError("the call failed")
    if "stop" in kinds:
        return yielded(context, events, orders)
    responses = [respond(context, *pair) for pair in zip(events, orders)]
    responses = [response for response in responses if response is not None]
    random.shuffle(responses)
    return responses


def yielded(context, events, orders):
    for event, order in zip(events, orders):
        if order["kind"] == "stop":
            raise RuntimeError("the handler stopped")
        response = respond(context, event, order)
        if response is not None:
            yield response


def respond(context, event, order):
    kind, token = order["kind"], order["token"]
    if kind == "forget":
        return None
    if kind == "error":
        response = ValueError("bad " + token)
    elif kind == "refuse":
        response = context.Response(body="refused " + token, status_code=422)
    elif kind == "stream":
        response = context.Response(body=(token[i:i + 3] for i in range(0, len(token), 3)))
    elif kind == "broken":
        response = context.Response(body=broken(token))
    else:
        response = context.Response(body=token, headers={"x-token": token})
    response.event_id = event.id
    return response


def broken(token):
    yield "half of a reply"
    raise ValueError("broken " + token)
"""

# The status and a part of the reply by the kind of a request; `%s` is its token.
EXPECTED = {
    "text": (200, "%s"),
    "stream": (200, "%s"),
    "refuse": (422, "refused %s"),
    "error": (500, "bad %s"),
    "broken": (500, "broken %s"),
    "forget": (500, "event_id"),
}
# Errors of a whole call, or of a part of it, by the kind of the request that causes them.
CAUSES = {"die": "exit code 3", "raise": "the call failed", "stop": "the handler stopped"}


@dataclass(frozen=True)
class Plan:
    """A request: sent after `delay` seconds, by a client that leaves after `patience` seconds."""

    kind: str
    delay: float
    patience: float | None
    size: int


PLANS = st.builds(
    Plan,
    kind=st.sampled_from([*EXPECTED] * 4 + [*CAUSES]),
    delay=st.sampled_from([0.0, 0.0, 0.001, 0.004, 0.02]),
    patience=st.sampled_from([None, None, None, 0.0, 0.003, 0.01]),
    size=st.sampled_from([1, 10, 70_000]),
)
_tokens = count()


async def send(processor: Any, plan: Plan, token: str) -> tuple[int, bytes] | None:
    """Return the status and the body of the reply; None if the client has left before."""
    await asyncio.sleep(plan.delay)
    host, port = processor.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        body = json.dumps({"kind": plan.kind, "token": token}).encode()
        head = f"POST / HTTP/1.0\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        async with asyncio.timeout(60.0 if plan.patience is None else plan.patience):
            reply = await reader.read()
    except TimeoutError:
        assert plan.patience is not None, f"no reply for {token[:20]}: {plan}"
        return None
    finally:
        writer.close()
    head_bytes, _, body = reply.partition(b"\r\n\r\n")
    return int(head_bytes.split(b" ")[1]), body


def check(plan: Plan, plans: list[Plan], token: str, reply: tuple[int, bytes] | None) -> None:
    if reply is None:
        return
    status, body = reply
    text = body.decode()
    assert set(re.findall(r"<\d+x*>", text)) <= {token}
    causes = {plan.kind for plan in plans} & set(CAUSES)
    if status == 500 and any(CAUSES[cause] in text for cause in causes):
        return
    assert plan.kind in EXPECTED, (plan, status, text)
    expected_status, pattern = EXPECTED[plan.kind]
    expected = pattern.replace("%s", token)
    assert status == expected_status
    assert text == expected if expected_status < 500 else expected in text


@pytest.fixture(scope="module", params=["adaptive", "enable"])
def processor(request: pytest.FixtureRequest, serve_module: Any) -> Iterator[Any]:
    batch = {"size": 5, "timeout": 0.01, "adaptive": request.param == "adaptive"}
    return serve_module(HANDLER, workers=3, trigger={"batch": batch})


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(plans=st.lists(PLANS, min_size=1, max_size=25))
def test_every_caller_gets_its_own_reply(processor: Any, plans: list[Plan]) -> None:
    tokens = [f"<{next(_tokens)}{'x' * plan.size}>" for plan in plans]

    async def send_all() -> list[tuple[int, bytes] | None]:
        return await asyncio.gather(*map(send, [processor] * len(plans), plans, tokens))

    replies = asyncio.run(send_all())
    for plan, token, reply in zip(plans, tokens, replies, strict=True):
        check(plan, plans, token, reply)

    def settled() -> bool:
        status = processor.status()
        return status["in_flight"] == 0 and status["triggers"][0]["waiting"] == 0

    eventually(settled)
