"""Thousands of invalid requests: no 500, no hang, and no change.

`FNBUILD_FUZZ` is their number, `FNBUILD_FUZZ_SEED` the seed, 0 for a random one; a failure names
the request.
"""

from __future__ import annotations

import os
import re
import socket
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.dashboard.conftest import Dashboard, end_functions, new_data_dir, running, write_function
from tests.dashboard.hostile import Hostile
from tests.dashboard.waiting import until
from tests.runtime.malformed import FORMS

pytestmark = pytest.mark.system

COUNT = int(os.environ.get("FNBUILD_FUZZ", "10000"))
SEED = int(os.environ.get("FNBUILD_FUZZ_SEED", "20261120")) or time.time_ns() % 1_000_000_000
AT_ONCE = 8
PATIENCE = 90.0
ECHO = "def handler(context, event):\n    return event.body\n"
# Their responses are endless: only the headers are read.
_ENDLESS = re.compile(rb"content-type: (text/event-stream|text/plain)", re.IGNORECASE)
_KEPT = ("functions", "revisions", "projects", "function_events", "tokens")
_ALL = (*_KEPT, "operations", "operation_lines", "audit")


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory, fetched: Path) -> Iterator[Dashboard]:
    """A dashboard for these tests only, with one function."""
    home = tmp_path_factory.mktemp("fuzz")
    place = new_data_dir(home, fetched)
    with running(place, "--show", "process") as running_dashboard:
        running_dashboard.deploy(write_function(home, "known", ECHO))
        # Wrong tokens soon block the right one as well, but not sessions.
        begun = running_dashboard.request(
            "POST", "/api/session", json={"token": running_dashboard.token}
        )
        running_dashboard.session = begun.headers["set-cookie"].partition(";")[0]
        yield running_dashboard
    end_functions(place)


def state(dashboard: Dashboard, tables: tuple[str, ...]) -> dict[str, object]:
    """Return the content of the database, the files of functions and their processes."""
    connection = sqlite3.connect(dashboard.data_dir / "fnbuild.db")
    try:
        content: dict[str, object] = {
            table: sorted(map(repr, connection.execute(f"SELECT * FROM {table}")))
            for table in tables
        }
    finally:
        connection.close()
    functions = dashboard.data_dir / "functions"
    content["files"] = sorted(
        str(path) for path in functions.rglob("*") if "__pycache__" not in str(path)
    )
    content["pids"] = pids(dashboard)
    return content


def pids(dashboard: Dashboard) -> dict[str, int]:
    """Return the processor of each function, once the list has them all."""
    results: dict[str, int] = {}

    def all_listed() -> bool:
        listed = dashboard.request("GET", "/api/functions", token=False).json
        results.update(
            {name: object_["status"]["details"].get("pid", 0) for name, object_ in listed.items()}
        )
        return all(results.values())

    until(all_listed, "all of them have a processor")
    return results


def exchange(dashboard: Dashboard, wire: bytes) -> tuple[int, bytes]:
    """Return the status and the start of the response; 0 if the connection ends without one."""
    host, port = dashboard.url.removeprefix("http://").split(":")
    received = b""
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
        try:
            connection.sendall(wire)
            while part := connection.recv(65536):
                received += part
                if b"\r\n\r\n" in received and _ENDLESS.search(received):
                    break
        except (ConnectionResetError, BrokenPipeError):
            pass  # refused while the body was still on its way
        except TimeoutError:
            pytest.fail(f"no end after {PATIENCE:.0f} s: {wire[:2000]!r}")
    match = re.match(rb"(?:HTTP/1\.1 100 [^\r]*\r\n\r\n)?HTTP/1\.1 (\d{3}) ", received)
    return (int(match.group(1)) if match else 0), received[:2000]


def send(dashboard: Dashboard, wires: list[bytes]) -> Counter[int]:
    """Return the number of responses by status; fail at the first one that is not allowed."""

    def exchange_one(wire: bytes) -> int:
        status, received = exchange(dashboard, wire)
        assert status not in (500, 501), (
            f"{wire[:3000]!r}\n{received!r}\n{dashboard.output[-3000:]}"
        )
        return status

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return Counter(pool.map(exchange_one, wires))


def check_health(dashboard: Dashboard) -> None:
    assert dashboard.process.poll() is None
    assert "Traceback" not in dashboard.output, dashboard.output
    answer = dashboard.request(
        "POST",
        "/api/function_invocations",
        body=b"hello",
        headers={"X-Nuclio-Function-Name": "known"},
    )
    assert (answer.status, answer.body) == (200, b"hello")


def test_requests_without_a_token_change_nothing(target: Dashboard) -> None:
    print(f"seed {SEED}")
    before = state(target, _ALL)
    source = Hostile(SEED, "known")
    statuses = send(target, [source.request().wire for _ in range(COUNT // 2)])
    print(sorted(statuses.items()))
    assert statuses[401] > COUNT // 20
    check_health(target)
    assert state(target, _ALL) == before


def test_invalid_requests_change_nothing(target: Dashboard) -> None:
    print(f"seed {SEED}")
    before = state(target, _KEPT)
    source = Hostile(SEED + 1, "known")
    statuses = send(target, [source.request(target.session).wire for _ in range(COUNT // 2)])
    print(sorted(statuses.items()))
    assert statuses[400] > COUNT // 40
    check_health(target)
    assert state(target, _KEPT) == before


@pytest.mark.parametrize("wire", [form[1] for form in FORMS], ids=[form[0] for form in FORMS])
def test_malformed_requests_end(target: Dashboard, wire: bytes) -> None:
    host, port = target.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
        try:
            connection.sendall(wire)
            connection.shutdown(socket.SHUT_WR)
            received = connection.recv(65536)
        except ConnectionResetError:
            received = b""
    assert not received.startswith(b"HTTP/1.1 5"), received
