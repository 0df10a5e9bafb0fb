"""A followed log misses no record that is written after it was opened."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from fnbuild.dashboard.api.logs import FollowedLog
from fnbuild.errors import NotFoundError
from fnbuild.platforms import LogRecord


def test_open_returns_once_the_position_is_fixed() -> None:
    written = [LogRecord(1.0, "info", "before")]
    go_on, wrote = threading.Event(), threading.Event()

    def read(stop: threading.Event) -> Iterator[LogRecord]:
        assert go_on.wait(60)
        return since(len(written))

    def since(position: int) -> Iterator[LogRecord]:
        assert wrote.wait(60)
        yield from written[position:]

    async def follow() -> list[str]:
        followed = FollowedLog(read)
        opening = asyncio.create_task(followed.open())
        done, _ = await asyncio.wait({opening}, timeout=0.1)
        assert not done
        go_on.set()
        await opening
        written.append(LogRecord(2.0, "info", "after"))
        wrote.set()
        seen = [record.message async for batch in followed.batches(10) for record in batch]
        followed.close()
        return seen

    assert asyncio.run(follow()) == ["after"]


def test_a_log_that_cannot_be_opened_is_an_error_at_once() -> None:
    def read(stop: threading.Event) -> Iterator[LogRecord]:
        raise NotFoundError("there is no such function")

    async def follow() -> None:
        followed = FollowedLog(read)
        try:
            await followed.open()
        finally:
            followed.close()

    with pytest.raises(NotFoundError):
        asyncio.run(follow())
