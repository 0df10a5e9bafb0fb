"""Replies are sampled rarely, and copies are bounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import pytest

from fnbuild.dashboard import reply_watch
from fnbuild.dashboard.cpu_pool import CpuPool
from fnbuild.dashboard.inventory import Inventory
from fnbuild.dashboard.reply_watch import ReplySample, ReplyWatch, WatchedFunction


def watch() -> ReplyWatch:
    return ReplyWatch(cast(Inventory, None), cast(CpuPool, None))


def test_a_function_is_sampled_once_in_an_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    watching = watch()
    assert watching.new_sample("nuclio", "cars") is not None
    assert watching.new_sample("nuclio", "cars") is None
    assert watching.new_sample("nuclio", "dogs") is not None
    monkeypatch.setattr(reply_watch, "INTERVAL_SECONDS", -1.0)
    assert watching.new_sample("nuclio", "birds") is not None
    assert watching.new_sample("nuclio", "birds") is not None


def test_the_number_of_functions_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reply_watch, "_MAX_FUNCTIONS", 2)
    watching = watch()
    for name in ("a", "b", "c"):
        assert watching.new_sample("nuclio", name) is not None
    assert watching.new_sample("nuclio", "c") is None
    assert watching.new_sample("nuclio", "a") is not None


def test_large_bodies_pass_and_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reply_watch, "MAX_REQUEST", 10)
    sample = ReplySample("nuclio", "cars")

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"12345"

    async def collect() -> bytes:
        return b"".join([chunk async for chunk in sample.copy_request(chunks())])

    assert asyncio.run(collect()) == b"12345" * 3
    sample.add_reply(b"[]")
    assert (sample.is_complete, sample.request, sample.reply) == (False, b"", b"")


def test_findings_of_a_rule_are_counted_by_reply() -> None:
    watched = WatchedFunction()
    for number in range(3):
        faulty = [{"rule": "mask-size", "path": f"[{number}].mask"}] * 2
        watched.add(faulty if number else [])
    assert (watched.checked, watched.faulty) == (3, 2)
    (finding,) = watched.findings.values()
    assert (finding["replies"], finding["path"]) == (2, "[2].mask")
