"""Taking over the processors that a supervisor before this one left running."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict

from fnbuild.platforms.process.layout import Key, launched
from fnbuild.platforms.process.processors import Processor, adopt
from fnbuild.platforms.process.sockets import Listeners
from fnbuild.platforms.process.status import Unreachable, borrow_listeners
from fnbuild.platforms.process.supervised import SupervisedFunction
from fnbuild.store import FunctionRow

_GRACE_SECONDS = 15.0

log = logging.getLogger(__name__)


async def find() -> dict[Key, list[Processor]]:
    """Every processor that still runs, by function."""
    found: dict[Key, list[Processor]] = defaultdict(list)
    for key, revision in list(launched()):
        processor = await adopt(key, revision)
        if processor is not None:
            found[key].append(processor)
    return found


async def take(
    function: SupervisedFunction, row: FunctionRow | None, processors: list[Processor]
) -> None:
    """Give the active revision's processor to the function, and see the others off.

    An older one was on its way out. A newer one, or one of a function that is not on record, is
    what a change left that nobody will finish.
    """
    active = row.revision if row is not None and row.desired == "running" else 0
    for processor in processors:
        if processor.revision == active and not processor.draining:
            await _take_active(function, processor)
        elif processor.revision < active:
            function.adopt_draining(processor)
        else:
            log.info("%s is not on record as active", processor)
            await processor.stop(_GRACE_SECONDS)


async def _take_active(function: SupervisedFunction, processor: Processor) -> None:
    listeners = await asyncio.to_thread(_borrow, processor)
    if listeners is None:
        log.warning("%s does not hand over its sockets and is ended", processor)
        await processor.kill()
        return
    function.adopt(processor, listeners)


def _borrow(processor: Processor) -> Listeners | None:
    with contextlib.suppress(Unreachable):
        sockets = borrow_listeners(processor.control)
        if len(sockets) >= 2:
            return Listeners(sockets[:-1], sockets[-1])
        for one in sockets:
            one.close()
    return None
