"""A dashboard with a hundred functions: its list, relayed requests, a log, its page.

    python -m bench.dashboard

Half of the functions run as processes, half in containers; all do almost nothing. The list is
requested while the dashboard updates it. A function.yaml of 200 lines is checked. A JPEG is sent to
a function directly and through the dashboard in turns. A function writes fifty lines a second while
the page shows its log. `--write` writes the table into docs/performance.md.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import http.client
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .catalog import ROOT
from .fleet import CHATTY, ECHO, FunctionFleet, RunningDashboard, wait_until
from .markdown import insert, table

BEGIN = "<!-- dashboard: begin -->"
END = "<!-- dashboard: end -->"

_DOCUMENT = ROOT / "docs" / "performance.md"
_CHROMIUM = Path("/usr/bin/chromium-headless-shell")
_JPEG = 200 * 1024
_LARGE = 32 << 20
_LARGE_BODIES = 8
_LINES_A_SECOND = 50
_CONFIGURATION = """\
metadata:
  name: cars
  annotations:
    type: detecter
spec:
  runtime: pyton:3.9
  eventTimeout: soon
  replica: 2
  env:
""" + "".join(f"    - {{name: SETTING_{n}, value: 'number {n}'}}\n" for n in range(191))
_LOADS = 5
_FIRST_ROWS = """
new MutationObserver((_, observer) => {
  if (!document.querySelector("table.functions tbody tr")) return;
  observer.disconnect();
  // After the frame that has them.
  requestAnimationFrame(() => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => (window.firstRows = performance.now());
    port2.postMessage(null);
  });
}).observe(document, { childList: true, subtree: true });
"""
_TRANSFERRED = """
[...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
  .filter((entry) => !new URL(entry.name).pathname.startsWith("/api/"))
  .reduce((sum, entry) => sum + entry.transferSize, 0)
"""


@dataclass
class Durations:
    """Milliseconds of repetitions of one operation."""

    values: list[float] = field(default_factory=list)

    @contextlib.contextmanager
    def measure(self) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.values.append((time.perf_counter() - began) * 1000)

    def share(self, part: float) -> float:
        """Return the quantile."""
        ordered = sorted(self.values)
        return ordered[min(len(ordered) - 1, int(len(ordered) * part))]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)


@dataclass
class DashboardResults:
    """All measurements; `log` is (written, shown) lines, `page` (ms, bytes)."""

    functions: int
    listed: Durations
    checked: Durations
    direct: Durations
    relayed: Durations
    peak: float
    log: tuple[int, int]
    page: tuple[float, int] | None


def measure_list(dashboard: RunningDashboard, seconds: float) -> Durations:
    """Measure requests for the list, at the rate of a client that does nothing else."""
    times = Durations()
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        with times.measure():
            dashboard.ask("GET", "/api/functions")
        time.sleep(0.02)
    return times


def measure_checks(dashboard: RunningDashboard, rounds: int) -> Durations:
    """Measure checks of a long function.yaml with several mistakes."""
    text = _CONFIGURATION.encode()
    dashboard.ask("POST", "/api/validations", text)  # the first starts the process of checks
    times = Durations()
    for _ in range(rounds):
        with times.measure():
            dashboard.ask("POST", "/api/validations", text)
    return times


def measure_relay(dashboard: RunningDashboard, rounds: int) -> tuple[Durations, Durations]:
    """Measure the same request directly and through the dashboard, in turns."""
    port = dashboard.functions()[ECHO]["status"]["httpPort"]
    function = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    body = os.urandom(_JPEG)
    direct, relayed = Durations(), Durations()
    for number in range(rounds + 10):
        if number == 10:  # both ways are warm
            direct.values.clear()
            relayed.values.clear()
        with direct.measure():
            function.request("POST", "/", body, {"Content-Type": "image/jpeg"})
            function.getresponse().read()
        with relayed.measure():
            dashboard.invoke(ECHO, body)
    return direct, relayed


def measure_memory(dashboard: RunningDashboard) -> float:
    """Return the dashboard's peak memory while it relays large bodies, two at a time."""
    body = bytes(_LARGE)

    def send(_: int) -> None:
        client = RunningDashboard(dashboard.port, dashboard.pid)
        if client.invoke(ECHO, body) != str(_LARGE).encode():
            raise RuntimeError("a large body did not arrive whole")

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(send, range(_LARGE_BODIES)))
    return dashboard.peak


def measure_log(dashboard: RunningDashboard, seconds: float) -> tuple[int, int]:
    """Return the number of lines written, and of those that a following client received."""
    lines: list[str] = []
    connection = http.client.HTTPConnection("127.0.0.1", dashboard.port, timeout=60)
    connection.request("GET", f"/api/functions/{CHATTY}/logs?follow=true&tail=0")
    stream = connection.getresponse()

    def follow() -> None:
        for line in stream:
            if line.startswith(b"data: "):
                lines.append(str(json.loads(line[6:])["message"]))

    threading.Thread(target=follow, daemon=True).start()
    total = int(seconds * _LINES_A_SECOND)
    _write_lines(dashboard, total)
    with contextlib.suppress(RuntimeError):
        wait_until("the last line", lambda: f"line {total - 1}" in lines)
    numbered = [line for line in lines if line.startswith("line ")]
    return total, len(numbered) if len(set(numbered)) == len(numbered) else -1


def _write_lines(dashboard: RunningDashboard, total: int) -> None:
    """Write numbered lines, ten at a time, at the rate at which they are to be shown."""
    began = time.monotonic()
    for first in range(0, total, 10):
        time.sleep(max(0.0, began + first / _LINES_A_SECOND - time.monotonic()))
        dashboard.chat(first, 10)


