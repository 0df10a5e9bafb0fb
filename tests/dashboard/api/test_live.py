"""The list of functions as a stream, while functions are deployed, fail and are deleted."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import socket
import threading
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import pytest
import urllib3

from fnbuild.dashboard.api import live
from fnbuild.dashboard.inventory import Inventory, Snapshot
from fnbuild.dashboard.operations.runner import OperationRunner
from fnbuild.dashboard.settings import Settings
from fnbuild.store import Store
from tests.dashboard.conftest import Dashboard, Started, write_function
from tests.dashboard.waiting import until

pytestmark = pytest.mark.system

Json = Any


class Watcher:
    """Follow `/api/live`, and keep each list with the time of its arrival."""

    def __init__(self, dashboard: Dashboard):
        self._pool = urllib3.PoolManager(retries=False)
        self._answer = self._pool.request(
            "GET", dashboard.url + "/api/live", preload_content=False, timeout=300
        )
        self.type = self._answer.headers["Content-Type"]
        self.lists: list[tuple[float, Json]] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        buffer = b""
        try:
            for piece in self._answer.stream(65536):
                *events, buffer = (buffer + piece).split(b"\n\n")
                for event in events:
                    if event.startswith(b"event: functions\ndata: "):
                        value = json.loads(event.partition(b"data: ")[2])
                        self.lists.append((time.monotonic(), value["functions"]))
        except (urllib3.exceptions.HTTPError, OSError):
            return  # the dashboard has ended, or the stream was closed

    def status(self, name: str) -> Json:
        """Return the function's status in the newest list."""
        return self.lists[-1][1].get(name, {}).get("status") if self.lists else None

    def close(self) -> None:
        with suppress(RuntimeError):  # the stream has already ended
            self._answer.shutdown()
        self._thread.join()
        self._answer.close()


@contextmanager
def watching(dashboard: Dashboard) -> Iterator[Watcher]:
    watcher = Watcher(dashboard)
    try:
        until(lambda: watcher.lists, "the first list")
        yield watcher
    finally:
        watcher.close()


def test_the_list_is_sent_at_once_and_at_every_change(
    dashboard: Dashboard, greeter: str, tmp_path: Path
) -> None:
    with watching(dashboard) as watcher:
        assert watcher.type.startswith("text/event-stream")
        assert watcher.status(greeter)["state"] == "ready"
        dashboard.deploy(write_function(tmp_path, "newcomer"))
        until(lambda: (watcher.status("newcomer") or {}).get("state") == "ready", "it came")
        dashboard.cli("delete", "function", "newcomer")
        until(lambda: watcher.status("newcomer") is None, "it went")


class ChangingInventory:
    """An inventory whose list differs at each request."""

    def __init__(self) -> None:
        self.requests = itertools.count()

    async def watch(self, namespace: str) -> AsyncGenerator[None, None]:
        while True:
            yield

    async def snapshot(self, namespace: str) -> Snapshot:
        return Snapshot(encoded={("live", False): b"list %d" % next(self.requests)})


def test_lists_are_sent_at_a_limited_rate() -> None:
    async def scenario() -> float:
        began = time.monotonic()
        lists = 0
        async for event in live._events(
            cast(Inventory, ChangingInventory()), "nuclio", show_values=False
        ):
            lists += event.startswith(b"list ")
            if lists == 6:
                break
        return time.monotonic() - began

    assert asyncio.run(scenario()) > 2.4


def test_nothing_is_sent_without_a_change(dashboard: Dashboard, greeter: str) -> None:
    with watching(dashboard) as watcher:

        def quiet() -> bool:
            """Return True if no list arrived for a while; earlier changes may still be pending."""
            count = len(watcher.lists)
            deadline = time.monotonic() + 2.5
            while time.monotonic() < deadline:
                assert dashboard.request("GET", f"/api/functions/{greeter}").status == 200
            return len(watcher.lists) == count

        assert any(quiet() for _ in range(5))


def test_a_killed_processor_is_reported_within_five_seconds(
    dashboard: Dashboard, tmp_path: Path
) -> None:
    dashboard.deploy(write_function(tmp_path, "victim"))
    took = []
    try:
        with watching(dashboard) as watcher:
            for _ in range(3):  # a busy machine may be late, but not every time
                until(lambda: watcher.status("victim")["state"] == "ready", "it is ready")
                before = watcher.status("victim")["details"]["pid"]
                killed = time.monotonic()
                os.kill(before, signal.SIGKILL)
                until(lambda pid=before: _pid(watcher, "victim") != pid, "the list tells")
                took.append(time.monotonic() - killed)
                if took[-1] < 5:
                    break
            assert min(took) < 5
            until(lambda: watcher.status("victim")["state"] == "ready", "it is ready again")
    finally:
        dashboard.cli("delete", "function", "victim")


def _pid(watcher: Watcher, name: str) -> int | None:
    """Return the processor's id in the newest list, None without one."""
    pid: int | None = watcher.status(name).get("details", {}).get("pid")
    return pid


def test_streams_end_with_the_dashboard(started: Started) -> None:
    with started() as dashboard, watching(dashboard):
        began = time.monotonic()
        assert dashboard.stop() == 0
        assert time.monotonic() - began < 20  # of the 30 seconds that requests have to end


def test_the_number_of_streams_is_limited(started: Started) -> None:
    with started() as dashboard, ExitStack() as stack:
        pool = urllib3.PoolManager(retries=False, maxsize=100)

        def opened() -> urllib3.BaseHTTPResponse:
            url = dashboard.url + "/api/live"
            answer = pool.request("GET", url, preload_content=False, timeout=300)
            stack.callback(answer.close)
            return answer

        answers = [opened() for _ in range(100)]
        assert {reply.status for reply in answers} == {200}
        refused = dashboard.request("GET", "/api/live", token=False)
        assert refused.status == 503
        assert "100 pages" in refused.json["error"]
        assert int(refused.headers["Retry-After"]) > 0
        answers[0].close()
        until(lambda: opened().status == 200, "one that ended makes room")


def test_an_empty_namespace_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FNBUILD_DATA_DIR", str(tmp_path))
    monkeypatch.setattr("fnbuild.dashboard.inventory._IDLE_SECONDS", 0.1)

    async def scenario() -> None:
        inventory = Inventory(
            Settings(platforms=("process",)), OperationRunner(Store(tmp_path / "fnbuild.db"))
        )
        await inventory.start()
        for number in range(3):
            watching = inventory.watch(f"nowhere-{number}")
            await anext(watching)
            assert f"nowhere-{number}" in inventory.namespaces
            await watching.aclose()
        async with asyncio.timeout(120):
            while len(inventory.namespaces) > 1:
                await asyncio.sleep(0.05)
        await inventory.stop()

    asyncio.run(scenario())


@pytest.fixture
def silent_socket(tmp_path: Path) -> Iterator[Path]:
    """A socket that accepts connections and never answers."""
    path = tmp_path / "mute.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(100)
        yield path


def test_a_silent_platform_delays_no_client(started: Started, silent_socket: Path) -> None:
    env = {"DOCKER_HOST": f"unix://{silent_socket}"}
    with started("--show", "local", env=env) as dashboard:
        assert dashboard.request("GET", "/api/functions").json == {}
        took = []
        for _ in range(5):
            began = time.monotonic()
            assert dashboard.request("GET", "/api/functions").json == {}
            took.append(time.monotonic() - began)
        assert min(took) < 1
        missing = dashboard.request("GET", "/api/functions/nobody", timeout=30)
        assert missing.status == 404
