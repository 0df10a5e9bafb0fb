"""Counting what happens to functions in the engine, as its stream of events tells it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from fnbuild.errors import FnbuildError
from fnbuild.platforms.docker import labels as own
from fnbuild.platforms.docker.engine import Engine
from fnbuild.spec.types import Raw

_RETRY_SECONDS = 1.0
_RECORDS = "fnbuild-"


class Noticing:
    """Listens from the first question on, in a thread that ends with the program."""

    def __init__(self, engine: Callable[[], Engine]):
        self._engine = engine
        self._count = 0
        self._ears: threading.Thread | None = None
        self._began = -_RETRY_SECONDS

    def count(self) -> int:
        """How often something happened until now, as far as it is known. Asks nobody."""
        deaf = self._ears is None or not self._ears.is_alive()
        if deaf and time.monotonic() - self._began >= _RETRY_SECONDS:
            self._began = time.monotonic()
            self._ears = threading.Thread(target=self._listen, name="engine events", daemon=True)
            self._ears.start()
        return self._count

    def _listen(self) -> None:
        try:
            events = self._engine().events()
            # What happened while nobody listened is known to nobody.
            self._count += 1
            for event in events:
                self._count += _concerns(event)
        except FnbuildError:
            pass  # the next question tries again


def _concerns(event: Raw) -> bool:
    """Whether it may have changed a function. Commands that run in its container do not."""
    actor, action = event.get("Actor") or {}, str(event.get("Action", ""))
    attributes = actor.get("Attributes") or {}
    if event.get("Type") == "volume":
        made = action in ("create", "destroy")
        return made and str(actor.get("ID", "")).startswith(_RECORDS)
    return own.PLATFORM in attributes and not action.startswith(("exec_", "attach", "top"))
