"""Clients that send requests continuously without retries: what they lose, a caller would lose.

Half of them keep their connection until the server closes it; the others open one for each
request.
"""

from __future__ import annotations

import http.client
import threading
import time
from collections import Counter
from urllib.parse import urlsplit

_TIMEOUT = 5.0


class SteadyClients:
    """Clients that run during a `with` block.

    `answered` counts replies of status 200 by their text, `lost` failed requests by their error,
    including 5 s without a reply; `gap` is the longest time between two replies, in seconds. New
    connections use `url`, which may change; `pause` is the time between two requests of a client.
    """

    def __init__(self, url: str, number: int = 6, pause: float = 0.01) -> None:
        self.url = url
        self.answered: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        self.gap = 0.0
        self._pause = pause
        self._last = 0.0
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(bool(index % 2),), daemon=True)
            for index in range(number)
        ]

    def __enter__(self) -> SteadyClients:
        self._last = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    @property
    def total(self) -> int:
        """The number of completed requests, successful or not."""
        with self._lock:
            return self.answered.total() + self.lost.total()

    def _run(self, keeps: bool) -> None:
        connection = None
        while not self._over.is_set():
            if connection is None:
                parts = urlsplit(self.url)
                connection = http.client.HTTPConnection(
                    str(parts.hostname), parts.port, timeout=_TIMEOUT
                )
            closes = self._ask(connection)
            if closes or not keeps:
                connection.close()
                connection = None
            self._over.wait(self._pause)
        if connection is not None:
            connection.close()

    def _ask(self, connection: http.client.HTTPConnection) -> bool:
        """Send one request; return True if the connection has ended."""
        try:
            connection.request("POST", "/", b"x")
            reply = connection.getresponse()
            text = reply.read().decode()
        except (OSError, http.client.HTTPException) as problem:
            self._note(self.lost, f"{type(problem).__name__}: {problem}")
            return True
        if reply.status == 200:
            self._note(self.answered, text)
        else:
            self._note(self.lost, f"status {reply.status}: {text[:120]}")
        return reply.will_close

    def _note(self, where: Counter[str], event: str) -> None:
        with self._lock:
            where[event] += 1
            if where is self.answered:
                now = time.monotonic()
                self.gap, self._last = max(self.gap, now - self._last), now