def measure_page(
    dashboard: RunningDashboard, seconds: float
) -> tuple[tuple[float, int], tuple[int, int]]:
    """Return the ms until the visible functions are painted, with the bytes transferred (medians,
    nothing cached); and the number of lines written and shown while its log was open.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        options: dict[str, Any] = {"executable_path": _CHROMIUM, "args": ["--no-sandbox"]}
        browser = playwright.chromium.launch(**options)
        loads = [_load_page(browser.new_context().new_page(), dashboard.url) for _ in range(_LOADS)]
        page = browser.new_context().new_page()
        page.goto(f"{dashboard.url}/#/functions/{CHATTY}/logs")
        total = int(seconds * _LINES_A_SECOND)
        talker = RunningDashboard(dashboard.port, dashboard.pid)
        shown = page.locator("ol.records li", has_text="line ")
        talker.chat(total, 1)
        wait_until("the log", shown.count)
        before = shown.count()
        thread = threading.Thread(target=_write_lines, args=(talker, total))
        thread.start()
        thread.join()
        page.wait_for_timeout(2000)
        lines = total, shown.count() - before
        browser.close()
    times, sizes = zip(*loads, strict=True)
    return (statistics.median(times), int(statistics.median(sizes))), lines


def _load_page(page: Any, url: str) -> tuple[float, int]:
    page.add_init_script(_FIRST_ROWS)
    page.wait_for_timeout(1000)  # the start of a new window is not part of the page's time
    page.goto(url)
    first = wait_until("the first functions", lambda: page.evaluate("window.firstRows"))
    page.wait_for_load_state("load")
    size = page.evaluate(_TRANSFERRED)
    page.context.close()
    return float(first), int(size)


def measure(
    fleet: FunctionFleet, rounds: int, seconds: float, say: Callable[[str], None]
) -> DashboardResults:
    """Measure everything, with a separate dashboard for measurements that increase memory."""
    with fleet.dashboard() as dashboard:
        peak = measure_memory(dashboard)
        say(f"most memory with large bodies: {peak:.0f} MiB")
    with fleet.dashboard() as dashboard:
        count = len(dashboard.functions())
        listed = measure_list(dashboard, seconds)
        say(f"list of {count}: p95 {listed.share(0.95):.1f} ms")
        checked = measure_checks(dashboard, rounds)
        say(f"checks: p95 {checked.share(0.95):.1f} ms")
        direct, relayed = measure_relay(dashboard, rounds)
        say(f"relayed beyond direct: {relayed.share(0.5) - direct.share(0.5):.2f} ms")
        log, page = measure_log(dashboard, seconds), None
        say(f"lines: {log[1]} of {log[0]} to a client")
        if _CHROMIUM.exists():
            page, log = measure_page(dashboard, seconds)
            say(f"page: {page[0]:.0f} ms, {page[1]} bytes; lines: {log[1]} of {log[0]}")
    return DashboardResults(count, listed, checked, direct, relayed, peak, log, page)


def render(figures: DashboardResults, command: str) -> str:
    """Return the table as Markdown."""
    now = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC"
    direct, relayed = figures.direct, figures.relayed
    rows = [
        [
            f"`GET /api/functions` with {figures.functions} functions, p95 (median)",
            f"{figures.listed.share(0.95):.1f} ms ({figures.listed.share(0.5):.1f} ms)",
            "30 ms",
        ],
        [
            "a check of a function.yaml of 200 lines with mistakes, p95 (median)",
            f"{figures.checked.share(0.95):.1f} ms ({figures.checked.share(0.5):.1f} ms)",
            "30 ms",
        ],
        [
            "a 200 KB body through the dashboard beyond directly, median (mean)",
            f"{relayed.share(0.5) - direct.share(0.5):+.2f} ms"
            f" ({relayed.mean - direct.mean:+.2f} ms)",
            "2 ms",
        ],
        [
            f"the dashboard's peak memory after {_LARGE_BODIES} bodies of 32 MiB, two at a time",
            f"{figures.peak:.0f} MiB",
            "80 MiB",
        ],
        [
            f"lines of a log shown, at {_LINES_A_SECOND} a second",
            f"{figures.log[1]} of {figures.log[0]}",
            "all",
        ],
    ]
    if figures.page is not None:
        rows += [
            [
                "the page until the functions in sight are painted, nothing cached",
                f"{figures.page[0]:.0f} ms",
                "300 ms",
            ],
            ["what it transfers", f"{figures.page[1] / 1000:.0f} KB", "200 KB"],
        ]
    return (
        f"Measured on {now} on {len(os.sched_getaffinity(0))} cores, load average"
        f" {os.getloadavg()[2]:.1f}, by\n\n```console\n$ {command}\n```\n\n"
        + table(["", "measured", "goal"], rows)
    )


def main(arguments: list[str]) -> int:
    """Measure and print the table; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.dashboard", description=__doc__)
    parser.add_argument("--rounds", type=int, default=1000, help="requests each way")
    parser.add_argument("--seconds", type=float, default=20.0, help="of lists, and of lines")
    parser.add_argument("--functions", type=int, default=50, help="on each of the platforms")
    parser.add_argument("--write", action="store_true", help="put the table into the document")
    options = parser.parse_args(arguments)

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-dashboard-"))
        fleet = FunctionFleet(Path(folder), options.functions, say)
        figures = measure(stack.enter_context(fleet.opened()), options.rounds, options.seconds, say)
    options_used = [argument for argument in arguments if argument != "--write"]
    text = render(figures, " ".join(["python -m bench.dashboard", *options_used]))
    print(text)
    if options.write:
        insert(text, _DOCUMENT, BEGIN, END)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
