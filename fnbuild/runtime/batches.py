"""A batch in the worker: several events out of one message, several responses out of one list."""

from typing import Any, List, Tuple

from . import wire
from .responses import ReplyError

# In the place of a response that the handler did not give.
MISSING = object()


# Meta, body, and mark: id and time.
Part = Tuple[wire.Meta, bytes, Tuple[str, int]]


def split(meta: wire.Meta, body: Any) -> List[Part]:
    """The events, as `triggers.batch` joined them."""
    found: List[Part] = []
    start = 0
    parts = zip(meta["batch"], meta["sizes"], meta["marks"])  # noqa: B905 - no strict in 3.6
    for one, size, mark in parts:
        found.append((one, bytes(body[start : start + size]), mark))
        start += size
    return found


def match(identities: List[str], output: Any) -> List[Any]:
    """What the handler returned for each event, `MISSING` where there is nothing.

    By `event_id`, as in Nuclio; when no response has one, by position. ReplyError when it is no
    list, or one of another length whose items do not say what they answer.
    """
    count = len(identities)
    if not isinstance(output, (list, tuple)):
        raise ReplyError(
            "for a batch of %d events the handler returned a %s, not a list of responses"
            % (count, type(output).__name__)
        )
    named = {str(one.event_id): one for one in output if getattr(one, "event_id", None)}
    if named:
        return [named.get(identity, MISSING) for identity in identities]
    if len(output) != count:
        raise ReplyError(
            "for a batch of %d events the handler returned a list of %d without event_id"
            % (count, len(output))
        )
    return list(output)
