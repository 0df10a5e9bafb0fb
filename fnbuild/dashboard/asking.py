"""Asking platforms from the event loop.

Each question has a thread of its own that nobody waits for at the end: a platform that is silent
keeps neither an answer nor the end of the dashboard.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from fnbuild.errors import FnbuildError

T = TypeVar("T")


async def ask(question: Callable[..., T], *arguments: object) -> T:
    """What the question answers. Whoever is cancelled leaves it to itself."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()
    context = contextvars.copy_context()

    def settle(give: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(lambda: None if answer.done() else give())

    def work() -> None:
        try:
            result = context.run(question, *arguments)
        except BaseException as error:  # noqa: BLE001 - it belongs to whoever asked
            settle(partial(answer.set_exception, error))
        else:
            settle(partial(answer.set_result, result))

    threading.Thread(target=work, name="question to a platform", daemon=True).start()
    return await answer


def said(error: FnbuildError) -> str:
    """What a platform answered instead, in one line with what to do about it."""
    return f"{error.message}; {error.hint}" if error.hint else error.message
