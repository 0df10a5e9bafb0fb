"""The results of routing: an answer, or the route of a request to a worker."""

import json
from typing import Any, Callable, NamedTuple


def encode_json(value: Any) -> bytes:
    """Return the JSON of a value."""
    return json.dumps(value).encode("utf-8")


class DirectAnswer(NamedTuple):
    """An answer without a worker: its status, the value of its JSON body, and allowed methods."""

    status: int
    value: Any
    allowed: str = ""
    encode: Callable[[Any], bytes] = encode_json


class InferenceRoute(NamedTuple):
    """The protocol and the method of a request for a worker: predict, explain or infer."""

    protocol: str
    method: str
