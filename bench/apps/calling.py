"""How a server that knows nothing of functions calls one: `Call` is the event, `call` the handler.

calling.prepare()                    once in each worker process
calling.call(body, content_type)     for each request; the handler's value
"""

import json
from types import SimpleNamespace

import main

_context = SimpleNamespace(user_data=SimpleNamespace())


class Call:
    """An event: its body is parsed when the handler looks at it."""

    def __init__(self, raw, content_type="application/json"):
        self._raw = raw
        self.content_type = content_type

    @property
    def body(self):
        """The parsed JSON. Servers that parse by themselves give the value instead of bytes."""
        return json.loads(self._raw) if isinstance(self._raw, bytes) else self._raw


def prepare():
    main.init_context(_context)


def call(body, content_type="application/json"):
    return main.handler(_context, Call(body, content_type))
