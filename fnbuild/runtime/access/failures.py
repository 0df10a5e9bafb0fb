"""Requests with wrong credentials, by the address of the client."""

import time
from collections import OrderedDict, deque
from typing import Deque

MAX_FAILURES = 10
WINDOW = 60.0
_MAX_CLIENTS = 4096


class FailureLimit:
    """The failures of each client within a minute; the oldest clients are forgotten."""

    def __init__(self) -> None:
        self._failures: "OrderedDict[str, Deque[float]]" = OrderedDict()

    def add(self, client: str) -> None:
        """Count a failure."""
        moments = self._failures.setdefault(client, deque(maxlen=MAX_FAILURES))
        moments.append(time.monotonic())
        self._failures.move_to_end(client)
        while len(self._failures) > _MAX_CLIENTS:
            self._failures.popitem(last=False)

    def seconds_to_wait(self, client: str) -> int:
        """Return the seconds until the client may try again, 0 if it may now."""
        moments = self._failures.get(client)
        if moments is None or len(moments) < MAX_FAILURES:
            return 0
        return max(0, int(moments[0] + WINDOW - time.monotonic() + 1))
