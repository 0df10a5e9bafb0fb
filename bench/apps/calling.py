"""Calls of a function by servers that have no functions: `Call` is the event, `call` the handler.

calling.prepare()                    once in each worker process
calling.call(body, content_type)     for each request; the handler's value
"""

import json
from types import SimpleNamespace

import main

_context = SimpleNamespace(user_data=SimpleNamespace())


class Call:
    """An event, whose body is parsed when the handler reads it.

    Servers that parse JSON themselves pass the value instead of bytes.
    """

    def __init__(self, body, content_type="application/json"):
        self.raw_body = body if isinstance(body, bytes) else None
        self._body = body
        self.content_type = content_type

    @property
    def body(self):
        return self._body if self.raw_body is None else json.loads(self.raw_body)


def prepare():
    main.init_context(_context)


def call(body, content_type="application/json"):
    return main.handler(_context, Call(body, content_type))
