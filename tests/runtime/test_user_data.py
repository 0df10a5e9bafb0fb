"""The reply and the log explain an attribute of context.user_data that init_context never set."""

from __future__ import annotations

from typing import Any

import pytest

from tests.runtime import interpreters

pytestmark = pytest.mark.system

CODE = """
class Model:
    pass


def init_context(context):
    context.user_data.net = Model()


def handler(context, event):
    if event.path == "/other":
        return context.user_data.net.model
    return context.user_data.model.infer(event.body)
"""
REMEDY = (
    "context.user_data.model was never set: init_context has to set it"
    " (context.user_data.model = ...); it sets net"
)


@pytest.mark.parametrize("version", interpreters.few())
def test_the_attribute_and_the_remedy_are_named(serve: Any, version: str) -> None:
    processor = serve(CODE, version=version)
    reply = processor.send()
    assert reply.status == 500
    first, last = reply.body.decode().splitlines()
    assert first.endswith("(main.py:13, in handler)")
    assert last == REMEDY
    assert processor.await_record("Traceback")["message"].endswith(REMEDY)


def test_another_objects_missing_attribute_has_no_remedy(serve: Any) -> None:
    reply = serve(CODE).send(path="/other")
    assert reply.status == 500
    assert b"user_data" not in reply.body
